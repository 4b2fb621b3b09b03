/** What pg's Result keeps of the client that made it; a stack tells where, and not what. */
const NOT_COMPARED: ReadonlySet<PropertyKey> = new Set(['_types', 'stack']);

/**
 * Where two values are not the same, as a path and what stands there; `undefined` = nowhere. Stricter than `toEqual`: the
 * prototypes, the order of the keys, own `__proto__`, holes of arrays, and 0 beside -0 count.
 */
export function difference(ours: unknown, stock: unknown, path = ''): string | undefined {
  if (Object.is(ours, stock)) return undefined;
  const isObject = typeof ours === 'object' && typeof stock === 'object' && ours !== null && stock !== null;
  if (!isObject) return `${path}: ${show(ours)} instead of ${show(stock)}`;
  if (Object.getPrototypeOf(ours) !== Object.getPrototypeOf(stock)) return `${path}: another prototype`;
  if (ours instanceof Date) return difference(ours.getTime(), (stock as Date).getTime(), `${path}.getTime()`);
  if (Buffer.isBuffer(ours)) {
    return ours.equals(stock as Buffer) ? undefined : `${path}: ${show(ours)} instead of ${show(stock)}`;
  }
  const [keys, expected] = [ownKeys(ours), ownKeys(stock)];
  if (keys.length !== expected.length || keys.some((key, at) => key !== expected[at])) {
    return `${path}: the keys ${show(keys)} instead of ${show(expected)}`;
  }
  for (const key of keys) {
    const [mine, theirs] = [Object.getOwnPropertyDescriptor(ours, key), Object.getOwnPropertyDescriptor(stock, key)];
    const found =
      difference(mine?.value, theirs?.value, `${path}.${String(key)}`) ??
      (['writable', 'enumerable', 'configurable'] as const)
        .filter((trait) => mine?.[trait] !== theirs?.[trait])
        .map((trait) => `${path}.${String(key)}: not as ${trait}`)[0];
    if (found !== undefined) return found;
  }
  return undefined;
}

function ownKeys(value: object): PropertyKey[] {
  return Reflect.ownKeys(value).filter((key) => !NOT_COMPARED.has(key));
}

function show(value: unknown): string {
  if (typeof value === 'function') return `function ${value.name}`;
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : `${value}`;
  const text = typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value);
  return text.length > 200 ? `${text.slice(0, 200)}... (${text.length} characters)` : text;
}
