import { setTimeout as delay } from 'node:timers/promises';
import type { Bench } from '../../harness/bench.js';
import { randomFrom } from '../../harness/schedule.js';
import { quantile } from '../../harness/statistics.js';
import type { Cell, Values, Workload } from '../../harness/suite.js';
import { stockPg } from '../../stock-pg.js';
import { ACCOUNTS, GATE, LOCK_GATE, POINT } from './database.js';
import { withClient, type QueryClient, type QuerySubject } from './subject.js';

/** One statement of so many is not a fast one. */
const ONE_IN = 20;
const SLOW_SECONDS = 0.1;
/** A group of {@link ONE_IN} comes so often. With slow ones, three to four connections of the ten are busy with those. */
const EVERY_MILLIS = 30;
const LOCKED_MILLIS = 100;
const OPEN_MILLIS = 200;
const WARM_UP = 5_000;
/** Slow statements are few: they need longer to be seen. */
const LONGER = 4;

const random = randomFrom(20261127);
const upTo = (count: number): number => 1 + Math.floor(random() * count);

const fast = async (client: QueryClient): Promise<void> => {
  const id = upTo(ACCOUNTS);
  const [row] = await client.run(POINT, [id]);
  if (row?.['id'] !== id) throw new Error(`account ${id} was asked for; there came ${JSON.stringify(row)}`);
};

const slow = async (client: QueryClient): Promise<void> => {
  await client.run('SELECT pg_sleep($1)', [SLOW_SECONDS]);
};

const behindGate = async (client: QueryClient): Promise<void> => {
  await client.run(GATE, [upTo(100)]);
};

type Statement = (client: QueryClient) => Promise<void>;

/** How long each of the fast ones took. */
type Arrival = (client: QueryClient, other: Statement, millis: number) => Promise<number[]>;

/** Groups come at their times, whether or not those before are done. */
const paced: Arrival = async (client, other, millis) => {
  const took: number[] = [];
  const running: Promise<void>[] = [];
  const timed = async (): Promise<void> => {
    const began = performance.now();
    await fast(client);
    took.push(performance.now() - began);
  };
  const began = performance.now();
  for (let group = 0; group * EVERY_MILLIS < millis; group++) {
    await delay(Math.max(0, began + group * EVERY_MILLIS - performance.now()));
    running.push(other(client));
    for (let times = 1; times < ONE_IN; times++) running.push(timed());
  }
  await Promise.all(running);
  return took;
};

/** So many callers, each with one statement after the other. */
const closed =
  (callers: number): Arrival =>
  async (client, other, millis) => {
    const took: number[] = [];
    const end = performance.now() + millis;
    const one = async (): Promise<void> => {
      for (let began = performance.now(); began < end; began = performance.now()) {
        if (random() * ONE_IN < 1) await other(client);
        else {
          await fast(client);
          took.push(performance.now() - began);
        }
      }
    };
    await Promise.all(Array.from({ length: callers }, one));
    return took;
  };

/** Locks the table again and again, as a migration would, until the work is done. */
async function withGate<T>(connectionString: string, work: () => Promise<T>): Promise<T> {
  const keeper = new stockPg.Client({ connectionString });
  await keeper.connect();
  const over = new AbortController();
  const keep = async (): Promise<void> => {
    while (!over.signal.aborted) {
      await keeper.query('BEGIN');
      await keeper.query(LOCK_GATE);
      await delay(LOCKED_MILLIS);
      await keeper.query('COMMIT');
      await delay(OPEN_MILLIS, undefined, { signal: over.signal }).catch(() => undefined);
    }
  };
  const keeping = keep();
  try {
    return await work();
  } finally {
    over.abort();
    await keeping;
    await keeper.end();
  }
}

function cell(name: string, other: Statement, arrival: Arrival, hasGate = false): Cell<QuerySubject> {
  const measure = async (subject: QuerySubject, bench: Bench): Promise<Values> =>
    withClient(subject, bench, bench.connectionString, async (client) => {
      await bench.callers(20, () => fast(client), WARM_UP);
      // What the pool knows of it is from times when nobody was in its way.
      for (let times = 0; times < bench.count(50); times++) await behindGate(client);
      const millis = bench.profile.millis * LONGER;
      const measured = (): Promise<number[]> => arrival(client, other, millis);
      const took = await (hasGate ? withGate(bench.connectionString, measured) : measured());
      return { p50: quantile(took, 0.5), p99: quantile(took, 0.99), rate: (took.length * 1000) / millis };
    });
  return { name, measure };
}

export const SLOW_PACED = 'slow, in groups';
export const SLOW_CLOSED = 'slow, c=20';
export const LOCKED = 'locked, in groups';

export const mixture: Workload<QuerySubject> = {
  name: 'mixture',
  about:
    `Selects by key, and one statement in ${ONE_IN} that is none: it sleeps for ${SLOW_SECONDS * 1000} ms (slow), or reads a table that ` +
    `somebody else locks for ${LOCKED_MILLIS} ms every ${LOCKED_MILLIS + OPEN_MILLIS} ms (locked). They come in groups of ${ONE_IN} every ${EVERY_MILLIS} ms, or from ` +
    'c callers without a pause. How long the fast ones took.',
  metrics: {
    p50: { unit: 'ms', better: 'less' },
    p99: { unit: 'ms', better: 'less' },
    rate: { unit: 'per second', better: 'more' },
  },
  cells: [cell(SLOW_PACED, slow, paced), cell(SLOW_CLOSED, slow, closed(20)), cell(LOCKED, behindGate, paced, true)],
  subjects: ['pg', 'nestjs-pg', 'nestjs-pg, pipeline off', 'postgres.js'],
  rounds: { quick: 1, record: 4 },
};
