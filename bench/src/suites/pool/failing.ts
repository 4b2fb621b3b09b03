import type { Bench } from '../../harness/bench.js';
import type { Values, Workload } from '../../harness/suite.js';
import { warm, withPool, type OpenPool } from './subject.js';

const FAILURES = 10;
/** division_by_zero */
const EXPECTED = '22012';

async function measure(open: OpenPool, bench: Bench): Promise<Values> {
  return withPool(open, bench, {}, async (pool) => {
    await warm(pool, 1);
    let reconnects = 0;
    pool.on('connect', () => reconnects++);
    const began = performance.now();
    for (let times = 0; times < FAILURES; times++) {
      const code = await pool.query('SELECT 1 / $1::int', [0]).then(
        () => 'none',
        (error: unknown) => (error as { code?: string }).code,
      );
      if (code !== EXPECTED)
        throw new Error(`the statement should fail with ${EXPECTED}; its error was ${String(code)}`);
    }
    await pool.query('SELECT 1');
    return { reconnects, 'time per statement': (performance.now() - began) / (FAILURES + 1) };
  });
}

export const failing: Workload<OpenPool> = {
  name: 'failing',
  about: `${FAILURES} statements that fail (a division by zero) one after the other through pool.query, and one that does not.`,
  metrics: {
    reconnects: { unit: 'count', better: 'less' },
    'time per statement': { unit: 'ms', better: 'less' },
  },
  cells: [{ name: `${FAILURES} errors`, measure }],
  rounds: { quick: 1, record: 3 },
};
