import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { PgPool, TransactionOptions } from 'nestjs-pg';
import { deferred } from '../../../lib/util/deferred.js';
import { adminQuery, waitFor } from '../../support/postgres.js';
import { expectNothingLeft, failureOf, insert, items, openPool, server } from './fixture.js';

const SERIALIZABLE: TransactionOptions = { isolation: 'serializable' };
const FAST = { baseMillis: 1, maxMillis: 5 };

beforeAll(async () => {
  await adminQuery(server(), 'CREATE TABLE account (id int PRIMARY KEY, amount int NOT NULL)');
  await adminQuery(server(), 'CREATE SEQUENCE runs');
  await adminQuery(
    server(),
    `CREATE FUNCTION fail(code text) RETURNS void LANGUAGE plpgsql AS $$
     BEGIN RAISE EXCEPTION 'again' USING ERRCODE = code; END $$`,
  );
});
beforeEach(async () => {
  await adminQuery(server(), 'TRUNCATE account');
  await adminQuery(server(), 'INSERT INTO account SELECT id, 100 FROM generate_series(0, 9) id');
});

/** Fails the first runs of a function in the way that the server would. */
function failing(times: number, code: string): (attempt: number) => string {
  return (attempt) => (attempt <= times ? `SELECT fail('${code}')` : 'SELECT 1');
}

describe('a serialization failure', () => {
  it('provoked for real runs the whole function again, on a fresh transaction', async () => {
    const pool = openPool('serialization', { pool: { max: 3 } });
    const attempts: number[] = [];
    const seen: number[] = [];
    await pool.transaction(async (transaction) => {
      attempts.push(transaction.attempt);
      const { rows } = await transaction.query<{ amount: number }>('SELECT amount FROM account WHERE id = 0');
      seen.push(rows[0]?.amount ?? 0);
      if (transaction.attempt === 1) {
        await pool.outside(() => pool.query('UPDATE account SET amount = amount + 1 WHERE id = 0'));
      }
      await transaction.query('UPDATE account SET amount = $1 WHERE id = 0', [(rows[0]?.amount ?? 0) * 2]);
    }, SERIALIZABLE);
    expect(attempts).toEqual([1, 2]);
    expect(seen).toEqual([100, 101]);
    expect(await adminQuery(server(), 'SELECT amount FROM account WHERE id = 0')).toEqual([{ amount: 202 }]);
    expect(pool.stats().retired).toEqual({});
    await expectNothingLeft(pool);
  });

  it('that shows only at COMMIT does the same', async () => {
    const pool = openPool('at-commit', { pool: { max: 3 } });
    // Write skew: each reads what the other writes.
    const [first, second] = [deferred<void>(), deferred<void>()];
    const attempts: string[] = [];
    const move = (from: number, to: number, mine: typeof first, others: typeof first): Promise<void> =>
      pool.transaction(async (transaction) => {
        attempts.push(`${from}:${transaction.attempt}`);
        await transaction.query('SELECT amount FROM account WHERE id = $1', [from]);
        await transaction.query('UPDATE account SET amount = amount + 1 WHERE id = $1', [to]);
        mine.resolve();
        await others.promise;
      }, SERIALIZABLE);
    await Promise.all([move(0, 1, first, second), move(1, 0, second, first)]);
    expect(attempts.filter((attempt) => attempt.endsWith(':1'))).toHaveLength(2);
    expect(attempts.length).toBeGreaterThan(2);
    await expectNothingLeft(pool);
  });

  it('that is swallowed, or wrapped by a batch, is retried as well', async () => {
    const pool = openPool('swallowed', { pool: { max: 1 } });
    const text = failing(2, '40001');
    const swallowed: number[] = [];
    await pool.transaction(
      async (transaction) => {
        swallowed.push(transaction.attempt);
        await transaction.query(text(transaction.attempt)).catch(() => undefined);
      },
      { retry: FAST },
    );
    expect(swallowed).toEqual([1, 2, 3]);
    const [result] = await pool.batch(
      ["SELECT nextval('runs')::int AS run", "SELECT CASE WHEN last_value < 3 THEN fail('40001') END FROM runs"],
      { retry: { ...FAST, when: undefined } },
    );
    expect(result?.rows).toEqual([{ run: 3 }]);
    const inner: number[] = [];
    await pool.transaction(
      async (transaction) => {
        inner.push(transaction.attempt);
        if (transaction.attempt < 3) await pool.batch(['SELECT 1', text(1)]);
      },
      { retry: FAST },
    );
    expect(inner).toEqual([1, 2, 3]);
    await expectNothingLeft(pool);
  });
});

describe('a deadlock', () => {
  it('provoked for real is healed: both transactions are done', async () => {
    const pool = openPool('deadlock', { pool: { max: 2 }, options: '-c deadlock_timeout=10ms' });
    const attempts: number[] = [];
    const gates = [deferred<void>(), deferred<void>()];
    const lockBoth = (one: number, other: number): Promise<void> =>
      pool.transaction(async (transaction) => {
        attempts.push(transaction.attempt);
        await transaction.query('UPDATE account SET amount = amount - 1 WHERE id = $1', [one]);
        gates[one]?.resolve();
        await gates[other]?.promise;
        await transaction.query('UPDATE account SET amount = amount + 1 WHERE id = $1', [other]);
      });
    await Promise.all([lockBoth(0, 1), lockBoth(1, 0)]);
    expect(attempts.length).toBeGreaterThan(2);
    expect(Math.max(...attempts)).toBeGreaterThan(1);
    expect(await adminQuery(server(), 'SELECT amount FROM account WHERE id < 2 ORDER BY id')).toEqual([
      { amount: 100 },
      { amount: 100 },
    ]);
    expect(pool.stats()).toMatchObject({ connects: 2, retired: {} });
    await expectNothingLeft(pool);
  });
});

describe('retry', () => {
  const runs = async (pool: PgPool, code: string, retry: TransactionOptions['retry']): Promise<number> => {
    let count = 0;
    const run = pool.transaction(
      (transaction) => {
        count++;
        return transaction.query(failing(100, code)(1));
      },
      { retry },
    );
    expect(await failureOf(run)).toMatchObject({ code });
    return count;
  };

  it('ends with the last error, after as many runs as it may have', async () => {
    const pool = openPool('attempts', { pool: { max: 1 } });
    expect(await runs(pool, '40001', FAST)).toBe(5);
    expect(await runs(pool, '40P01', { ...FAST, attempts: 2 })).toBe(2);
    expect(await runs(pool, '40001', { attempts: 1 })).toBe(1);
    expect(await runs(pool, '40001', false)).toBe(1);
    expect(await runs(pool, '40001', { ...FAST, timeoutMillis: 0 })).toBe(1);
    expect(await runs(pool, '23505', FAST)).toBe(1);
    expect(await items()).toEqual([]);
    expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
    await expectNothingLeft(pool);
  });

  it('asks the predicate about whatever was thrown', async () => {
    const pool = openPool('predicate', { pool: { max: 1 } });
    const asked: unknown[] = [];
    const when = (error: unknown, attempt: number): boolean => {
      asked.push([(error as { code?: string } | undefined)?.code, attempt]);
      return attempt < 3;
    };
    expect(await runs(pool, '23505', { ...FAST, when })).toBe(3);
    expect(asked).toEqual([
      ['23505', 1],
      ['23505', 2],
      ['23505', 3],
    ]);
    expect(await runs(pool, '40001', { ...FAST, when: () => false })).toBe(1);
    let count = 0;
    const thrown = pool.transaction(
      () => {
        count++;
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- applications do
        return Promise.reject(undefined);
      },
      { retry: { ...FAST, when: (error) => error === undefined && count < 4 } },
    );
    await expect(thrown).rejects.toBeUndefined();
    expect(count).toBe(4);
    await expectNothingLeft(pool);
  });

  it('is the outermost transaction’s alone', async () => {
    const pool = openPool('outermost', { pool: { max: 1 } });
    const attempts: string[] = [];
    await pool.transaction(
      async (outer) => {
        await pool.transaction(
          (inner) => {
            attempts.push(`${outer.attempt}.${inner.attempt}`);
            return inner.query(failing(2, '40001')(outer.attempt));
          },
          { retry: { attempts: 10 } },
        );
        await outer.query(insert(outer.attempt));
      },
      { retry: FAST },
    );
    expect(attempts).toEqual(['1.1', '2.2', '3.3']);
    expect(await items()).toEqual([3]);
    await expectNothingLeft(pool);
  });

  it('holds no connection during its pause', async () => {
    const pool = openPool('pause', { pool: { max: 1 } });
    const controller = new AbortController();
    let isRun = false;
    const run = failureOf(
      pool.transaction((transaction) => ((isRun = true), transaction.query(failing(9, '40001')(1))), {
        retry: { baseMillis: 100_000, maxMillis: 100_000, timeoutMillis: 1_000_000 },
        signal: controller.signal,
      }),
    );
    await waitFor(() => isRun && pool.idleCount === 1, { message: 'the pause' });
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    // And the signal ends it.
    controller.abort();
    expect(await run).toMatchObject({ code: 'PG_ABORTED' });
    await expectNothingLeft(pool);
  });
});

describe('transfers under serializable isolation', () => {
  const transfer = fc.record({
    from: fc.nat(9),
    to: fc.nat(9),
    amount: fc.integer({ min: 1, max: 60 }),
    pauses: fc.array(fc.nat(3), { minLength: 2, maxLength: 2 }),
  });

  it('50 at once, with retries, keep the sum over random schedules, and none is lost', async () => {
    const pool = openPool('transfers', { pool: { max: 10 } });
    let retries = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(transfer, { minLength: 50, maxLength: 50 }), async (transfers) => {
        await pool.query('UPDATE account SET amount = 100');
        const moved = await Promise.all(
          transfers.map(({ from, to, amount, pauses }) =>
            pool.transaction(
              async (transaction) => {
                if (transaction.attempt > 1) retries++;
                const { rows } = await transaction.query<{ amount: number }>(
                  'SELECT amount FROM account WHERE id = $1',
                  [from],
                );
                if ((rows[0]?.amount ?? 0) < amount) return undefined;
                await delay(pauses[0]);
                await pool.query('UPDATE account SET amount = amount - $2 WHERE id = $1', [from, amount]);
                await delay(pauses[1]);
                await pool.query('UPDATE account SET amount = amount + $2 WHERE id = $1', [to, amount]);
                return { from, to, amount };
              },
              { isolation: 'serializable', retry: { attempts: 1_000, timeoutMillis: 60_000, ...FAST } },
            ),
          ),
        );
        const expected = Array.from({ length: 10 }, () => 100);
        for (const done of moved) {
          if (!done) continue;
          expected[done.from] = (expected[done.from] ?? 0) - done.amount;
          expected[done.to] = (expected[done.to] ?? 0) + done.amount;
        }
        const { rows } = await pool.query<{ amount: number }>('SELECT amount FROM account ORDER BY id');
        const amounts = rows.map(({ amount }) => amount);
        expect(amounts).toEqual(expected);
        expect(amounts.reduce((sum, amount) => sum + amount)).toBe(1_000);
        expect(Math.min(...amounts)).toBeGreaterThanOrEqual(0);
      }),
      { numRuns: 6 },
    );
    expect(retries).toBeGreaterThan(0);
    expect(pool.stats().retired).toEqual({});
    await expectNothingLeft(pool);
  });
});
