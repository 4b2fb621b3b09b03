import { setTimeout as delay } from 'node:timers/promises';
import type { Bench } from '../../harness/bench.js';
import { quantile } from '../../harness/statistics.js';
import type { Values, Workload } from '../../harness/suite.js';
import { warm, withPool, type OpenPool } from './subject.js';

const BORROWERS = 50;
const IDLE = 5;
const CONNECT_MILLIS = 150;
const STATEMENT_SECONDS = 0.002;

let runs = 0;

async function measure(open: OpenPool, bench: Bench): Promise<Values> {
  const applicationName = `burst-${process.pid}-${++runs}`;
  const shape = { max: BORROWERS, connectDelayMillis: CONNECT_MILLIS, applicationName };
  return withPool(open, bench, shape, async (pool) => {
    await warm(pool, IDLE);
    const waits: number[] = [];
    const totals: number[] = [];
    await Promise.all(
      Array.from({ length: BORROWERS }, async () => {
        const began = performance.now();
        const client = await pool.connect();
        waits.push(performance.now() - began);
        await client.query('SELECT pg_sleep($1)', [STATEMENT_SECONDS]);
        client.release();
        totals.push(performance.now() - began);
      }),
    );
    // What is still being opened counts too.
    await delay(3 * CONNECT_MILLIS);
    const { rows } = await pool.query<{ connections: number }>(
      'SELECT count(*)::int AS connections FROM pg_stat_activity WHERE application_name = $1',
      [applicationName],
    );
    return {
      connections: rows[0]?.connections,
      'wait p50': quantile(waits, 0.5),
      'wait max': quantile(waits, 1),
      'done p50': quantile(totals, 0.5),
      'done max': quantile(totals, 1),
    };
  });
}

export const burst: Workload<OpenPool> = {
  name: 'burst',
  about:
    `${BORROWERS} borrowers come at once to a pool with ${IDLE} idle connections and room for ${BORROWERS}; to open one takes ` +
    `${CONNECT_MILLIS} ms (an onConnect that waits), and each runs one statement of 2 ms. How long they waited for a connection ` +
    'and until their result was there, and how many connections the server has in the end.',
  metrics: {
    connections: { unit: 'count', better: 'less' },
    'wait p50': { unit: 'ms', better: 'less' },
    'wait max': { unit: 'ms', better: 'less' },
    'done p50': { unit: 'ms', better: 'less' },
    'done max': { unit: 'ms', better: 'less' },
  },
  cells: [{ name: '50 borrowers', measure }],
  rounds: { quick: 2, record: 5 },
};
