import type pg from 'pg';
import type { Bench } from '../../harness/bench.js';

/** What a pool is made with; whatever is not named is left at the subject's own default. */
export interface PoolShape {
  readonly max?: number;
  /** How long a borrower waits. */
  readonly waitMillis?: number;
  /** How much longer it takes to open a connection than the server needs for it. */
  readonly connectDelayMillis?: number;
  readonly applicationName?: string;
}

/** Opens nothing by itself. */
export type OpenPool = (connectionString: string, shape?: PoolShape) => pg.Pool;

/** Takes so many connections at once and gives all of them back: from then on they are idle. */
export async function warm(pool: pg.Pool, connections: number): Promise<void> {
  const clients = await Promise.all(Array.from({ length: connections }, () => pool.connect()));
  for (const client of clients) client.release();
  if (pool.idleCount !== connections) {
    throw new Error(`${connections} connections should be idle, and ${pool.idleCount} are`);
  }
}

/** A pool for the time of a cell. */
export async function withPool<T>(
  open: OpenPool,
  bench: Bench,
  shape: PoolShape,
  work: (pool: pg.Pool) => Promise<T>,
): Promise<T> {
  const pool = open(bench.connectionString, shape);
  try {
    return await work(pool);
  } finally {
    await pool.end();
  }
}
