import type { Bench } from '../../harness/bench.js';
import { randomFrom } from '../../harness/schedule.js';
import type { Cell, Metric, Values, Workload } from '../../harness/suite.js';
import { ACCOUNTS, INSERT, ITEMS, JOIN, PARTS, POINT, ROW_COUNT, ROWS } from './database.js';
import { withDelay } from './delay.js';
import { withClient, type QueryClient, type QuerySubject, type Row, type Script } from './subject.js';

/** What all callers do, one after the other. */
interface Operation {
  /** Resolves when the result is there and is what it should be. */
  readonly once: (client: QueryClient) => Promise<void>;
  readonly script: Script;
  /** Times, until the compiler has seen enough. */
  readonly warmUp: number;
  /** Run before the cell. */
  readonly before?: string;
}

/** Those that take the texts of {@link ./database.ts} as they are, or as a script. */
const OF_TEXTS = ['pg', 'pg, named', 'nestjs-pg', 'postgres.js', 'pgbench'];
const EVERYBODY = [...OF_TEXTS, 'pg-promise', 'Kysely', 'Drizzle', 'Knex', 'TypeORM'];

const METRICS = {
  rate: { unit: 'per second', better: 'more' },
  p50: { unit: 'ms', better: 'less' },
  p99: { unit: 'ms', better: 'less' },
  'client CPU': { unit: 'µs', better: 'less' },
  'server CPU': { unit: 'µs', better: 'less' },
} as const satisfies Record<string, Metric>;

const random = randomFrom(20261126);
const upTo = (count: number): number => 1 + Math.floor(random() * count);

/** @throws unless the result has so many rows, and the first of them this field */
function check(rows: readonly Row[], count: number, field: string, value: unknown): void {
  const [first] = rows;
  if (rows.length === count && first?.[field] === value) return;
  throw new Error(
    `${count} rows with ${field} ${String(value)} were expected; there are ${rows.length}: ${JSON.stringify(first)}`,
  );
}

const POINT_OPERATION: Operation = {
  once: async (client) => {
    const id = upTo(ACCOUNTS);
    check(await (client.point ? client.point(id) : client.run(POINT, [id])), 1, 'id', id);
  },
  script: { text: POINT.replace('$1', ':id'), variables: { id: `random(1, ${ACCOUNTS})` } },
  warmUp: 8_000,
};

const ROWS_OPERATION: Operation = {
  once: async (client) => {
    const first = upTo(ITEMS - ROW_COUNT);
    const behind = first + ROW_COUNT;
    check(
      await (client.rows ? client.rows(first, behind) : client.run(ROWS, [first, behind])),
      ROW_COUNT,
      'name',
      `item number ${first}`,
    );
  },
  script: {
    text: ROWS.replace('$1', ':first').replace('$2', ':behind'),
    variables: { first: `random(1, ${ITEMS - ROW_COUNT})`, behind: `:first + ${ROW_COUNT}` },
  },
  warmUp: 1_500,
};

const JOIN_OPERATION: Operation = {
  once: async (client) => {
    const id = upTo(PARTS);
    check(await client.run(JOIN, [id]), 1, 'label_1', `part ${id}`);
  },
  script: { text: JOIN.replace('$1', ':id'), variables: { id: `random(1, ${PARTS})` } },
  warmUp: 3_000,
};

const INSERT_OPERATION: Operation = {
  once: async (client) => {
    const rows = await client.run(INSERT, [upTo(ACCOUNTS), upTo(1000), 'an entry of the benchmark']);
    check(rows, 1, 'id', rows[0]?.['id'] ?? null);
  },
  script: {
    text: INSERT.replace('$1', ':account').replace('$2', ':amount').replace('$3', `'an entry of the benchmark'`),
    variables: { account: `random(1, ${ACCOUNTS})`, amount: 'random(1, 1000)' },
  },
  before: 'TRUNCATE entry',
  warmUp: 5_000,
};

let texts = 0;

const DISTINCT_OPERATION: Operation = {
  once: async (client) => {
    const id = upTo(ACCOUNTS);
    const text = `SELECT id, balance AS balance_${++texts} FROM account WHERE id = $1`;
    check(await client.run(text, [id]), 1, 'id', id);
  },
  script: { text: '', variables: {} },
  warmUp: 5_000,
};

function cell(
  name: string,
  { once, script, warmUp, before }: Operation,
  concurrency: number,
  through: typeof withDelay<Values> = (connectionString, work) => work(connectionString),
): Cell<QuerySubject> {
  const measure = async (subject: QuerySubject, bench: Bench): Promise<Values> => {
    if ('measure' in subject) return subject.measure(script, concurrency, bench);
    return through(bench.connectionString, (connectionString) =>
      withClient(subject, bench, connectionString, async (client) => {
        if (before !== undefined) await client.run(before, []);
        const load = await bench.callers(bench.count(concurrency), () => once(client), warmUp);
        return {
          rate: load.perSecond,
          p50: load.p50Millis,
          p99: load.p99Millis,
          'client CPU': load.clientCpuMicros,
          'server CPU': load.serverCpuMicros,
        };
      }),
    );
  };
  return { name, measure };
}

export const point: Workload<QuerySubject> = {
  name: 'point',
  about: `\`${POINT}\`: one of ${ACCOUNTS.toLocaleString('en')} rows by its key, by c callers.`,
  metrics: METRICS,
  cells: [
    // postgres.js has functions of its own for each connection, which the compiler gets to see one after the other.
    cell('c=1', { ...POINT_OPERATION, warmUp: 40_000 }, 1),
    ...[10, 100].map((concurrency) => cell(`c=${concurrency}`, POINT_OPERATION, concurrency)),
    // pgbench prepares each statement of a script by itself: with a pipeline of a hundred it does little else.
    { ...cell('c=1000', POINT_OPERATION, 1000), subjects: EVERYBODY.filter((name) => name !== 'pgbench') },
  ],
  subjects: EVERYBODY,
  rounds: { quick: 1, record: 5 },
};

export const kinds: Workload<QuerySubject> = {
  name: 'kinds',
  about:
    `Other kinds of statements. rows: ${ROW_COUNT} rows of eight columns (int, text, boolean, float8, bigint, numeric, jsonb, ` +
    'timestamptz). join: one row of seven tables joined by their keys, which takes the server longer to plan than to run. ' +
    'insert: one row, committed by itself, on a server that does not wait for its disk. distinct: the select by key with a ' +
    'text that is another one each time.',
  metrics: METRICS,
  cells: [
    cell('rows, c=10', ROWS_OPERATION, 10),
    cell('rows, c=100', ROWS_OPERATION, 100),
    { ...cell('join, c=10', JOIN_OPERATION, 10), subjects: OF_TEXTS },
    { ...cell('insert, c=100', INSERT_OPERATION, 100), subjects: OF_TEXTS },
    { ...cell('distinct, c=10', DISTINCT_OPERATION, 10), subjects: ['nestjs-pg', 'postgres.js'] },
  ],
  subjects: EVERYBODY,
  rounds: { quick: 1, record: 4 },
};

export const far: Workload<QuerySubject> = {
  name: 'far',
  about: 'The select by key from a server that is 1 ms away: a proxy holds back for so long whatever passes, each way.',
  metrics: METRICS,
  cells: [cell('c=100', POINT_OPERATION, 100, withDelay)],
  subjects: ['pg', 'pg, named', 'nestjs-pg', 'postgres.js'],
  rounds: { quick: 1, record: 4 },
};
