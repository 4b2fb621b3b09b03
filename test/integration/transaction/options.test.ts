import { getEventListeners } from 'node:events';
import { setImmediate as tick } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import type { PgPool, PgTransaction, TransactionOptions } from 'nestjs-pg';
import { adminQuery, sessionsOf, waitFor } from '../../support/postgres.js';
import { expectNothingLeft, failureOf, insert, items, openPool, server, watchPool } from './fixture.js';

const SHOWN = ['transaction_isolation', 'transaction_read_only', 'transaction_deferrable'] as const;

/** What the server says of the transaction. */
async function shown(queryable: Pick<PgPool, 'query'>, ...more: string[]): Promise<string[]> {
  const names = more.length > 0 ? more : SHOWN;
  const { rows } = await queryable.query({
    text: `SELECT ${names.map((name) => `current_setting('${name}', true)`).join(', ')}`,
    rowMode: 'array',
  });
  return rows[0] as string[];
}

const sleeping = (pool: PgPool): Promise<unknown> =>
  waitFor(async () => (await sessionsOf(server(), pool.name)).some(({ wait_event }) => wait_event === 'PgSleep'), {
    message: 'a statement to sleep',
  });

/** Nothing of the transaction runs on, and the connection serves the next. */
async function expectOver(pool: PgPool): Promise<void> {
  const active = (await sessionsOf(server(), pool.name)).filter(({ state }) => state !== 'idle');
  expect(active).toEqual([]);
  expect(await items()).toEqual([]);
  expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
  await expectNothingLeft(pool);
}

beforeAll(async () => {
  await adminQuery(server(), 'CREATE ROLE tenant');
  await adminQuery(server(), 'GRANT INSERT, SELECT ON item TO tenant');
});

describe('the modes of a transaction', () => {
  it.each<[TransactionOptions | undefined, string[]]>([
    [undefined, ['read committed', 'off', 'off']],
    [{}, ['read committed', 'off', 'off']],
    [{ isolation: 'read uncommitted' }, ['read uncommitted', 'off', 'off']],
    [{ isolation: 'repeatable read' }, ['repeatable read', 'off', 'off']],
    [{ isolation: 'serializable' }, ['serializable', 'off', 'off']],
    [{ readOnly: true }, ['read committed', 'on', 'off']],
    [{ isolation: 'serializable', readOnly: true, deferrable: true }, ['serializable', 'on', 'on']],
  ])('%j are what the server has, for this transaction alone', async (options, expected) => {
    const pool = openPool('modes', { pool: { max: 1 } });
    expect(await pool.transaction((transaction) => shown(transaction), options)).toEqual(expected);
    expect(await pool.transaction(() => shown(pool))).toEqual(['read committed', 'off', 'off']);
    const batch = await pool.batch(
      SHOWN.map((name) => `SELECT current_setting('${name}') AS value`),
      options,
    );
    expect(batch.map(({ rows }) => rows[0]?.value as string)).toEqual(expected);
    await expectNothingLeft(pool);
  });

  it("are the server's where nothing is said", async () => {
    const pool = openPool('defaults', {
      options: '-c default_transaction_isolation=serializable -c default_transaction_read_only=on',
    });
    expect(await pool.transaction((transaction) => shown(transaction))).toEqual(['serializable', 'on', 'off']);
    expect(await pool.transaction((transaction) => shown(transaction), { readOnly: false })).toEqual([
      ...['serializable', 'off', 'off'],
    ]);
    await expectNothingLeft(pool);
  });

  it('read-only refuses to write', async () => {
    const pool = openPool('read-only');
    const writing = pool.transaction((transaction) => transaction.query(insert(1)), { readOnly: true });
    await expect(writing).rejects.toMatchObject({ code: '25006' });
    await expectNothingLeft(pool);
  });
});

describe('settings and role', () => {
  const NAMES = ['app.tenant', 'statement_timeout', 'work_mem', 'role'];
  const OPTIONS = {
    settings: { 'app.tenant': "o'hara; --", statement_timeout: 12_345, work_mem: '7MB' },
    role: 'tenant',
  };

  it('hold for the transaction alone, whichever way it ends', async () => {
    const pool = openPool('settings', { pool: { max: 1 } });
    const before = await shown(pool, ...NAMES);
    const inside = ["o'hara; --", '12345ms', '7MB', 'tenant'];
    expect(await pool.transaction((transaction) => shown(transaction, ...NAMES), OPTIONS)).toEqual(inside);
    // A setting of one's own is known from then on, and empty.
    const after = ['', ...before.slice(1)];
    expect(await shown(pool, ...NAMES)).toEqual(after);
    const ends: ((transaction: PgTransaction) => unknown)[] = [
      () => pool.query('SELECT 1/0'),
      () => Promise.reject(new Error('mine')),
      () => pool.transaction(() => pool.query(insert(1))),
      (transaction) => void transaction.query('SELECT pg_sleep(600)'),
    ];
    for (const end of ends) {
      const run = pool.transaction(async (transaction) => {
        expect(await shown(transaction, ...NAMES)).toEqual(inside);
        await end(transaction);
      }, OPTIONS);
      await run.catch(() => undefined);
      expect(await shown(pool, ...NAMES)).toEqual(after);
      expect(await pool.transaction(() => shown(pool, ...NAMES))).toEqual(after);
    }
    const [batch] = await pool.batch(
      ["SELECT current_setting('app.tenant') AS tenant, current_user::text AS name"],
      OPTIONS,
    );
    expect(batch?.rows).toEqual([{ tenant: "o'hara; --", name: 'tenant' }]);
    expect(await shown(pool, ...NAMES)).toEqual(after);
    expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
    await expectNothingLeft(pool);
  });

  it('are set in an order in which the role need not be allowed to set the others', async () => {
    const pool = openPool('role-last', { pool: { max: 1 } });
    const settings = { session_replication_role: 'replica' };
    const inside = pool.transaction((transaction) => shown(transaction, 'session_replication_role', 'role'), {
      role: 'tenant',
      settings,
    });
    expect(await inside).toEqual(['replica', 'tenant']);
    await expect(
      pool.transaction((transaction) => transaction.query('SET LOCAL session_replication_role = replica'), {
        role: 'tenant',
      }),
    ).rejects.toMatchObject({ code: '42501' });
    await expectNothingLeft(pool);
  });

  it('survive the failure of an inner transaction', async () => {
    const pool = openPool('settings-inner', { pool: { max: 1 } });
    await pool.transaction(async (outer) => {
      // The settings travel with what fails.
      await failureOf(outer.transaction((inner) => inner.query('SELECT 1/0')));
      expect(await shown(outer, 'app.tenant', 'role')).toEqual(["o'hara; --", 'tenant']);
    }, OPTIONS);
    await expectNothingLeft(pool);
  });
});

describe('timeoutMillis', () => {
  it('cancels the running statement on the server and rolls back', async () => {
    const pool = openPool('timeout', { pool: { max: 1 } });
    await pool.open();
    const error = await failureOf(
      pool.transaction(
        async (transaction) => {
          await transaction.query('SELECT pg_sleep(600)');
        },
        { timeoutMillis: 100 },
      ),
    );
    expect(error).toMatchObject({ code: 'PG_TRANSACTION_TIMEOUT' });
    expect(error.message).toContain('was not over within 100 ms (timeoutMillis)');
    await expectOver(pool);
  });

  it('ends a function that ignores it, and what that does later goes nowhere', async () => {
    const pool = openPool('ignores', { pool: { max: 1 } });
    await pool.open();
    let goOn: (() => void) | undefined;
    let late: Promise<Error> | undefined;
    const error = await failureOf(
      pool.transaction(
        async (transaction) => {
          transaction.signal.addEventListener('abort', () => goOn?.());
          await new Promise<void>((resolve) => (goOn = resolve));
          late = failureOf(transaction.query(insert(1)));
          await new Promise(() => undefined);
        },
        { timeoutMillis: 20 },
      ),
    );
    await tick();
    expect(await late).toBe(error);
    await expectOver(pool);
  });

  it('holds for the waiting for a connection', async () => {
    const pool = openPool('waits', { pool: { max: 1 } });
    const lease = await pool.connect();
    const run = pool.transaction(() => 1, { timeoutMillis: 20 });
    await expect(run).rejects.toMatchObject({ code: 'PG_TRANSACTION_TIMEOUT' });
    await expect(pool.batch(['SELECT 1'], { timeoutMillis: 20 })).rejects.toMatchObject({
      code: 'PG_TRANSACTION_TIMEOUT',
    });
    expect(pool.waitingCount).toBe(0);
    lease.release();
    await expectOver(pool);
  });

  it('ends a batch', async () => {
    const pool = openPool('batch', { pool: { max: 1 } });
    await pool.open();
    const batch = pool.batch([insert(1), 'SELECT pg_sleep(600)'], { timeoutMillis: 100 });
    await expect(batch).rejects.toMatchObject({ code: 'PG_TRANSACTION_TIMEOUT' });
    await expectOver(pool);
  });

  it('is kept by the server as well, where it can, for a client that is gone', async () => {
    const pool = openPool('server-side', { pool: { max: 1 } });
    const [version] = await shown(pool, 'server_version_num');
    const inside = await pool.transaction(() => shown(pool, 'transaction_timeout'), { timeoutMillis: 5_000 });
    expect(inside).toEqual([Number(version) >= 170_000 ? '6s' : null]);
    expect(await shown(pool, 'transaction_timeout')).not.toEqual(['6s']);
    await expectNothingLeft(pool);
  });

  it('during COMMIT, in a network that swallows everything, is unknown', async () => {
    await using watched = await watchPool('commit-hole');
    const { pool, proxy } = watched;
    const error = await failureOf(
      pool.transaction(
        async (transaction) => {
          await transaction.query(insert(1));
          proxy.blackHole();
        },
        { timeoutMillis: 200 },
      ),
    );
    expect(error).toMatchObject({ code: 'PG_COMMIT_UNKNOWN', cause: { code: 'PG_TRANSACTION_TIMEOUT' } });
    proxy.heal();
    // The server was told after all, by the network that came back.
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(pool.stats()).toMatchObject({ connects: 2 });
    await expectNothingLeft(pool);
  });

  it('in a network that swallows everything ends all the same', async () => {
    await using watched = await watchPool('hole');
    const { pool, proxy } = watched;
    const error = await failureOf(
      pool.transaction(
        async (transaction) => {
          await transaction.query(insert(1));
          proxy.blackHole();
          await transaction.query('SELECT 1');
        },
        { timeoutMillis: 100 },
      ),
    );
    expect(error).toMatchObject({ code: 'PG_TRANSACTION_TIMEOUT' });
    proxy.heal();
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await waitFor(async () => (await items()).length === 0, { message: 'the rollback' });
    await expectNothingLeft(pool);
  });
});

describe('signal', () => {
  it('cancels the running statement on the server and rolls back, with its reason', async () => {
    const pool = openPool('signal', { pool: { max: 1 } });
    const controller = new AbortController();
    const reason = new Error('enough');
    let seen: unknown;
    const run = failureOf(
      pool.transaction(
        async (transaction) => {
          transaction.signal.addEventListener('abort', () => (seen = transaction.signal.reason));
          await transaction.query(insert(1));
          await transaction.query('SELECT pg_sleep(600)');
        },
        { signal: controller.signal },
      ),
    );
    await sleeping(pool);
    controller.abort(reason);
    const error = await run;
    expect(error).toMatchObject({ code: 'PG_ABORTED', cause: reason });
    expect(seen).toBe(error);
    await expectOver(pool);
  });

  it('that has fired before lets nothing begin', async () => {
    const pool = openPool('fired', { pool: { max: 1 } });
    let isCalled = false;
    const run = pool.transaction(() => (isCalled = true), { signal: AbortSignal.abort() });
    await expect(run).rejects.toMatchObject({ code: 'PG_ABORTED' });
    await expect(pool.batch(['SELECT 1'], { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'PG_ABORTED',
    });
    expect(isCalled).toBe(false);
    expect(pool.stats().acquires).toBe(0);
    await expectNothingLeft(pool);
  });

  it('that fires while a connection is awaited ends the waiting', async () => {
    const pool = openPool('waits', { pool: { max: 1 } });
    const lease = await pool.connect();
    const controller = new AbortController();
    const run = failureOf(pool.transaction(() => 1, { signal: controller.signal }));
    controller.abort();
    expect(await run).toMatchObject({ code: 'PG_ABORTED' });
    lease.release();
    await expectOver(pool);
  });

  it('that fires in the function, before COMMIT, rolls back', async () => {
    const pool = openPool('in-function', { pool: { max: 1 } });
    const controller = new AbortController();
    const run = pool.transaction(
      async (transaction) => {
        await transaction.query(insert(1));
        controller.abort();
        return 'done';
      },
      { signal: controller.signal },
    );
    await expect(run).rejects.toMatchObject({ code: 'PG_ABORTED' });
    await expectOver(pool);
  });

  it('that fires afterwards does nothing, and nothing listens to it any more', async () => {
    const pool = openPool('afterwards', { pool: { max: 1 } });
    const controller = new AbortController();
    const { signal } = controller;
    await pool.transaction((transaction) => transaction.query(insert(1)), { signal });
    await failureOf(pool.transaction(() => Promise.reject(new Error('mine')), { signal }));
    await pool.transaction((outer) => outer.transaction((inner) => inner.query(insert(2)), { signal }));
    await pool.batch([insert(3)], { signal });
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    controller.abort();
    expect(await items()).toEqual([1, 2, 3]);
    await expectNothingLeft(pool);
  });

  it('of a transaction without limits never fires', async () => {
    const pool = openPool('never');
    await pool.transaction((transaction) => expect(transaction.signal.aborted).toBe(false));
    await expectNothingLeft(pool);
  });
});

describe('a bad option', () => {
  it.each([{ isolation: 'snapshot' }, { timeoutMillis: -1 }, { settings: { '1a': 1 } }, { isolationLevel: 'x' }])(
    '%j rejects before anything is asked of the pool',
    async (options) => {
      const pool = openPool('bad');
      const run = pool.transaction(() => 1, options as TransactionOptions);
      await expect(run).rejects.toMatchObject({ code: 'PG_CONFIG_INVALID' });
      await expect(pool.batch(['SELECT 1'], options as TransactionOptions)).rejects.toMatchObject({
        code: 'PG_CONFIG_INVALID',
      });
      expect(pool.stats().acquires).toBe(0);
      await expectNothingLeft(pool);
    },
  );
});
