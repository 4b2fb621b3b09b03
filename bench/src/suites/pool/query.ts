import type { Bench } from '../../harness/bench.js';
import type { Cell, Values, Workload } from '../../harness/suite.js';
import { warm, withPool, type OpenPool } from './subject.js';

const CONNECTIONS = 10;

function cell(concurrency: number): Cell<OpenPool> {
  const measure = async (open: OpenPool, bench: Bench): Promise<Values> =>
    withPool(open, bench, { max: CONNECTIONS }, async (pool) => {
      await warm(pool, CONNECTIONS);
      let sent = 0;
      const load = await bench.callers(concurrency, async () => {
        const value = ++sent;
        const { rows } = await pool.query<{ value: number }>('SELECT $1::int AS value', [value]);
        if (rows[0]?.value !== value) throw new Error(`sent ${value}, and got ${String(rows[0]?.value)}`);
      });
      return {
        rate: load.perSecond,
        p50: load.p50Millis,
        p99: load.p99Millis,
        'client CPU': load.clientCpuMicros,
        'server CPU': load.serverCpuMicros,
      };
    });
  return { name: `c=${concurrency}`, measure };
}

export const query: Workload<OpenPool> = {
  name: 'query',
  about: `\`SELECT $1::int\` through pool.query, by c callers on ${CONNECTIONS} connections. For orientation: mostly it measures pg and the server.`,
  metrics: {
    rate: { unit: 'per second', better: 'more' },
    p50: { unit: 'ms', better: 'less' },
    p99: { unit: 'ms', better: 'less' },
    'client CPU': { unit: 'µs', better: 'less' },
    'server CPU': { unit: 'µs', better: 'less' },
  },
  cells: [1, 10, 100].map(cell),
};
