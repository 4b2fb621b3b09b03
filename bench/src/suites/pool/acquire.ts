import type pg from 'pg';
import type { Bench } from '../../harness/bench.js';
import type { Cell, Values, Workload } from '../../harness/suite.js';
import { warm, withPool, type OpenPool } from './subject.js';

const CONNECTIONS = 10;
const OPERATIONS_PER_BATCH = 2_000;

type Cycles = (pool: pg.Pool, times: number) => Promise<void>;

async function byPromise(pool: pg.Pool, times: number): Promise<void> {
  for (let left = times; left > 0; left--) {
    const client = await pool.connect();
    client.release();
  }
}

function byCallback(pool: pg.Pool, times: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let left = times;
    const next = (): void => {
      pool.connect((error, _client, release) => {
        if (error) {
          reject(error);
          return;
        }
        release();
        if (--left > 0) next();
        else resolve();
      });
    };
    next();
  });
}

function cell(form: string, cycles: Cycles, concurrency: number): Cell<OpenPool> {
  const measure = async (open: OpenPool, bench: Bench): Promise<Values> =>
    withPool(open, bench, { max: CONNECTIONS }, async (pool) => {
      await warm(pool, CONNECTIONS);
      const load = await bench.repeat(async (operations) => {
        const each = Math.ceil(operations / concurrency);
        await Promise.all(Array.from({ length: concurrency }, () => cycles(pool, each)));
      }, OPERATIONS_PER_BATCH);
      if (pool.totalCount !== CONNECTIONS) throw new Error(`the pool has ${pool.totalCount} connections`);
      return { rate: load.perSecond, 'client CPU': load.clientCpuMicros };
    });
  return { name: `${form}, c=${concurrency}`, measure };
}

/** An idle connection is there for every caller. */
export const IDLE_CELLS = [
  cell('promise', byPromise, 1),
  cell('promise', byPromise, 10),
  cell('callback', byCallback, 1),
];

export const acquire: Workload<OpenPool> = {
  name: 'acquire',
  about:
    `Takes a connection of a pool that has ${CONNECTIONS} idle ones, and gives it back at once; c callers at the same time ` +
    '(with c=100, 90 of them wait). Defaults, so all guards of nestjs-pg are on.',
  metrics: { rate: { unit: 'per second', better: 'more' }, 'client CPU': { unit: 'µs', better: 'less' } },
  cells: [...IDLE_CELLS, cell('promise', byPromise, 100)],
};
