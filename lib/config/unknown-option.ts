import { configError } from './config-error.js';

/** Damerau-Levenshtein (adjacent swaps count once), case aside: the distance of a slip of the fingers. */
export function editDistance(left: string, right: string): number {
  const a = left.toLowerCase();
  const b = right.toLowerCase();
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, substitution);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, (beforeLast[j - 2] ?? 0) + 1);
      }
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? 0;
}

/** The candidate that `name` was most probably meant to be, if any is near enough. */
export function nearest<T extends string>(name: string, candidates: readonly T[]): T | undefined {
  const limit = Math.max(1, Math.floor(name.length / 3));
  let found: T | undefined;
  let foundDistance = limit + 1;
  for (const candidate of candidates) {
    const distance = editDistance(name, candidate);
    if (distance < foundDistance) {
      found = candidate;
      foundDistance = distance;
    }
  }
  return found;
}

/** What a value is, in a word, without showing it. */
export function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object') {
    const tag = Object.prototype.toString.call(value).slice(8, -1);
    return tag === 'Object' ? 'an object' : `a ${tag}`;
  }
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  return value === undefined ? 'undefined' : `a ${typeof value}`;
}

/** Objects of a class pass, for options may come from a typed configuration class; arrays, promises, maps do not. */
export function isOptionObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.prototype.toString.call(value) === '[object Object]';
}

/**
 * Refuses what is not an options object, and any key that is not known.
 *
 * @param where how the message calls the object, e.g. `options of PgModule.forRoot` or `ssl`
 * @param hints for keys that belong elsewhere or are spelled otherwise: what to write instead
 * @throws PgModuleError `PG_CONFIG_INVALID` naming the key and the nearest known one
 */
export function assertKnownKeys(
  value: unknown,
  known: readonly string[],
  where: string,
  hints: Readonly<Record<string, string>> = {},
): void {
  if (!isOptionObject(value)) {
    throw configError(`The ${where} must be an object with named values, not ${kindOf(value)}.`);
  }
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue;
    throw configError(`Unknown key "${key}" in the ${where}${advice(key, known, hints)}`);
  }
}

function advice(key: string, known: readonly string[], hints: Readonly<Record<string, string>>): string {
  if (Object.hasOwn(hints, key)) return `: ${hints[key]}`;
  const near = nearest(key, [...known, ...Object.keys(hints)]);
  if (near === undefined) return `. Known are: ${known.join(', ')}.`;
  if (known.includes(near)) return `: did you mean "${near}"?`;
  return `: did you mean "${near}"? If so: ${hints[near]}`;
}
