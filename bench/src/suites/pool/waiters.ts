import type pg from 'pg';
import type { Bench } from '../../harness/bench.js';
import { clientCpuMicros } from '../../harness/cpu-time.js';
import { timeWithGc } from '../../harness/gc-time.js';
import type { Cell, Values, Workload } from '../../harness/suite.js';
import { warm, withPool, type OpenPool, type PoolShape } from './subject.js';

const FEW = 1_000;
const MANY = 100_000;
/** Of those who give up: each queue of them takes this long. */
const GIVE_UP_MILLIS = 100;
const GIVE_UP_QUEUES = 5;
/** Queues of few, until the compiler has seen enough; those who give up take too long for more than one. */
const WARM_UPS = 200;

/** So many borrowers queue while somebody holds the only connection. */
type Queue = (pool: pg.Pool, waiters: number) => Promise<void>;

/** The holder gives back, and they are served one after the other. */
async function served(pool: pg.Pool, waiters: number): Promise<void> {
  const holder = await pool.connect();
  await new Promise<void>((resolve, reject) => {
    let left = waiters;
    const lent = (client: pg.PoolClient): void => {
      client.release();
      if (--left === 0) resolve();
    };
    for (let queued = 0; queued < waiters; queued++) pool.connect().then(lent, reject);
    holder.release();
  });
}

/** The holder keeps it, and they give up at their deadline. */
async function givenUp(pool: pg.Pool, waiters: number): Promise<void> {
  const holder = await pool.connect();
  await new Promise<void>((resolve, reject) => {
    let left = waiters;
    const lent = (): void => reject(new Error('the connection was lent twice'));
    const refused = (): void => {
      if (--left === 0) resolve();
    };
    for (let queued = 0; queued < waiters; queued++) pool.connect().then(lent, refused);
  });
  holder.release();
}

/** How long those who are served take, per waiter. Those who give up take as long as they have patience. */
type Timed = 'timed' | 'untimed';

function cell(
  name: string,
  queue: Queue,
  waiters: number,
  queues: number,
  shape: PoolShape,
  timed: Timed,
): Cell<OpenPool> {
  const measure = async (open: OpenPool, bench: Bench): Promise<Values> =>
    withPool(open, bench, { max: 1, ...shape }, async (pool) => {
      await warmPatiently(pool);
      const size = bench.count(waiters);
      const times = bench.count(queues);
      const warmUps = timed === 'timed' ? WARM_UPS : 1;
      for (let left = bench.count(warmUps); left > 0; left--) await queue(pool, bench.count(FEW));
      const cpuBefore = clientCpuMicros();
      const { millis, gcMillis } = await timeWithGc(async () => {
        for (let time = 0; time < times; time++) await queue(pool, size);
      });
      const total = size * times;
      const cpu = { 'client CPU': (clientCpuMicros() - cpuBefore) / total };
      if (timed === 'untimed') return cpu;
      return { ...cpu, time: (millis * 1000) / total, 'time without GC': ((millis - gcMillis) * 1000) / total };
    });
  return { name: `${name}, ${waiters.toLocaleString('en')} queued`, measure };
}

/** A queue that does nothing but settle promises, each when the one before has been: no pool of promises does less. */
async function settled(promises: number): Promise<void> {
  const queue: (() => void)[] = [];
  await new Promise<void>((resolve) => {
    let head = 0;
    const next = (): void => {
      if (head === promises) resolve();
      else queue[head++]?.();
    };
    for (let queued = 0; queued < promises; queued++) void new Promise<void>((settle) => queue.push(settle)).then(next);
    next();
  });
}

/** Whatever the subject is. */
function floorCell(promises: number, queues: number): Cell<OpenPool> {
  const measure = async (_open: OpenPool, bench: Bench): Promise<Values> => {
    const size = bench.count(promises);
    const times = bench.count(queues);
    for (let left = bench.count(WARM_UPS); left > 0; left--) await settled(bench.count(FEW));
    const { millis, gcMillis } = await timeWithGc(async () => {
      for (let time = 0; time < times; time++) await settled(size);
    });
    const total = size * times;
    return { time: (millis * 1000) / total, 'time without GC': ((millis - gcMillis) * 1000) / total };
  };
  return { name: `promises alone, ${promises.toLocaleString('en')} queued`, measure };
}

/** To open the connection may take longer than a borrower waits. */
async function warmPatiently(pool: pg.Pool): Promise<void> {
  for (let left = 50; left > 0; left--) {
    const isWarm = await warm(pool, 1).then(
      () => true,
      () => false,
    );
    if (isWarm) return;
  }
  await warm(pool, 1);
}

export const SERVED_FEW = cell('served', served, FEW, MANY / FEW, {}, 'timed');
export const SERVED_MANY = cell('served', served, MANY, 1, {}, 'timed');
const patience = { waitMillis: GIVE_UP_MILLIS };
export const GIVEN_UP_FEW = cell('timed out', givenUp, FEW, GIVE_UP_QUEUES, patience, 'untimed');
export const GIVEN_UP_MANY = cell('timed out', givenUp, MANY, 1, patience, 'untimed');
export const ALONE_FEW = floorCell(FEW, MANY / FEW);
export const ALONE_MANY = floorCell(MANY, 1);

export const waiters: Workload<OpenPool> = {
  name: 'waiters',
  about:
    'Borrowers queue for the only connection, which somebody holds. Either it is given back, and they are served one ' +
    `after the other, or they give up after ${GIVE_UP_MILLIS} ms. Per waiter, from its call to its end; of those who give ` +
    'up only the CPU time, since their time is their patience. Many promises that are pending at once live long enough ' +
    'for the garbage collector to move each of them: that is in the time, and left out of the time without GC. "Promises ' +
    'alone" is a queue with no pool at all, whoever the subject is.',
  metrics: {
    time: { unit: 'µs', better: 'less' },
    'time without GC': { unit: 'µs', better: 'less' },
    'client CPU': { unit: 'µs', better: 'less' },
  },
  // What many leave behind is collected at the cost of those who come after them.
  cells: [ALONE_FEW, SERVED_FEW, GIVEN_UP_FEW, ALONE_MANY, SERVED_MANY, GIVEN_UP_MANY],
  rounds: { quick: 1, record: 4 },
};
