import { defineSuite, type Goal } from '../../harness/suite.js';
import type { Summary } from '../../harness/summary.js';
import { acquire, IDLE_CELLS } from './acquire.js';
import { burst } from './burst.js';
import { failing } from './failing.js';
import { memory } from './memory.js';
import type { OpenPool } from './subject.js';
import { ALONE_FEW, ALONE_MANY, GIVEN_UP_FEW, GIVEN_UP_MANY, SERVED_FEW, SERVED_MANY, waiters } from './waiters.js';

const OURS = 'nestjs-pg';
const STOCK = 'pg-pool';

/** Those of an idle connection: with more callers than connections it is a matter of waiting. */
const acquireGoals = IDLE_CELLS.map(({ name }): Goal => ({
  title: `acquire, ${name}: rate, ratio to ${STOCK}`,
  value: (summary) => summary.ratio('acquire', name, 'rate', OURS),
  atLeast: 1,
}));

/** What it is for: guards for every lease, and still cheaper than a pool without them. */
const promiseGoals = IDLE_CELLS.filter(({ name }) => name.startsWith('promise')).map(({ name }): Goal => ({
  title: `acquire, ${name}: rate, ratio to ${STOCK}, with all guards on`,
  value: (summary) => summary.ratio('acquire', name, 'rate', OURS),
  atLeast: 2,
}));

const burstGoal = (metric: string, atMost: number): Goal => ({
  title: `burst: ${metric}`,
  value: (summary) => summary.value('burst', '50 borrowers', metric, OURS),
  atMost,
});

/** What one of many takes, as a multiple of what one of few does. */
function growth(summary: Summary, metric: string, few: string, many: string): number | undefined {
  const [one, other] = [few, many].map((name) => summary.value('waiters', name, metric, OURS));
  return one === undefined || other === undefined ? undefined : other / one;
}

const growthGoal = (title: string, metric: string, few: string, many: string): Goal => ({
  title,
  value: (summary) => growth(summary, metric, few, many),
  atMost: 1.5,
});

/** The pool by itself, beside the one that comes with pg. */
export const poolSuite = defineSuite<OpenPool>({
  name: 'pool',
  title: 'nestjs-pg beside pg-pool: the pool by itself',
  subjects: {
    [STOCK]: async () => (await import('./pg-pool.js')).openPgPool,
    [OURS]: async () => (await import('./nestjs-pg.js')).openNestjsPg,
  },
  baseline: STOCK,
  workloads: [acquire, burst, failing, waiters, memory],
  goals: [
    ...acquireGoals,
    ...promiseGoals,
    burstGoal('connections', 7),
    burstGoal('wait p50', 30),
    {
      title: 'failing: reconnects after 10 errors',
      value: (summary) => summary.value('failing', '10 errors', 'reconnects', OURS),
      atMost: 0,
    },
    growthGoal('waiters served: time per waiter, 100,000 to 1,000', 'time', SERVED_FEW.name, SERVED_MANY.name),
    {
      title: 'waiters served: the same, as a multiple of what it is for promises alone',
      value: (summary) => {
        const ours = growth(summary, 'time', SERVED_FEW.name, SERVED_MANY.name);
        const floor = growth(summary, 'time', ALONE_FEW.name, ALONE_MANY.name);
        return ours === undefined || floor === undefined ? undefined : ours / floor;
      },
      atMost: 1.5,
    },
    growthGoal('waiters served: time without GC', 'time without GC', SERVED_FEW.name, SERVED_MANY.name),
    growthGoal(
      'waiters timed out: CPU per waiter, 100,000 to 1,000',
      'client CPU',
      GIVEN_UP_FEW.name,
      GIVEN_UP_MANY.name,
    ),
  ],
});
