import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { createPool, type PgOptions, type PgPool, type PoolReset } from 'nestjs-pg';
import { sessionsOf, useServer, waitFor } from '../../support/postgres.js';
import { startProxy } from '../../support/proxy.js';

const server = useServer();

function openPool(name: string, reset: PoolReset, options: PgOptions = {}): PgPool {
  const pool = { max: 1, reset };
  return createPool({ connectionString: server().connectionString, application_name: name, pool, ...options }, name);
}

async function one(queryable: Pick<PgPool, 'query'>, sql: string): Promise<unknown> {
  const { rows } = await queryable.query<{ value: unknown }>(`SELECT ${sql} AS value`);
  return rows[0]?.value;
}

/** What a borrower may leave behind in a session, and how the next one would meet it. */
const REMAINS: [what: string, leave: string, look: string, clean: unknown][] = [
  ['a setting', "SET search_path TO 'elsewhere'", "current_setting('search_path')", '"$user", public'],
  ['a role', 'SET ROLE pg_monitor', 'current_user', 'postgres'],
  ['a session user', 'SET SESSION AUTHORIZATION pg_monitor', 'session_user', 'postgres'],
  ['a cursor', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1', "(SELECT count(*)::int FROM pg_cursors WHERE name = 'c')", 0],
  ['a channel', 'LISTEN mine', '(SELECT count(*)::int FROM pg_listening_channels())', 0],
  [
    'an advisory lock',
    'SELECT pg_advisory_lock(42)',
    "(SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())",
    0,
  ],
  ['a temporary table', 'CREATE TEMP TABLE mine (id int)', "to_regclass('pg_temp.mine')::text", null],
];

describe.each(['clean', 'discard-all'] as const)('reset: %s', (reset) => {
  it.each(REMAINS)('leaves nothing of %s', async (_, leave, look, clean) => {
    await using pool = openPool('remains', reset);
    const lease = await pool.connect();
    const pid = lease.processId;
    expect(await one(lease, look)).toEqual(clean);
    await lease.query(leave);
    expect(await one(lease, look)).not.toEqual(clean);
    lease.release();
    // pool.query is the next borrower: it travels behind the reset.
    expect(await one(pool, look)).toEqual(clean);
    expect(await one(pool, 'pg_backend_pid()')).toBe(pid);
  });

  it('sends the next statement behind the reset, before the reset is answered', async () => {
    await using proxy = await startProxy({ host: server().host, port: server().port });
    await using pool = openPool('flight', reset, {
      connectionString: undefined,
      ...{
        host: proxy.host,
        port: proxy.port,
        user: 'postgres',
        password: 'postgres',
        database: 'postgres',
        ssl: false,
      },
    });
    const lease = await pool.connect();
    await lease.query('SELECT 1');
    lease.release();
    const next = pool.query('SELECT 2 AS two');
    // The answer of the reset cannot have been read: nothing has been awaited since.
    expect(pool.stats()).toMatchObject({ leased: 1, resetting: 0, resets: 1 });
    expect((await next).rows).toEqual([{ two: 2 }]);
    expect(pool.totalCount).toBe(1);
  });

  it('serves any kind of first statement behind it: named, a cursor of pg, one that fails', async () => {
    await using pool = openPool('kinds', reset);
    for (let round = 0; round < 3; round++) {
      const named = await pool.query({ name: 'one', text: 'SELECT $1::int AS one', values: [round] });
      expect(named.rows).toEqual([{ one: round }]);
      await expect(pool.query('SELECT 1/0')).rejects.toMatchObject({ code: '22012' });
      const submitted = await new Promise((resolve, reject) => {
        pool.query(new pg.Query('SELECT 1 AS one', (error, result) => (error ? reject(error) : resolve(result.rows))));
      });
      expect(submitted).toEqual([{ one: 1 }]);
    }
    expect(pool.stats()).toMatchObject({ connects: 1, total: 1 });
  });

  it('closes the connection when it fails, and gives away no result of a statement behind it', async () => {
    await using pool = openPool('failing', reset);
    const lease = await pool.connect();
    const pid = lease.processId ?? 0;
    await lease.query('CREATE TEMP TABLE remains (id int)');
    const table = await one(lease, "quote_ident(pg_my_temp_schema()::regnamespace::text) || '.remains'");
    // DISCARD TEMP waits for this lock, and a cancel can meet it there.
    const blocker = new pg.Client({ connectionString: server().connectionString });
    await blocker.connect();
    await blocker.query('BEGIN');
    await blocker.query(`LOCK TABLE ${String(table)} IN ACCESS SHARE MODE`);
    lease.release();
    const behind = pool.query('SELECT 1 AS one').catch((error: unknown) => error);
    await waitFor(
      async () => (await sessionsOf(server(), 'failing')).some(({ wait_event }) => wait_event === 'relation'),
      {
        message: 'the reset to wait for the lock',
      },
    );
    await blocker.query('SELECT pg_cancel_backend($1)', [pid]);
    const error = await behind;
    await blocker.end();
    expect(error).toMatchObject({ code: 'PG_CONNECTION_LOST' });
    expect((error as Error).message).toMatch(/could not be reset.*canceling statement/);
    expect(await one(pool, 'pg_backend_pid()')).not.toBe(pid);
  });
});

it('discard-all forgets prepared statements on both sides', async () => {
  await using pool = openPool('statements', 'discard-all');
  for (let round = 0; round < 3; round++) {
    await using lease = await pool.connect();
    expect((await lease.query("SELECT name FROM pg_prepared_statements WHERE name = 'same'")).rows).toEqual([]);
    for (const value of [1, 2]) {
      const { rows } = await lease.query({ name: 'same', text: 'SELECT $1::int AS value', values: [value] });
      expect(rows).toEqual([{ value }]);
    }
  }
});

it('clean keeps prepared statements on both sides', async () => {
  await using pool = openPool('kept', 'clean');
  for (let round = 0; round < 3; round++) {
    await pool.query({ name: 'same', text: 'SELECT $1::int AS value', values: [round] });
  }
  expect((await pool.query("SELECT name FROM pg_prepared_statements WHERE name = 'same'")).rows).toEqual([
    { name: 'same' },
  ]);
});

it.each(['DISCARD ALL', 'DEALLOCATE ALL'])('a named statement works on after a %s of the borrower', async (sql) => {
  await using pool = openPool('own', 'rollback');
  for (let round = 0; round < 3; round++) {
    const { rows } = await pool.query({ name: 'same', text: 'SELECT $1::int AS value', values: [round] });
    expect(rows).toEqual([{ value: round }]);
    await pool.query(sql);
  }
  expect(pool.stats().connects).toBe(1);
});

it('rolls back before it discards', async () => {
  await using pool = openPool('both', 'discard-all');
  pool.on('warning', () => undefined);
  const lease = await pool.connect();
  const pid = lease.processId;
  await lease.query('BEGIN');
  await lease.query("SET search_path TO 'elsewhere'");
  lease.release();
  expect(await one(pool, "current_setting('search_path')")).toBe('"$user", public');
  expect(await one(pool, 'pg_backend_pid()')).toBe(pid);
});

it('runs SQL of your own between two leases', async () => {
  await using pool = openPool('sql', { sql: 'RESET ROLE; UNLISTEN *' });
  const lease = await pool.connect();
  await lease.query('SET ROLE pg_monitor');
  lease.release();
  expect(await one(pool, 'current_user')).toBe('postgres');
  expect(pool.stats()).toMatchObject({ connects: 1 });
});

it('closes the connection when SQL of your own fails, and says why', async () => {
  await using pool = openPool('sql-fails', { sql: 'SELECT no_such_function()' });
  const warnings: string[] = [];
  pool.on('warning', (message) => warnings.push(message));
  const lease = await pool.connect();
  const pid = lease.processId;
  lease.release();
  await waitFor(async () => (await sessionsOf(server(), 'sql-fails')).length === 0, { message: 'the session to end' });
  expect(warnings).toEqual([expect.stringMatching(/^Pool "sql-fails": pool\.reset failed.*no_such_function/)]);
  const next = await pool.connect();
  expect(next.processId).not.toBe(pid);
  next.release(true);
});
