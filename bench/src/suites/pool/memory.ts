import type pg from 'pg';
import type { Bench } from '../../harness/bench.js';
import { heapBytes } from '../../harness/heap.js';
import type { Values, Workload } from '../../harness/suite.js';
import { warm, withPool, type OpenPool } from './subject.js';

const POOLS = 1_000;
const CONNECTIONS = 50;
const WAITERS = 50_000;

async function perPool(open: OpenPool, bench: Bench): Promise<Values> {
  const make = (count: number): pg.Pool[] => Array.from({ length: count }, () => open(bench.connectionString));
  const first = make(bench.count(10));
  const before = await heapBytes();
  const pools = make(bench.count(POOLS));
  const heap = ((await heapBytes()) - before) / pools.length;
  await Promise.all([...first, ...pools].map((pool) => pool.end()));
  return { heap };
}

async function perConnection(open: OpenPool, bench: Bench): Promise<Values> {
  return withPool(open, bench, { max: CONNECTIONS }, async (pool) => {
    // The first ones bring code and tables with them.
    const first = bench.count(CONNECTIONS) / 2;
    await warm(pool, first);
    const before = await heapBytes();
    await warm(pool, 2 * first);
    return { heap: ((await heapBytes()) - before) / first };
  });
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}

async function perWaiter(open: OpenPool, bench: Bench): Promise<Values> {
  return withPool(open, bench, { max: 1 }, async (pool) => {
    await warm(pool, 1);
    const holder = await pool.connect();
    const count = bench.count(WAITERS);
    const all = deferred();
    let left = count;
    const lent = (client: pg.PoolClient): void => {
      client.release();
      if (--left === 0) all.resolve();
    };
    const before = await heapBytes();
    for (let queued = 0; queued < count; queued++) void pool.connect().then(lent);
    const heap = ((await heapBytes()) - before) / count;
    holder.release();
    await all.promise;
    return { heap };
  });
}

export const memory: Workload<OpenPool> = {
  name: 'memory',
  about:
    'What one of many takes on the heap after a garbage collection: a pool that was never used, an idle connection, and ' +
    'a waiting borrower with the promise that was given to it.',
  metrics: { heap: { unit: 'bytes', better: 'less' } },
  cells: [
    { name: 'unused pool', measure: perPool },
    { name: 'idle connection', measure: perConnection },
    { name: 'waiter', measure: perWaiter },
  ],
  rounds: { quick: 1, record: 3 },
};
