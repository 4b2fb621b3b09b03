import { setImmediate as tick } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import type { PgPool } from 'nestjs-pg';
import { adminQuery, sessionsOf, terminateBackends, waitFor } from '../../support/postgres.js';
import type { FaultProxy } from '../../support/proxy.js';
import { expectNothingLeft, failureOf, insert, items, openPool, server, watchPool, type Watched } from './fixture.js';

beforeAll(async () => {
  await adminQuery(server(), 'CREATE TABLE parent (id int PRIMARY KEY)');
  await adminQuery(server(), 'CREATE TABLE child (id int REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)');
});

/** The server has no session of the pool, so what it was told has been done or never will be. */
const allGone = (pool: PgPool): Promise<unknown> =>
  waitFor(async () => (await sessionsOf(server(), pool.name)).length === 0, { message: 'the sessions to end' });

/** Cuts the connection when `count` more bytes of the client's have passed. */
function cutClientAfter(proxy: FaultProxy, count: number): void {
  let left = count;
  proxy.onData((chunk, from, connection) => {
    if (from === 'server') return chunk;
    const part = chunk.subarray(0, left);
    left -= part.length;
    connection.send('server', part);
    if (left === 0) {
      connection.end();
      proxy.onData((later, side) => (side === 'client' ? undefined : later));
    }
    return undefined;
  });
}

type Way = (pool: PgPool, id: number, before: () => void) => Promise<unknown>;

const WAYS: [string, Way][] = [
  [
    'a transaction',
    (pool, id, before) =>
      pool.transaction(async (transaction) => {
        await transaction.query(insert(id));
        before();
      }),
  ],
  [
    'a batch',
    async (pool, id, before) => {
      before();
      await pool.batch([insert(id), 'SELECT 1']);
    },
  ],
];

/** How many bytes go there and back from `before` on. */
async function exchangeOf({ pool, proxy }: Watched, run: Way): Promise<{ client: number; server: number }> {
  const bytes = { client: 0, server: 0 };
  await pool.query('SELECT 1');
  await run(pool, 1_000, () => {
    proxy.onData((chunk, from) => {
      bytes[from] += chunk.length;
      return chunk;
    });
  });
  proxy.onData(undefined);
  return bytes;
}

describe.each(WAYS)('%s whose connection is cut in the midst of COMMIT', (_, run) => {
  it.each(['client', 'server'] as const)(
    "at each byte of the %s's has a clear result, or an unknown one, and never a wrong one",
    async (side) => {
      // Each run is to send the same bytes.
      await using watched = await watchPool('cut', { pool: { statementCache: false } });
      const { pool, proxy } = watched;
      const exchange = await exchangeOf(watched, run);
      const results = new Map<number, { count: number; error: (Error & { code?: string }) | undefined }>();
      let runs = 0;
      for (let count = 0; count <= exchange[side]; count++) {
        const id = 1_001 + count;
        await pool.query('SELECT 1');
        const attempt = run(pool, id, () => {
          runs++;
          if (count === 0) proxy.cut();
          else if (side === 'server') proxy.limitBytes(count);
          else cutClientAfter(proxy, count);
        });
        const error = await attempt.then(
          () => undefined,
          (reason: unknown) => reason as Error,
        );
        results.set(id, { count, error });
        proxy.onData(undefined);
        proxy.limitBytes(undefined);
        proxy.cut();
      }
      await pool.drain(1);
      await allGone(pool);
      const there = new Set(await items());
      const unknown = { there: 0, notThere: 0 };
      for (const [id, { count, error }] of results) {
        const isThere = there.has(id);
        const what = `cut after ${count} bytes of ${exchange[side]}: ${error?.message ?? 'committed'}`;
        if (!error) expect({ what, isThere }).toEqual({ what, isThere: true });
        else if (error.code !== 'PG_COMMIT_UNKNOWN') expect({ what, isThere }).toEqual({ what, isThere: false });
        else unknown[isThere ? 'there' : 'notThere']++;
      }
      // It is never done again by itself.
      expect(runs).toBe(exchange[side] + 1);
      // Only the whole exchange is a success.
      const committed = [...results.values()].filter(({ error }) => !error);
      expect(committed.map(({ count }) => count)).toEqual(committed.length > 0 ? [exchange[side]] : []);
      expect(unknown.there + unknown.notThere).toBeGreaterThan(exchange[side] - 8);
      if (side === 'server') expect(unknown.there).toBeGreaterThan(0);
      else expect(unknown.notThere).toBeGreaterThan(0);
    },
  );
});

describe('COMMIT', () => {
  it('that the server refuses is no unknown one: its own error, and nothing is there', async () => {
    const pool = openPool('deferred', { pool: { max: 1 } });
    const run = pool.transaction((transaction) => transaction.query('INSERT INTO child VALUES (1)'));
    expect(await failureOf(run)).toMatchObject({ code: '23503' });
    await expect(pool.batch(['INSERT INTO child VALUES (1)', 'SELECT 1'])).rejects.toMatchObject({ code: '23503' });
    expect(await adminQuery(server(), 'SELECT * FROM child')).toEqual([]);
    expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
    await expectNothingLeft(pool);
  });

  it('is understood on a server that speaks another language', async () => {
    await using watched = await watchPool('language');
    const { pool, proxy } = watched;
    proxy.onData((chunk, from) =>
      from === 'server' ? Buffer.from(chunk.toString('latin1').replaceAll('SERROR\0', 'SFEHLE\0'), 'latin1') : chunk,
    );
    const transaction = pool.transaction((open) => open.query('INSERT INTO child VALUES (1)'));
    expect(await failureOf(transaction)).toMatchObject({ code: '23503', severity: 'FEHLE' });
    await expect(pool.batch(['INSERT INTO child VALUES (1)'])).rejects.toMatchObject({ code: '23503' });
    await expect(pool.batch(['SELECT 1', 'SELECT 1/0'])).rejects.toMatchObject({ code: 'PG_BATCH_FAILED', index: 1 });
    await expect(pool.transaction(() => pool.batch(['SELECT 1/0']))).rejects.toMatchObject({ code: 'PG_BATCH_FAILED' });
    expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
    await expectNothingLeft(pool);
  });

  it('that is answered with what is no message of the protocol is unknown', async () => {
    await using watched = await watchPool('garbage');
    const { pool, proxy } = watched;
    for (const run of [
      () =>
        pool.transaction(async (transaction) => {
          await transaction.query(insert(1));
          proxy.onData((chunk, from) => (from === 'server' ? Buffer.from('HTTP/1.1 502 Bad Gateway\r\n\r\n') : chunk));
        }),
      async () => {
        await pool.query('SELECT 1');
        proxy.onData((chunk, from) => (from === 'server' ? Buffer.from('HTTP/1.1 502 Bad Gateway\r\n\r\n') : chunk));
        await pool.batch([insert(2)]);
      },
    ]) {
      expect(await failureOf(run())).toMatchObject({ code: 'PG_COMMIT_UNKNOWN' });
      proxy.onData(undefined);
    }
    expect(await items()).toEqual([1, 2]);
    await expectNothingLeft(pool);
  });

  it('that nobody answers in time (query_timeout) is unknown', async () => {
    await using watched = await watchPool('commit-timeout', { query_timeout: 100 });
    const { pool, proxy } = watched;
    const run = pool.transaction(async (transaction) => {
      await transaction.query(insert(1));
      proxy.blackHole();
    });
    expect(await failureOf(run)).toMatchObject({ code: 'PG_COMMIT_UNKNOWN', cause: { message: 'Query read timeout' } });
    proxy.heal();
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(pool.stats().connects).toBe(2);
    await expectNothingLeft(pool);
  });

  it('whose session is ended by an administrator meanwhile is unknown', async () => {
    await adminQuery(
      server(),
      `CREATE OR REPLACE FUNCTION slow_check() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$`,
    );
    await adminQuery(server(), 'CREATE TABLE slow (id int)');
    await adminQuery(
      server(),
      `CREATE CONSTRAINT TRIGGER slow_check AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow_check()`,
    );
    const pool = openPool('terminated', { pool: { max: 1 } });
    let runs = 0;
    const always = { retry: { when: () => true } };
    for (const run of [
      () => pool.transaction((transaction) => (runs++, transaction.query('INSERT INTO slow VALUES (1)')), always),
      () => (runs++, pool.batch(['INSERT INTO slow VALUES (1)'], always)),
    ]) {
      const failing = failureOf(run());
      const session = await waitFor(
        async () => (await sessionsOf(server(), pool.name)).find(({ wait_event }) => wait_event === 'PgSleep'),
        { message: 'COMMIT to run' },
      );
      process.kill(session.pid, 'SIGTERM');
      expect(await failing).toMatchObject({ code: 'PG_COMMIT_UNKNOWN', cause: { code: '57P01' } });
    }
    // Not even where the predicate would.
    expect(runs).toBe(2);
    await expectNothingLeft(pool);
  });

  it('that is still running when the signal fires is unknown', async () => {
    const pool = openPool('cancelled', { pool: { max: 1 } });
    const controller = new AbortController();
    const failing = failureOf(
      pool.transaction((transaction) => transaction.query('INSERT INTO slow VALUES (1)'), {
        signal: controller.signal,
      }),
    );
    await waitFor(
      async () => (await sessionsOf(server(), pool.name)).find(({ wait_event }) => wait_event === 'PgSleep'),
      { message: 'COMMIT to run' },
    );
    controller.abort();
    expect(await failing).toMatchObject({ code: 'PG_COMMIT_UNKNOWN', cause: { code: 'PG_ABORTED' } });
    // Whether it ends in a COMMIT or not is the server's.
    await terminateBackends(server(), pool.name);
    expect(await adminQuery(server(), 'SELECT * FROM slow')).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('that the server turns into a ROLLBACK is no success', async () => {
    await using watched = await watchPool('turned');
    const { pool, proxy } = watched;
    const run = pool.transaction(async (transaction) => {
      await transaction.query(insert(1));
      await tick();
      proxy.onData((chunk, from) =>
        from === 'server' ? Buffer.from(chunk.toString('latin1').replace('COMMIT\0', 'ROLLBA\0'), 'latin1') : chunk,
      );
    });
    expect(await failureOf(run)).toMatchObject({ code: 'PG_TRANSACTION_ABORTED' });
    proxy.onData(undefined);
    await expectNothingLeft(pool);
  });
});
