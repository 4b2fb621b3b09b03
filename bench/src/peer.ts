/**
 * A peer of bench/node_modules, which need not be there: neither its code nor its types. `T` says as much of it as is
 * used.
 */
export async function peer<T>(name: string): Promise<T> {
  return (await import(name)) as T;
}
