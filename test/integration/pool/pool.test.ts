import { AsyncLocalStorage } from 'node:async_hooks';
import diagnostics from 'node:diagnostics_channel';
import { setImmediate as tick, setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import pg from 'pg';
import { createPool, type PgModuleError, type PgOptions, type PgPool } from 'nestjs-pg';
import { adminQuery, sessionsOf, terminateBackends, useServer, waitFor } from '../../support/postgres.js';
import { startProxy } from '../../support/proxy.js';

const server = useServer();

/** A pool of a name of its own, so that a test can count its sessions. Closed at the end of the test's block. */
function openPool(name: string, options: PgOptions = {}): PgPool {
  return createPool({ connectionString: server().connectionString, application_name: name, ...options }, name);
}

async function pidOf(queryable: Pick<PgPool, 'query'>): Promise<number> {
  const { rows } = await queryable.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return rows[0]?.pid ?? 0;
}

const noSessions = (name: string): Promise<unknown> =>
  waitFor(async () => (await sessionsOf(server(), name)).length === 0, { message: `the sessions of ${name} to end` });

describe('query', () => {
  it('takes text, values, configs and callbacks, as pg does', async () => {
    await using pool = openPool('forms');
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect((await pool.query('SELECT $1::int AS one', [1])).rows).toEqual([{ one: 1 }]);
    expect((await pool.query({ text: 'SELECT $1::int AS one', values: [1] })).rows).toEqual([{ one: 1 }]);
    expect((await pool.query({ text: 'SELECT 1, 2', rowMode: 'array' })).rows).toEqual([[1, 2]]);
    const byCallback = await new Promise((resolve) => pool.query('SELECT 1 AS one', (_, { rows }) => resolve(rows)));
    expect(byCallback).toEqual([{ one: 1 }]);
    const withValues = await new Promise((resolve) =>
      pool.query('SELECT $1::int AS one', [1], (_, { rows }) => resolve(rows)),
    );
    expect(withValues).toEqual([{ one: 1 }]);
    const failed = await new Promise((resolve) => pool.query('SELECT 1/0', resolve));
    expect(failed).toBeInstanceOf(pg.DatabaseError);
    expect(pool.totalCount).toBe(1);
  });

  it('rejects with the untouched error of the server, and names the line that asked', async () => {
    await using pool = openPool('errors');
    const error = await pool.query('SELECT 1/0').catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(pg.DatabaseError);
    expect(error).toMatchObject({ code: '22012', severity: 'ERROR', message: 'division by zero' });
    expect((error as Error).stack).toContain('pool.test.ts');
  });

  it('runs a Submittable and takes its connection back', async () => {
    await using pool = openPool('submittable', { pool: { max: 1 } });
    const rows = await new Promise((resolve, reject) => {
      pool.query(new pg.Query('SELECT 1 AS one', (error, result) => (error ? reject(error) : resolve(result.rows))));
    });
    expect(rows).toEqual([{ one: 1 }]);
    const error = await new Promise((resolve) => {
      pool.query(new pg.Query('SELECT 1/0', (reason) => resolve(reason)));
    });
    expect(error).toMatchObject({ code: '22012' });
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(pool.totalCount).toBe(1);
  });

  it('refuses what is no statement', async () => {
    await using pool = openPool('nonsense');
    expect(() => pool.query(undefined as unknown as string)).toThrow(TypeError);
    const pid = await pidOf(pool);
    await expect(pool.query({} as pg.QueryConfig)).rejects.toThrow('A query must have either text or a name');
    expect(await pidOf(pool)).toBe(pid);
  });

  it('closes a connection whose answer did not come in time, and has the server stop', async () => {
    await using pool = openPool('late', { query_timeout: 50 });
    await expect(pool.query('SELECT pg_sleep(10)')).rejects.toThrow('Query read timeout');
    expect((await pool.query('SELECT 1 AS one')).rowCount).toBe(1);
    await waitFor(async () => (await sessionsOf(server(), 'late')).length === 1, {
      message: 'the late session to end',
    });
  });
});

describe('connect', () => {
  it('gives a pg.PoolClient, by promise and by callback', async () => {
    await using pool = openPool('clients');
    const lease: pg.PoolClient = await pool.connect();
    expect(lease).toBeInstanceOf(pg.Client);
    lease.release();
    const rows = await new Promise<unknown>((resolve, reject) => {
      pool.connect((error, client, release) => {
        if (error || !client) {
          reject(error ?? new Error('no client'));
          return;
        }
        void client.query('SELECT 1 AS one').then(({ rows: found }) => {
          release();
          resolve(found);
        });
      });
    });
    expect(rows).toEqual([{ one: 1 }]);
    expect(pool.idleCount).toBe(1);
  });

  it('calls back in the context of who asked, served or refused', async () => {
    const pool = openPool('context', { pool: { max: 1 } });
    const asker = new AsyncLocalStorage<string>();
    type Heard = [asker: string | undefined, code: unknown, release: () => void];
    const ask = (name: string): Promise<Heard> =>
      asker.run(
        name,
        () =>
          new Promise((resolve) => {
            pool.connect((error, _client, release) => {
              resolve([asker.getStore(), (error as PgModuleError | undefined)?.code, release]);
            });
          }),
      );
    const [holder, , releaseHolder] = await ask('holder');
    const waiting = [ask('served'), ask('refused')];
    asker.run('releaser', releaseHolder);
    const [served, noError, release] = (await waiting[0]) as Heard;
    const ended = asker.run('ender', () => pool.end());
    const [refused, code] = (await waiting[1]) as Heard;
    release();
    await ended;
    expect([holder, served, noError, refused, code]).toEqual([
      'holder',
      'served',
      undefined,
      'refused',
      'PG_POOL_CLOSED',
    ]);
  });

  it('serves a long queue of callbacks that release at once, without a call inside the other', async () => {
    await using pool = openPool('long', { pool: { max: 1 } });
    const holder = await pool.connect();
    const waiters = 50_000;
    await new Promise<void>((resolve, reject) => {
      let left = waiters;
      const lent = (error: Error | undefined, _client: unknown, release: () => void): void => {
        if (error) reject(error);
        release();
        if (--left === 0) resolve();
      };
      for (let queued = 0; queued < waiters; queued++) pool.connect(lent);
      expect(pool.waitingCount).toBe(waiters);
      holder.release();
    });
    expect([pool.waitingCount, pool.totalCount, pool.idleCount]).toEqual([0, 1, 1]);
  });

  it('releases at the end of a block, and at the end of withConnection', async () => {
    await using pool = openPool('blocks', { pool: { max: 1 } });
    {
      await using lease = await pool.connect();
      await lease.query('SELECT 1');
    }
    await expect(
      pool.withConnection(async (lease) => {
        await lease.query('BEGIN');
        throw new Error('mine');
      }),
    ).rejects.toThrow('mine');
    expect((await pool.query<{ n: number }>('SELECT 2 AS n')).rows).toEqual([{ n: 2 }]);
  });

  it('lends a connection that keeps the process alive, whatever its last borrower and its rest have made of it', async () => {
    for (const allowExitOnIdle of [false, true]) {
      await using pool = openPool('held', { pool: { max: 1, allowExitOnIdle } });
      const isHeld = (client: pg.PoolClient): boolean =>
        (
          client as unknown as { connection: { stream: { _handle: { hasRef(): boolean } } } }
        ).connection.stream._handle.hasRef();
      const first = await pool.connect();
      expect(isHeld(first)).toBe(true);
      first.unref();
      expect(isHeld(first)).toBe(false);
      first.release();
      const second = await pool.connect();
      expect(isHeld(second)).toBe(true);
      second.release();
    }
  });

  it('keeps the connection after an error, released in the very callback of the error', async () => {
    await using pool = openPool('callback', { pool: { max: 1 } });
    const pid = await pidOf(pool);
    const lease = await pool.connect();
    await new Promise<void>((resolve) => {
      lease.query('SELECT 1/0', () => {
        lease.release();
        resolve();
      });
    });
    expect(await pidOf(pool)).toBe(pid);
  });

  it('hands no transaction on: the row is gone, the session is the same', async () => {
    await using pool = openPool('dirty', { pool: { max: 1 } });
    const warnings: string[] = [];
    pool.on('warning', (message) => warnings.push(message));
    await adminQuery(server(), 'CREATE TABLE IF NOT EXISTS dirty (id int)');
    const lease = await pool.connect();
    const pid = await pidOf(lease);
    await lease.query('BEGIN');
    await lease.query('INSERT INTO dirty VALUES (1)');
    lease.release();
    expect((await pool.query('SELECT * FROM dirty')).rowCount).toBe(0);
    expect(await pidOf(pool)).toBe(pid);
    expect(warnings).toEqual([expect.stringMatching(/^Pool "dirty": .*pool\.test\.ts:\d+:\d+/)]);
  });

  it('ends a statement that was still running when its lease was released', async () => {
    await using pool = openPool('busy', { pool: { max: 1 } });
    const warnings: string[] = [];
    pool.on('warning', (message) => warnings.push(message));
    const lease = await pool.connect();
    const pid = await pidOf(lease);
    const running = lease.query('SELECT pg_sleep(60)');
    const failed = expect(running).rejects.toThrow('Connection terminated');
    lease.release();
    await failed;
    expect(await pidOf(pool)).not.toBe(pid);
    expect(warnings).toEqual([expect.stringContaining('Await every query before releasing')]);
  });

  it('sets up each connection once, under the deadline of connecting', async () => {
    let setUps = 0;
    await using pool = openPool('setup', {
      pool: {
        max: 1,
        onConnect: async (client) => {
          setUps++;
          await client.query("SET search_path TO 'elsewhere'");
        },
      },
    });
    for (let round = 0; round < 3; round++) {
      expect((await pool.query('SHOW search_path')).rows).toEqual([{ search_path: 'elsewhere' }]);
    }
    expect(setUps).toBe(1);
  });

  it('loses no room to an onConnect that hangs', async () => {
    let hang = true;
    await using pool = openPool('hung', {
      pool: {
        max: 1,
        connectTimeoutMillis: 300,
        onConnect: () => (hang ? new Promise<void>(() => undefined) : undefined),
      },
    });
    pool.on('dialFailed', ({ error }) => {
      if (/onConnect: no connection within 300 ms \(connectTimeoutMillis\)/.test(error.message)) hang = false;
    });
    expect((await pool.query('SELECT 1 AS one')).rowCount).toBe(1);
    await waitFor(async () => (await sessionsOf(server(), 'hung')).length === 1, {
      message: 'the hung session to end',
    });
  });
});

describe('a signal', () => {
  it('cancels a statement on the server, and the connection serves on', async () => {
    await using pool = openPool('signal', { pool: { max: 1 } });
    const pid = await pidOf(pool);
    const abort = new AbortController();
    const slow = pool.query({ text: 'SELECT pg_sleep(60)', signal: abort.signal });
    await waitFor(async () => (await sessionsOf(server(), 'signal')).some(({ state }) => state === 'active'), {
      message: 'the statement to run',
    });
    const told = expect(slow).rejects.toMatchObject({ code: 'PG_ABORTED', cause: 'enough' });
    abort.abort('enough');
    await told;
    expect(await pidOf(pool)).toBe(pid);
  });

  it('never hits the statement that comes after', async () => {
    await using pool = openPool('late-cancel', { pool: { max: 1 } });
    for (let round = 0; round < 50; round++) {
      const abort = new AbortController();
      const cancelled = pool.query({ text: 'SELECT pg_sleep(0.001)', signal: abort.signal }).catch(() => undefined);
      setImmediate(() => abort.abort());
      expect((await pool.query<{ round: number }>('SELECT $1::int AS round', [round])).rows).toEqual([{ round }]);
      await cancelled;
    }
    expect(pool.totalCount).toBe(1);
  });

  it('ends the waiting for a connection', async () => {
    await using pool = openPool('waiting', { pool: { max: 1 } });
    await using lease = await pool.connect();
    const signal = AbortSignal.timeout(20);
    await expect(pool.query({ text: 'SELECT 1', signal })).rejects.toMatchObject({ code: 'PG_ABORTED' });
    await expect(pool.connect({ signal })).rejects.toMatchObject({ code: 'PG_ABORTED' });
    expect(pool.waitingCount).toBe(0);
    await lease.query('SELECT 1');
  });
});

it('changes its size and its connections while it works', async () => {
  await using pool = openPool('resized', { pool: { min: 1, max: 2 } });
  await pool.open();
  pool.resize({ min: 3, max: 5 });
  expect(pool.options).toMatchObject({ min: 3, max: 5 });
  await waitFor(() => pool.idleCount === 3, { message: 'the larger min to be open' });
  const before = (await sessionsOf(server(), 'resized')).map(({ pid }) => pid);
  pool.evict();
  await waitFor(
    async () => {
      const now = (await sessionsOf(server(), 'resized')).map(({ pid }) => pid);
      return now.length === 3 && now.every((pid) => !before.includes(pid));
    },
    { message: 'three new sessions' },
  );
  pool.suspend();
  const held = pool.query('SELECT 1 AS one');
  expect(pool.waitingCount).toBe(1);
  pool.resume();
  expect((await held).rowCount).toBe(1);
  expect(() => pool.resize({ min: 9 })).toThrow('resize.min (9) is greater than resize.max (5).');
});

describe('faults', () => {
  it('replaces idle connections that the server ends, and no borrower notices', async () => {
    await using pool = openPool('idle-death', { pool: { min: 3, max: 3 } });
    await pool.open();
    const errors: Error[] = [];
    pool.on('error', (error) => errors.push(error));
    expect(await terminateBackends(server(), 'idle-death')).toBe(3);
    await waitFor(() => errors.length === 3, { message: 'the pool to see three deaths' });
    const rows = await Promise.all(Array.from({ length: 9 }, () => pool.query('SELECT 1 AS one')));
    expect(rows).toHaveLength(9);
    await waitFor(() => pool.idleCount === 3, { message: 'min to be open again' });
  });

  it('survives the end of connections that are lent: statement in flight, and none', async () => {
    await using pool = openPool('leased-death', { pool: { max: 2 } });
    const quiet = await pool.connect();
    const running = pool.query('SELECT pg_sleep(60)');
    const failed = expect(running).rejects.toMatchObject({ code: '57P01' });
    await waitFor(async () => (await sessionsOf(server(), 'leased-death')).some(({ state }) => state === 'active'), {
      message: 'the statement to run',
    });
    await terminateBackends(server(), 'leased-death');
    await failed;
    await waitFor(() => quiet.isClosed, { message: 'the quiet connection to notice' });
    await expect(quiet.query('SELECT 1')).rejects.toThrow();
    quiet.release();
    expect((await pool.query('SELECT 1 AS one')).rowCount).toBe(1);
    expect(pool.totalCount).toBe(1);
  });

  it('comes back after the server was gone: only what was in flight fails', async () => {
    await using pool = openPool('restart', { pool: { min: 2, max: 4 } });
    await pool.open();
    const inFlight = Array.from({ length: 2 }, () =>
      pool.query('SELECT pg_sleep(60)').catch((error: unknown) => error),
    );
    await waitFor(
      async () => (await sessionsOf(server(), 'restart')).filter(({ state }) => state === 'active').length === 2,
      { message: 'both statements to run' },
    );
    await server().stop('immediate');
    for (const error of await Promise.all(inFlight)) expect(error).toBeInstanceOf(Error);
    const waiting = Array.from({ length: 10 }, () => pool.query<{ one: number }>('SELECT 1 AS one'));
    await server().start();
    for (const { rows } of await Promise.all(waiting)) expect(rows).toEqual([{ one: 1 }]);
    await waitFor(() => pool.idleCount >= 2, { message: 'min to be open again' });
  });

  it('replaces a connection whose network has gone silent while it rested, and the borrower does not notice', async () => {
    await using proxy = await startProxy({ host: server().host, port: server().port });
    await using pool = openPool('silent', {
      connectionString: undefined,
      ...{ host: proxy.host, port: proxy.port, user: 'postgres', password: 'postgres', database: 'postgres' },
      pool: { max: 1, validateAfterIdleMillis: 1, validateTimeoutMillis: 100, connectTimeoutMillis: 500 },
    });
    const pid = await pidOf(pool);
    proxy.blackHole();
    // Longer than validateAfterIdleMillis: nothing but time makes a connection stale.
    await delay(5);
    // What is held back now is the old connection's; a new one goes through.
    const borrowed = pidOf(pool);
    await waitFor(() => pool.totalCount === 0 || proxy.accepted > 1, {
      message: 'the silent connection to be given up',
    });
    proxy.heal();
    expect(await borrowed).not.toBe(pid);
  });

  it('tells a borrower that the server is down, not that the pool is full', async () => {
    await using proxy = await startProxy({ host: server().host, port: server().port });
    await proxy.refuse();
    await using pool = openPool('down', {
      connectionString: undefined,
      ...{ host: proxy.host, port: proxy.port, user: 'postgres', password: 'postgres', database: 'postgres' },
      ssl: false,
      pool: { acquireTimeoutMillis: 300 },
    });
    await expect(pool.query('SELECT 1')).rejects.toMatchObject({
      code: 'PG_ACQUIRE_TIMEOUT',
      message: expect.stringMatching(/within \d+ ms .*none can be opened: .*ECONNREFUSED/),
    });
    const served = pool.query('SELECT 1 AS one');
    await proxy.accept();
    expect((await served).rowCount).toBe(1);
  });

  it('gives up a connection that hangs in any phase, and says in which', async () => {
    await using proxy = await startProxy({ host: server().host, port: server().port });
    proxy.blackHole();
    await using pool = openPool('black-hole', {
      connectionString: undefined,
      ...{ host: proxy.host, port: proxy.port, user: 'postgres', password: 'postgres', database: 'postgres' },
      pool: { connectTimeoutMillis: 300 },
    });
    const failure = new Promise<Error>((resolve) => {
      pool.on('dialFailed', ({ error }) => resolve(error));
    });
    const served = pool.query('SELECT 1 AS one');
    expect((await failure).message).toMatch(/TLS: no connection within 300 ms/);
    proxy.heal();
    expect((await served).rowCount).toBe(1);
  });

  it('fails at once with a password that is wrong', async () => {
    await using pool = openPool('wrong', { password: 'wrong-secret-word' });
    const error = await pool.query('SELECT 1').catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'PG_CONNECT_FAILED', permanent: true });
    expect((error as Error).message).toMatch(/authentication failed.*28P01/);
    expect(JSON.stringify(error)).not.toContain('wrong-secret-word');
  });
});

describe('end', () => {
  it('leaves no session, settles everything, and may be called again and again', async () => {
    const pool = openPool('ended', { pool: { min: 3, max: 3 } });
    await pool.open();
    const ends = [pool.end(), pool.end(), pool.drain()];
    await Promise.all(ends);
    await pool.end();
    expect(pool).toMatchObject({ ended: true, ending: true, totalCount: 0 });
    await expect(pool.query('SELECT 1')).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
    await expect(pool.connect()).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
    await noSessions('ended');
  });

  it('lets statements in flight finish', async () => {
    const pool = openPool('finishing');
    const slow = pool.query<{ done: string }>("SELECT pg_sleep(0.2), 'yes' AS done");
    await waitFor(() => pool.totalCount === 1 && pool.waitingCount === 0, { message: 'the statement to be sent' });
    await pool.end();
    expect((await slow).rows[0]?.done).toBe('yes');
    await noSessions('finishing');
  });

  it('cancels at the deadline what does not finish', async () => {
    const pool = openPool('cancelled', { pool: { drainTimeoutMillis: 50 } });
    const lease = await pool.connect();
    const told = expect(lease.query('SELECT pg_sleep(60)')).rejects.toMatchObject({ code: '57014' });
    const { holders } = await pool.drain();
    await told;
    expect(holders).toHaveLength(1);
    await noSessions('cancelled');
    lease.release();
    await tick();
  });
});

it('says what it does by the events of pg.Pool', async () => {
  const pool = openPool('events', { pool: { max: 1 } });
  const events: string[] = [];
  pool.on('connect', () => events.push('connect'));
  pool.on('acquire', () => events.push('acquire'));
  pool.on('release', (error) => events.push(`release ${error ? error.message : 'ok'}`));
  pool.on('remove', () => events.push('remove'));
  const lease = await pool.connect();
  lease.release();
  const again = await pool.connect();
  again.release(new Error('broken'));
  await pool.end();
  expect(events).toEqual(['connect', 'acquire', 'release ok', 'acquire', 'release broken', 'remove']);
});

it('says what it does on diagnostics channels', async () => {
  const seen: [string, object][] = [];
  const names = ['connect', 'acquire', 'release', 'retire', 'query'];
  const listeners = names.map((name) => (message: unknown) => void seen.push([name, message as object]));
  names.forEach((name, index) => diagnostics.subscribe(`nestjs-pg:${name}`, listeners[index] as () => void));
  const pool = openPool('channels', { pool: { max: 1 } });
  await pool.query('SELECT 1');
  await expect(pool.query({ text: 'SELECT 1/0' })).rejects.toThrow();
  await pool.end();
  names.forEach((name, index) => diagnostics.unsubscribe(`nestjs-pg:${name}`, listeners[index] as () => void));
  const some = expect.any(Number) as number;
  expect(seen).toMatchObject([
    ['connect', { pool: 'channels', client: expect.any(pg.Client), millis: some }],
    ['acquire', { pool: 'channels', waitedMillis: some }],
    ['release', { pool: 'channels', error: undefined }],
    ['query', { pool: 'channels', text: 'SELECT 1', millis: some, error: undefined }],
    ['acquire', { pool: 'channels', waitedMillis: 0 }],
    ['release', { pool: 'channels' }],
    ['query', { pool: 'channels', text: 'SELECT 1/0', error: { code: '22012' } }],
    ['retire', { pool: 'channels', cause: 'drain' }],
  ]);
  expect(pool.stats()).toMatchObject({ acquires: 2, connects: 1, retired: { drain: 1 }, draining: true, total: 0 });
});

it('says on the same channel what is run inside of a transaction', async () => {
  const seen: object[] = [];
  const listener = (message: unknown): void => void seen.push(message as object);
  diagnostics.subscribe('nestjs-pg:query', listener);
  await using pool = openPool('transactional');
  await pool.transaction(async (transaction) => {
    await pool.query('SELECT 1');
    await transaction.query('SELECT 2');
  });
  diagnostics.unsubscribe('nestjs-pg:query', listener);
  expect(seen).toMatchObject([
    { pool: 'transactional', text: 'SELECT 1', millis: expect.any(Number) as number, error: undefined },
    { pool: 'transactional', text: 'SELECT 2' },
  ]);
});

it('is not torn by a listener that throws', async () => {
  await using pool = openPool('throwing', { pool: { max: 1 } });
  const warnings: string[] = [];
  pool.on('warning', (message) => warnings.push(message));
  pool.on('acquire', () => {
    throw new Error('listener');
  });
  expect((await pool.query('SELECT 1 AS one')).rowCount).toBe(1);
  expect((await pool.query('SELECT 1 AS one')).rowCount).toBe(1);
  expect(warnings[0]).toContain('a listener of its event "acquire" threw: Error: listener');
});

it('serves a crowd with few connections', async () => {
  await using pool = openPool('crowd', { pool: { max: 5 } });
  const results = await Promise.all(
    Array.from({ length: 1_000 }, (_, index) => pool.query<{ n: number }>('SELECT $1::int AS n', [index])),
  );
  expect(results.map(({ rows }) => rows[0]?.n)).toEqual(Array.from({ length: 1_000 }, (_, index) => index));
  expect(pool.totalCount).toBeLessThanOrEqual(5);
  expect((await sessionsOf(server(), 'crowd')).length).toBeLessThanOrEqual(5);
});
