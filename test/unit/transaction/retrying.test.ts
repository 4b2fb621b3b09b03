import { describe, expect, it } from 'vitest';
import { PgModuleError } from '../../../lib/errors/pg-module.error.js';
import { retrying } from '../../../lib/transaction/run-transaction.js';
import { commitUnknown, PgBatchError, aborted } from '../../../lib/transaction/transaction-errors.js';
import { resolveTransactionOptions, type TransactionRetry } from '../../../lib/transaction/transaction-options.js';
import { ManualClock } from '../../support/manual-clock.js';

const serialization = Object.assign(new Error('again'), { code: '40001' });

/** When, by the clock, each run began, until the last failure has been told. */
async function runsOf(
  retry: TransactionRetry | undefined,
  options: { chance?: number; error?: unknown; takes?: number; signal?: AbortSignal } = {},
): Promise<{ began: number[]; error: unknown; clock: ManualClock }> {
  const { chance = 0, takes = 0, signal } = options;
  const error = 'error' in options ? options.error : serialization;
  const clock = new ManualClock();
  clock.chance = chance;
  const began: number[] = [];
  let told: unknown;
  let isOver = false;
  void retrying(resolveTransactionOptions({ retry }).retry, { clock }, signal, async () => {
    began.push(clock.now());
    if (takes > 0) await new Promise<void>((resolve) => clock.setTimeout(resolve, takes));
    throw error;
  }).catch((reason: unknown) => {
    told = reason;
    isOver = true;
  });
  for (let round = 0; round < 200 && !isOver; round++) await clock.advance(1_000);
  return { began, error: told, clock };
}

describe('the runs of a transaction', () => {
  it('are five at most, with a pause that doubles', async () => {
    const { began, error, clock } = await runsOf(undefined);
    // Half of 20, 40, 80 and 160 ms, since chance has it so.
    expect(began).toEqual([0, 10, 30, 70, 150]);
    expect(error).toBe(serialization);
    expect(clock.timers).toBe(0);
  });

  it('have a pause between half and the whole, by chance', async () => {
    expect((await runsOf({ attempts: 3 }, { chance: 1 })).began).toEqual([0, 20, 60]);
    expect((await runsOf({ attempts: 3 }, { chance: 0.5 })).began).toEqual([0, 15, 45]);
  });

  it('have no pause above the longest', async () => {
    const { began } = await runsOf({ attempts: 5, baseMillis: 100, maxMillis: 200 }, { chance: 1 });
    expect(began).toEqual([0, 100, 300, 500, 700]);
    expect((await runsOf({ attempts: 3, baseMillis: 0 })).began).toEqual([0, 0, 0]);
  });

  it('begin no later than the time that there is', async () => {
    const retry = { attempts: 100, timeoutMillis: 1_000, baseMillis: 100, maxMillis: 100 };
    const { began } = await runsOf(retry, { chance: 1, takes: 150 });
    expect(began).toEqual([0, 250, 500, 750, 1_000]);
    expect((await runsOf({ timeoutMillis: 0 })).began).toEqual([0]);
    expect((await runsOf({ timeoutMillis: 9 })).began).toEqual([0]);
    expect((await runsOf({ timeoutMillis: 10 })).began).toEqual([0, 10]);
  });

  it.each<[string, unknown, number]>([
    ['a deadlock', Object.assign(new Error(), { code: '40P01' }), 2],
    ['a swallowed one', aborted('p', serialization), 2],
    ['one of a batch', new PgBatchError('p', 0, 1, 'SELECT 1', serialization), 2],
    ['another that was swallowed', aborted('p', new Error()), 1],
    ['one that was swallowed without a reason', aborted('p', undefined), 1],
    ['a unique violation', Object.assign(new Error(), { code: '23505' }), 1],
    ['an error of the application with such a cause', new Error('mine', { cause: serialization }), 1],
    ['an unknown COMMIT', commitUnknown('p', serialization), 1],
    ['nothing', undefined, 1],
    ['null', null, 1],
    ['a text', '40001', 1],
  ])('after %s', async (_, error, runs) => {
    const result = await runsOf({ attempts: 2 }, { error });
    expect(result.began).toHaveLength(runs);
    expect(result.error).toBe(error);
  });

  it('are what the predicate says, but after an unknown COMMIT', async () => {
    const asked: unknown[] = [];
    const when = (error: unknown, attempt: number): boolean => {
      asked.push([error, attempt]);
      return attempt < 3;
    };
    expect((await runsOf({ attempts: 9, when }, { error: 'mine' })).began).toHaveLength(3);
    expect(asked).toEqual([
      ['mine', 1],
      ['mine', 2],
      ['mine', 3],
    ]);
    expect((await runsOf({ when: () => false })).began).toHaveLength(1);
    const unknown = commitUnknown('p', new Error());
    expect((await runsOf({ when: () => true }, { error: unknown })).began).toHaveLength(1);
  });

  it('end when the signal fires, in a pause with its reason and at once', async () => {
    const reason = new PgModuleError('PG_ABORTED', 'enough');
    const controller = new AbortController();
    const clock = new ManualClock();
    let runs = 0;
    const retry = resolveTransactionOptions({ retry: { baseMillis: 1_000 } }).retry;
    const run = retrying(retry, { clock }, controller.signal, () => {
      runs++;
      return Promise.reject(serialization);
    });
    const rejected = expect(run).rejects.toBe(reason);
    await clock.advance(1);
    expect(clock.timers).toBe(1);
    controller.abort(reason);
    await rejected;
    expect(clock.timers).toBe(0);
    expect(runs).toBe(1);
    const before = await runsOf(undefined, { signal: AbortSignal.abort(reason) });
    expect(before).toMatchObject({ began: [0], error: serialization });
  });
});
