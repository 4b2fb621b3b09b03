import { AsyncLocalStorage } from 'node:async_hooks';

/** Something of a pool's that code finds by where it runs. `value` undefined = outside, whatever is around. */
interface Scope {
  readonly pool: object;
  readonly value: object | undefined;
  readonly outer: Scope | undefined;
}

const storage = new AsyncLocalStorage<Scope>();

/** Runs `work` where `value` is found for `pool`, across everything asynchronous that begins in it. */
export function within<T>(pool: object, value: object | undefined, work: () => T): T {
  return storage.run({ pool, value, outer: storage.getStore() }, work);
}

/** What is found for `pool` here. Costs next to nothing while nobody has used {@link within}. */
export function ambient(pool: object): object | undefined {
  for (let scope = storage.getStore(); scope; scope = scope.outer) if (scope.pool === pool) return scope.value;
  return undefined;
}

/** What is found innermost here, whatever pool it belongs to. */
export function innermost(): object | undefined {
  const seen = new Set<object>();
  for (let scope = storage.getStore(); scope; scope = scope.outer) {
    if (scope.value && !seen.has(scope.pool)) return scope.value;
    seen.add(scope.pool);
  }
  return undefined;
}
