import type { Bench } from '../../harness/bench.js';
import { randomFrom } from '../../harness/schedule.js';
import type { Cell, Metric, Values, Workload } from '../../harness/suite.js';
import { ACCOUNTS } from '../query/database.js';
import { withDelay } from '../query/delay.js';
import { STATEMENTS, type TransactionSubject } from './subject.js';

const CONNECTIONS = 10;
/** Transactions, until the compiler has seen enough. */
const WARM_UP = 1_000;
const METRICS = {
  time: { unit: 'ms', better: 'less' },
  p99: { unit: 'ms', better: 'less' },
  rate: { unit: 'per second', better: 'more' },
  'client CPU': { unit: 'µs', better: 'less' },
  'server CPU': { unit: 'µs', better: 'less' },
} as const satisfies Record<string, Metric>;

type Way = (connectionString: string, work: (connectionString: string) => Promise<Values>) => Promise<Values>;

const near: Way = (connectionString, work) => work(connectionString);
const random = randomFrom(20261126);
const upTo = (count: number): number => 1 + Math.floor(random() * count);

function cell(where: string, through: Way, concurrency: number): Cell<TransactionSubject> {
  const measure = (subject: TransactionSubject, bench: Bench): Promise<Values> =>
    through(bench.connectionString, async (connectionString) => {
      const transfers = await subject(connectionString, CONNECTIONS);
      try {
        const once = (): Promise<void> => transfers.transfer(upTo(ACCOUNTS), 1);
        const load = await bench.callers(concurrency, once, WARM_UP);
        return {
          time: load.p50Millis,
          p99: load.p99Millis,
          rate: load.perSecond,
          'client CPU': load.clientCpuMicros,
          'server CPU': load.serverCpuMicros,
        };
      } finally {
        await transfers.close();
      }
    });
  return { name: `${where}, c=${concurrency}`, measure };
}

export const FAR = 'server 1 ms away, c=1';

export const transfer: Workload<TransactionSubject> = {
  name: 'transfer',
  about:
    `A transaction of ${STATEMENTS} statements: a row is read and locked, changed, and another one inserted; by c callers. ` +
    'Once with the server on the same machine, and once with 1 ms added each way. The time is the median of one transaction.',
  metrics: METRICS,
  cells: [
    cell('server near by', near, 1),
    cell('server near by', near, 10),
    cell('server 1 ms away', withDelay, 1),
    cell('server 1 ms away', withDelay, 10),
  ],
};
