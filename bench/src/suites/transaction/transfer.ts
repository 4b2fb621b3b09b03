import type { Bench } from '../../harness/bench.js';
import { randomFrom } from '../../harness/schedule.js';
import type { Cell, Metric, Values, Workload } from '../../harness/suite.js';
import { ACCOUNTS } from '../query/database.js';
import { withDelay } from '../query/delay.js';
import { STATEMENTS, type TransactionSubject, type Transfers } from './subject.js';

const CONNECTIONS = 10;
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

interface Operation {
  readonly once: (transfers: Transfers) => Promise<void> | undefined;
  /** How often, until the compiler has seen enough. */
  readonly warmUp: number;
}

const TRANSFER: Operation = { once: (transfers) => transfers.transfer(upTo(ACCOUNTS), 1), warmUp: 5_000 };
/** Enough for the connections of a process that is warm. */
const AGAIN = 100;
const LOOK_UP: Operation = { once: (transfers) => transfers.read?.(upTo(ACCOUNTS)), warmUp: 20_000 };

function cell(
  where: string,
  through: Way,
  concurrency: number,
  { once, warmUp }: Operation = TRANSFER,
): Cell<TransactionSubject> {
  const measure = async (subject: TransactionSubject, bench: Bench): Promise<Values> => {
    // A service is warm before most of its transactions, and far away this would take a minute.
    if (through !== near) {
      await using(subject, bench.connectionString, (call) => bench.warm(concurrency, call, warmUp));
    }
    return through(bench.connectionString, (connectionString) =>
      using(subject, connectionString, async (call) => {
        const load = await bench.callers(concurrency, call, through === near ? warmUp : AGAIN);
        return {
          time: load.p50Millis,
          p99: load.p99Millis,
          rate: load.perSecond,
          'client CPU': load.clientCpuMicros,
          'server CPU': load.serverCpuMicros,
        };
      }),
    );
  };
  const using = async <T>(
    subject: TransactionSubject,
    connectionString: string,
    work: (call: () => Promise<void>) => Promise<T>,
  ): Promise<T> => {
    const transfers = await subject(connectionString, CONNECTIONS);
    try {
      return await work(() => once(transfers) ?? Promise.reject(new Error('it cannot do that')));
    } finally {
      await transfers.close();
    }
  };
  return { name: `${where}, c=${concurrency}`, measure };
}

export const FAR = 'server 1 ms away, c=1';

export const transfer: Workload<TransactionSubject> = {
  name: 'transfer',
  about:
    `A transaction of ${STATEMENTS} statements: a row is read and locked, changed, and another one inserted; by c callers. ` +
    'Once with the server on the same machine, and once with 1 ms added each way, in a process that is warm from the server on the same machine. The time is the median of one transaction.',
  metrics: METRICS,
  cells: [
    cell('server near by', near, 1),
    cell('server near by', near, 10),
    cell('server 1 ms away', withDelay, 1),
    cell('server 1 ms away', withDelay, 10),
  ],
  subjects: ['pg', 'nestjs-pg', 'nestjs-pg, batch', 'postgres.js', 'postgres.js, array', 'pg-promise'],
};

export const LOOKED_UP = 'server near by, c=100';

export const lookUp: Workload<TransactionSubject> = {
  name: 'look-up',
  about:
    'A select by key outside of any transaction, by 100 callers. nestjs-pg asks each time whether it is in one; "tracked" is ' +
    'a process in which there has been one, so that Node keeps track of it through every promise.',
  metrics: METRICS,
  cells: [cell('server near by', near, 100, LOOK_UP)],
  subjects: ['nestjs-pg', 'nestjs-pg, tracked'],
};
