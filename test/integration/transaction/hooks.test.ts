import { setImmediate as tick } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { afterCommit, afterRollback } from '../../../lib/transaction/after.js';
import type { PgTransaction } from 'nestjs-pg';
import { expectNothingLeft, failureOf, insert, items, openPool, warningsOf } from './fixture.js';

const mine = new Error('mine');

describe('hooks', () => {
  it('of a commit run in their order, one after the other, before the caller hears of it', async () => {
    const pool = openPool('commit');
    const log: string[] = [];
    const result = await pool.transaction(async (transaction) => {
      transaction.afterCommit(async () => {
        await tick();
        log.push('first');
      });
      afterCommit(() => log.push('second'));
      transaction.afterRollback(() => log.push('never'));
      afterRollback(() => log.push('never'));
      await transaction.query(insert(1));
      log.push('work');
      return 'done';
    });
    expect(result).toBe('done');
    expect(log).toEqual(['work', 'first', 'second']);
    await expectNothingLeft(pool);
  });

  it('of a rollback run likewise, and those of a commit never do', async () => {
    const pool = openPool('rollback');
    const log: string[] = [];
    const run = pool.transaction(async (transaction) => {
      transaction.afterCommit(() => log.push('never'));
      transaction.afterRollback(() => log.push('first'));
      afterRollback(() => log.push('second'));
      await transaction.query(insert(1));
      throw mine;
    });
    expect(await failureOf(run)).toBe(mine);
    expect(log).toEqual(['first', 'second']);
    await expectNothingLeft(pool);
  });

  it('run when it is true, outside of the transaction, with the connection back', async () => {
    const pool = openPool('back', { pool: { max: 1 } });
    const seen: unknown[] = [];
    await pool.transaction(async (transaction) => {
      afterCommit(async () => {
        expect(pool.currentTransaction).toBeUndefined();
        expect(transaction.isOpen).toBe(false);
        expect(pool.idleCount).toBe(1);
        // A pool of one is enough.
        seen.push((await pool.query('SELECT id FROM item')).rows);
        await pool.transaction((another) => another.query(insert(2)));
      });
      await pool.query(insert(1));
    });
    await failureOf(
      pool.transaction(async () => {
        afterRollback(async () => seen.push((await pool.query('SELECT id FROM item')).rows));
        await pool.query(insert(3));
        throw mine;
      }),
    );
    expect(seen).toEqual([[{ id: 1 }], [{ id: 1 }, { id: 2 }]]);
    expect(await items()).toEqual([1, 2]);
    await expectNothingLeft(pool);
  });

  it('that throw are told of as warnings, and change nothing', async () => {
    const pool = openPool('throw');
    const log: string[] = [];
    const done = pool.transaction(() => {
      afterCommit(() => {
        throw mine;
      });
      afterCommit(() => Promise.reject(new Error('later')));
      afterCommit(() => log.push('last'));
      return 'done';
    });
    expect(await done).toBe('done');
    const failed = pool.transaction(() => {
      afterRollback(() => {
        throw new Error('hook');
      });
      throw mine;
    });
    expect(await failureOf(failed)).toBe(mine);
    expect(log).toEqual(['last']);
    expect(warningsOf(pool)).toEqual(
      ['mine', 'later', 'hook'].map(
        (text) => `Pool "${pool.name}": a hook that runs after a transaction threw: Error: ${text}`,
      ),
    );
    await expectNothingLeft(pool);
  });

  it.each([
    ['COMMIT fails', async (transaction: PgTransaction) => void (await transaction.query('SELECT 1/0').catch(() => 0))],
    ['statements are not awaited', (transaction: PgTransaction) => void transaction.query('SELECT pg_sleep(600)')],
  ])('of a rollback run where %s', async (_, work) => {
    const pool = openPool('fails');
    const log: string[] = [];
    const run = pool.transaction((transaction) => {
      afterCommit(() => log.push('never'));
      afterRollback(() => log.push('rolled back'));
      return work(transaction);
    });
    await failureOf(run);
    expect(log).toEqual(['rolled back']);
    await expectNothingLeft(pool);
  });

  it('of an inner transaction follow the fate of the outer one', async () => {
    const pool = openPool('inner');
    const log: string[] = [];
    const inner = (name: string, fails = false): Promise<void> =>
      pool.transaction(async () => {
        afterCommit(() => log.push(`${name} committed`));
        afterRollback(() => log.push(`${name} rolled back`));
        await pool.query('SELECT 1');
        if (fails) throw mine;
      });
    await pool.transaction(async () => {
      await inner('kept');
      await inner('undone', true).catch(() => undefined);
      expect(log).toEqual([]);
      afterCommit(() => log.push('outer committed'));
    });
    expect(log.splice(0)).toEqual(['kept committed', 'undone rolled back', 'outer committed']);
    await failureOf(
      pool.transaction(async () => {
        await inner('lost');
        await inner('undone', true).catch(() => undefined);
        throw mine;
      }),
    );
    expect(log.splice(0)).toEqual(['lost rolled back', 'undone rolled back']);
    await failureOf(
      pool.transaction(async () => {
        await pool.transaction(async () => {
          await inner('innermost');
          throw mine;
        });
      }),
    );
    expect(log).toEqual(['innermost rolled back']);
    await expectNothingLeft(pool);
  });

  it('of an inner transaction that was not awaited run as well', async () => {
    const pool = openPool('inner-unawaited');
    const log: string[] = [];
    await failureOf(
      pool.transaction((outer) => {
        void outer.transaction(async (inner) => {
          inner.afterRollback(() => log.push('rolled back'));
          inner.afterCommit(() => log.push('never'));
          await inner.query('SELECT pg_sleep(600)');
        });
      }),
    );
    expect(log).toEqual(['rolled back']);
    await expectNothingLeft(pool);
  });

  it('are those of each run: what a failed one asked for is not done twice', async () => {
    const pool = openPool('retry');
    const log: string[] = [];
    await pool.transaction(
      async ({ attempt }) => {
        afterCommit(() => log.push(`${attempt} committed`));
        afterRollback(() => log.push(`${attempt} rolled back`));
        if (attempt < 3) await pool.query("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$");
      },
      { retry: { baseMillis: 1 } },
    );
    expect(log).toEqual(['1 rolled back', '2 rolled back', '3 committed']);
    await expectNothingLeft(pool);
  });

  it('cannot be asked for when the transaction is over', async () => {
    const pool = openPool('over');
    let late: (() => void)[] = [];
    await pool.transaction((transaction) => {
      late = [() => transaction.afterCommit(() => undefined), () => transaction.afterRollback(() => undefined)];
      setImmediate(() => {
        late.push(() => afterCommit(() => undefined));
      });
      const bound = (): void => afterCommit(() => undefined);
      late.push(bound);
    });
    for (const ask of late.slice(0, 2))
      expect(ask).toThrow(expect.objectContaining({ code: 'PG_TRANSACTION_ENDED' }) as Error);
    await expectNothingLeft(pool);
  });

  it('are refused to what has outlived the transaction in its context', async () => {
    const pool = openPool('outlived');
    let straggler: Promise<unknown> | undefined;
    await pool.transaction(() => {
      straggler = tick()
        .then(() => tick())
        .then(() => afterCommit(() => undefined));
      straggler.catch(() => undefined);
    });
    expect(await failureOf(straggler as Promise<unknown>)).toMatchObject({ code: 'PG_TRANSACTION_ENDED' });
    await expectNothingLeft(pool);
  });

  it('without a transaction: of a commit at once, after the present code; of a rollback never', async () => {
    const log: string[] = [];
    afterCommit(() => log.push('committed'));
    afterRollback(() => log.push('never'));
    log.push('present');
    await tick();
    expect(log).toEqual(['present', 'committed']);
    const pool = openPool('outside');
    await pool.transaction(async () => {
      pool.outside(() => afterCommit(() => log.push('outside')));
      await tick();
      expect(log).toContain('outside');
    });
    await expectNothingLeft(pool);
  });
});
