import { describe, expect, it } from 'vitest';
import { deferred } from '../../../lib/util/deferred.js';
import { ManualClock } from '../../support/manual-clock.js';
import {
  eventually,
  expectSessions,
  failuresOf,
  openPool,
  pidOf,
  pidsOf,
  RealTime,
  sessions,
  sleep,
  startNetwork,
  through,
  warningsOf,
} from './pool-under-test.js';

/** psycopg_pool's tests, by their names: what they show of psycopg_pool holds here. See docs/pool-conformance.md. */
describe('psycopg_pool', () => {
  it('test_intrans_rollback: a transaction left open is rolled back on the same connection, with one warning', async () => {
    const pool = openPool('intrans', { pool: { max: 1 } });
    const lease = await pool.connect();
    const pid = await pidOf(lease);
    await lease.query('BEGIN');
    await lease.query('CREATE TABLE test_intrans_rollback ()');
    expect(lease.getTransactionStatus()).toBe('T');
    lease.release();
    const next = await pool.connect();
    expect(next.getTransactionStatus()).toBe('I');
    expect(await pidOf(next)).toBe(pid);
    const { rows } = await next.query("SELECT to_regclass('test_intrans_rollback') AS found");
    expect(rows).toEqual([{ found: null }]);
    next.release();
    expect(warningsOf(pool)).toEqual([expect.stringMatching(/psycopg-pool\.test\.ts.*open transaction/)]);
    expect(await pidsOf(pool)).toEqual([pid]);
  });

  it('test_inerror_rollback: a failed transaction is rolled back on the same connection, with one warning', async () => {
    const pool = openPool('inerror', { pool: { max: 1 } });
    const lease = await pool.connect();
    const pid = await pidOf(lease);
    await lease.query('BEGIN');
    await expect(lease.query('wat')).rejects.toMatchObject({ code: '42601' });
    await eventually(() => lease.getTransactionStatus() === 'E', 'the server to be ready after the error');
    lease.release();
    const next = await pool.connect();
    expect(next.getTransactionStatus()).toBe('I');
    expect(await pidOf(next)).toBe(pid);
    next.release();
    expect(warningsOf(pool)).toEqual([expect.stringMatching(/psycopg-pool\.test\.ts.*open transaction/)]);
    expect(await sessions(pool)).toMatchObject([{ pid, state: 'idle' }]);
  });

  it('test_active_close: a connection that comes back while a statement runs is closed, and the statement ends', async () => {
    const pool = openPool('active', { pool: { max: 1 } });
    const lease = await pool.connect();
    const pid = await pidOf(lease);
    const running = expect(lease.query('SELECT pg_sleep(600)')).rejects.toThrow();
    await eventually(async () => (await sessions(pool))[0]?.state === 'active', 'the statement to run');
    lease.release();
    await running;
    const next = await pool.connect();
    expect(await pidOf(next)).not.toBe(pid);
    expect(next.getTransactionStatus()).toBe('I');
    next.release();
    await eventually(async () => !(await pidsOf(pool)).includes(pid), 'the statement to end at the server');
    expect(warningsOf(pool)).toEqual([expect.stringMatching(/psycopg-pool\.test\.ts.*still running/)]);
  });

  it('test_reset_badstate: a reset that leaves a transaction open costs the connection, and nobody meets it', async () => {
    const pool = openPool('bad-reset', { pool: { max: 1, reset: { sql: 'RESET ALL; BEGIN' } } });
    const pid = await pidOf(pool);
    const next = await pool.connect();
    expect(next.getTransactionStatus()).toBe('I');
    expect(await pidOf(next)).not.toBe(pid);
    next.release();
    await eventually(() => warningsOf(pool).length === 2, 'both resets to be told');
    expect(warningsOf(pool)[0]).toMatch(/pool\.reset .*transaction/);
    await expectSessions(pool, 0);
    expect(pool.stats().retired).toEqual({ reset: 2 });
  });

  it('test_configure_badstate: a connection whose onConnect leaves a transaction open is not lent, and the failure says so', async () => {
    const clock = new ManualClock();
    let isBad = true;
    const pool = openPool(
      'bad-configure',
      {
        pool: {
          ...{ max: 1, acquireTimeoutMillis: 500 },
          onConnect: async (client) => {
            await client.query(isBad ? 'BEGIN' : 'SELECT 1');
          },
        },
      },
      clock,
    );
    const borrower = pool.connect();
    borrower.then(
      (lease) => lease.release(),
      () => undefined,
    );
    await eventually(() => failuresOf(pool).length === 1 || pool.stats().acquires === 1, 'the attempt to end');
    expect(pool.stats().acquires).toBe(0);
    expect(failuresOf(pool)[0]?.error.message).toMatch(/onConnect.*transaction/);
    await expectSessions(pool, 0);
    await clock.advance(500);
    await expect(borrower).rejects.toMatchObject({ code: 'PG_ACQUIRE_TIMEOUT' });
    isBad = false;
    const lease = await pool.connect();
    expect(lease.getTransactionStatus()).toBe('I');
    lease.release();
  });

  it('test_queue_size: one has the connection, three wait, the fifth is refused with the name and the limit', async () => {
    const pool = openPool('queue-size', { pool: { max: 1, maxWaiting: 3 } });
    const first = await pool.connect();
    const waiting = Array.from({ length: 3 }, () => pidOf(pool));
    const refused = await pool.connect().catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'PG_QUEUE_FULL' });
    expect((refused as Error).message).toContain(`Pool "${pool.name}"`);
    expect((refused as Error).message).toContain('pool.maxWaiting is 3');
    const pid = await pidOf(first);
    first.release();
    expect(await Promise.all(waiting)).toEqual([pid, pid, pid]);
    expect(pool.stats()).toMatchObject({ queueFull: 1, acquires: 4, connects: 1, waiting: 0 });
    expect(await pidsOf(pool)).toEqual([pid]);
  });

  it('test_queue_timeout: those who wait are refused at their deadline, neither sooner nor later', async () => {
    const clock = new ManualClock();
    const pool = openPool('queue-timeout', { pool: { max: 2, acquireTimeoutMillis: 100 } }, clock);
    const leases = [await pool.connect(), await pool.connect()];
    const errors: unknown[] = [];
    for (let waiter = 0; waiter < 2; waiter++) void pool.connect().catch((error: unknown) => errors.push(error));
    await clock.advance(99);
    expect(errors).toEqual([]);
    await clock.advance(1);
    const timedOut = {
      code: 'PG_ACQUIRE_TIMEOUT',
      message: expect.stringMatching(/within 100 ms .*: 2 of 2 are lent/) as string,
    };
    expect(errors).toMatchObject([timedOut, timedOut]);
    for (const lease of leases) {
      await lease.query('SELECT 1');
      lease.release();
    }
    expect(pool.stats()).toMatchObject({ timeouts: 2, acquires: 2, idle: 2, waiting: 0 });
    expect(await sessions(pool)).toHaveLength(2);
  });

  // Patience is the pool's, not the borrower's: a single borrower's ends by its signal.
  it('test_dead_client: a waiter that gave up takes no connection with it', async () => {
    const pool = openPool('dead-client', { pool: { max: 2 } });
    const served: number[] = [];
    const impatient = new AbortController();
    const enough = deferred<void>();
    const worker = async (id: number, signal?: AbortSignal): Promise<void> => {
      const lease = await pool.connect({ signal });
      await enough.promise;
      await lease.query('SELECT 1');
      served.push(id);
      lease.release();
    };
    const all = [worker(0), worker(1), worker(2, impatient.signal), worker(3), worker(4)];
    await eventually(() => pool.stats().leased === 2, 'both connections to be lent');
    impatient.abort();
    enough.resolve();
    const ends = await Promise.allSettled(all);
    expect(ends[2]).toMatchObject({ status: 'rejected', reason: { code: 'PG_ABORTED' } });
    expect(served.toSorted()).toEqual([0, 1, 3, 4]);
    expect(pool.stats()).toMatchObject({ idle: 2, total: 2, leased: 0, waiting: 0, aborted: 1 });
    expect(await sessions(pool)).toHaveLength(2);
  });

  it('test_closed_queue: closing rejects who waits, and lets who has a connection finish', async () => {
    const pool = openPool('closed-queue', { pool: { max: 1 } });
    const lease = await pool.connect();
    const waiter = expect(pool.connect()).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
    const end = pool.end();
    await waiter;
    expect((await lease.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(pool.ended).toBe(false);
    expect(await sessions(pool)).toHaveLength(1);
    lease.release();
    await end;
    await expectSessions(pool, 0);
  });

  it('test_reconnect: the delay between attempts doubles up to its limit, and the connection is back with the server', async () => {
    await using proxy = await startNetwork();
    const clock = new ManualClock();
    let dials = 0;
    const pool = openPool(
      'reconnect',
      {
        connectionString: through(proxy),
        pool: { min: 1, max: 1 },
        connectionFactory: (connect, options) => {
          dials++;
          return connect(options);
        },
      },
      clock,
    );
    await pool.open();
    const [pid] = await pidsOf(pool);
    dials = 0;
    await proxy.refuse();
    proxy.cut();
    const delays: number[] = [];
    for (let attempt = 1; attempt <= 9; attempt++) {
      await eventually(() => failuresOf(pool).length === attempt, `attempt ${attempt} to fail`);
      const { failures, retryInMillis = NaN } = failuresOf(pool)[attempt - 1] ?? {};
      expect(failures).toBe(attempt);
      await clock.advance(retryInMillis - 1);
      expect(dials).toBe(attempt);
      if (attempt === 9) await proxy.accept();
      await clock.advance(1);
      expect(dials).toBe(attempt + 1);
      delays.push(retryInMillis);
    }
    // Its limit is 5 s for min and 1 s while somebody waits; chance takes up to half of a delay, here always half.
    expect(delays).toEqual([50, 100, 200, 400, 800, 1_600, 2_500, 2_500, 2_500]);
    await eventually(() => pool.idleCount === 1, 'the connection to be back');
    expect(await pidsOf(pool)).not.toEqual([pid]);
    expect(await pidsOf(pool)).toEqual([await pidOf(pool)]);
  });

  // psycopg_pool gives up after reconnect_timeout and tells that once; min is never given up here, and every failure told.
  it('test_reconnect_failure: each failed attempt is told, and once the server is back a borrower does not sit out the delay', async () => {
    await using proxy = await startNetwork();
    const clock = new ManualClock();
    const pool = openPool('failure', { connectionString: through(proxy), pool: { min: 1, max: 1 } }, clock);
    await pool.open();
    await proxy.refuse();
    proxy.cut();
    const failures = failuresOf(pool);
    while (clock.now() < 1_000) {
      const known = failures.length;
      await clock.advance(failures.at(-1)?.retryInMillis ?? 0);
      await eventually(() => failures.length > known, 'the next attempt to fail');
    }
    expect(failures.map((failure) => failure.failures)).toEqual(failures.map((_, index) => index + 1));
    expect(failures.at(-1)?.error.message).toContain('ECONNREFUSED');
    expect(pool.stats()).toMatchObject({ total: 0, dialling: 0 });
    await expectSessions(pool, 0);
    expect(failures.at(-1)?.retryInMillis).toBeGreaterThan(200);
    await proxy.accept();
    const back = clock.now();
    expect(await pidsOf(pool)).toEqual([]);
    const pid = await pidOf(pool);
    expect(clock.now()).toBe(back);
    expect(await pidsOf(pool)).toEqual([pid]);
  });

  // psycopg_pool's period is its idle timeout; here it is a second at most.
  it('test_shrink: four connections become three, then two, and two remain', async () => {
    const clock = new ManualClock();
    const pool = openPool('shrink', { pool: { min: 2, max: 4, idleTimeoutMillis: 200 } }, clock);
    const leases = await Promise.all(Array.from({ length: 4 }, () => pool.connect()));
    for (const lease of leases) lease.release();
    await clock.advance(199);
    expect(pool.stats()).toMatchObject({ total: 4, idle: 4 });
    expect(await sessions(pool)).toHaveLength(4);
    await clock.advance(1);
    expect(pool.totalCount).toBe(3);
    await expectSessions(pool, 3);
    await clock.advance(199);
    expect(pool.totalCount).toBe(3);
    await clock.advance(1);
    expect(pool.totalCount).toBe(2);
    await expectSessions(pool, 2);
    await clock.advance(10_000);
    expect(pool.stats()).toMatchObject({ total: 2, idle: 2, retired: { idle: 2 } });
    expect(await sessions(pool)).toHaveLength(2);
  });

  it('test_spike: 50 workers at once, 2 ms each where connecting takes 150, leave fewer than 7 connections', async () => {
    const clock = new ManualClock();
    const real = new RealTime();
    const pool = openPool(
      'spike',
      {
        pool: { min: 5, max: 10 },
        connectionFactory: async (connect, options) => {
          await sleep(clock, 150);
          return real.track(connect(options));
        },
      },
      clock,
    );
    await real.drive(clock, 10, pool.open());
    expect(await sessions(pool)).toHaveLength(5);
    const worker = async (): Promise<void> => {
      const lease = await pool.connect();
      await real.track(lease.query('SELECT 1'));
      await sleep(clock, 2);
      lease.release();
    };
    await real.drive(clock, 1, Promise.all(Array.from({ length: 50 }, worker)));
    await real.drive(clock, 10, sleep(clock, 1_000));
    expect(pool.stats()).toMatchObject({ acquires: 50, leased: 0, waiting: 0, dialling: 0 });
    expect(pool.stats().connects).toBeLessThan(7);
    expect((await sessions(pool)).length).toBeLessThan(7);
  });

  it('test_drain: every connection is replaced, those that are lent when they come back', async () => {
    const pool = openPool('drain', { pool: { min: 2, max: 2 } });
    await pool.open();
    const before = await pidsOf(pool);
    const lease = await pool.connect();
    const lent = await pidOf(lease);
    pool.evict();
    await eventually(() => pool.idleCount === 1, 'the idle connection to be replaced');
    await eventually(
      async () => (await pidsOf(pool)).filter((pid) => before.includes(pid)).length === 1,
      'it to be gone',
    );
    expect(await pidOf(lease)).toBe(lent);
    lease.release();
    await eventually(() => pool.idleCount === 2, 'the lent connection to be replaced');
    await eventually(async () => (await pidsOf(pool)).every((pid) => !before.includes(pid)), 'it to be gone');
    expect(await sessions(pool)).toHaveLength(2);
    expect(pool.stats().retired).toEqual({ evicted: 2 });
  });

  it('test_get_config_rotates_connections: each connection is opened with the configuration of its moment', async () => {
    const clock = new ManualClock();
    let version = 0;
    const pool = openPool(
      'config',
      {
        pool: { max: 1, maxLifetimeSeconds: 60, lifetimeJitter: 0 },
        connectionFactory: (connect, options) =>
          connect({ ...options, applicationName: `${pool.name}:${String(++version)}` }),
      },
      clock,
    );
    const names: unknown[] = [];
    for (let round = 0; round < 3; round++) {
      await pidOf(pool);
      await pidOf(pool);
      await expectSessions(pool, 1);
      names.push((await sessions(pool))[0]?.application_name);
      await clock.advance(60_000);
    }
    expect(names).toEqual([1, 2, 3].map((number) => `${pool.name}:${number}`));
  });

  it('test_connect_check_timeout: checking and connecting together obey the one deadline of the borrower', async () => {
    await using proxy = await startNetwork();
    const clock = new ManualClock();
    const pool = openPool(
      'check-timeout',
      {
        connectionString: through(proxy),
        pool: {
          ...{ min: 3, max: 3, acquireTimeoutMillis: 1_000 },
          ...{ validateAfterIdleMillis: 1, validateTimeoutMillis: 400 },
        },
      },
      clock,
    );
    await pool.open();
    proxy.blackHole();
    await clock.advance(1);
    let error: unknown;
    const borrower = pool.connect().catch((reason: unknown) => (error = reason));
    await clock.advance(400);
    expect(pool.stats()).toMatchObject({ waiting: 1, retired: { invalid: 1 } });
    await clock.advance(599);
    expect(error).toBeUndefined();
    await clock.advance(1);
    expect(error).toMatchObject({
      code: 'PG_ACQUIRE_TIMEOUT',
      message: expect.stringContaining('within 1 s') as string,
    });
    await borrower;
    proxy.heal();
    const lease = await pool.connect();
    await lease.query('SELECT 1');
    lease.release();
  });

  // There is no putconn: a lease is released by itself, and knows whose it is.
  it('test_putconn_wrong_pool: a lease goes back to the pool that lent it, and to no other', async () => {
    const [one, other] = [openPool('one', { pool: { max: 1 } }), openPool('other', { pool: { max: 1 } })];
    const [lease, kept] = [await one.connect(), await other.connect()];
    const before = other.stats();
    lease.release();
    expect(one.stats()).toMatchObject({ leased: 0, idle: 1, acquires: 1 });
    expect(() => lease.release()).toThrow(expect.objectContaining({ code: 'PG_LEASE_RELEASED' }) as Error);
    expect(other.stats()).toEqual(before);
    expect((await kept.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    kept.release();
    expect(await sessions(one)).toHaveLength(1);
    expect(await sessions(other)).toHaveLength(1);
  });

  it('test_stats_measures: the sizes are exact, at rest, in use and with a queue', async () => {
    const pool = openPool('measures', { pool: { min: 2, max: 4 } });
    await pool.open();
    expect(pool.stats()).toMatchObject({ min: 2, max: 4, total: 2, idle: 2, waiting: 0 });
    expect(await sessions(pool)).toHaveLength(2);
    for (const [workers, total, waiting] of [
      [3, 3, 0],
      [7, 4, 3],
    ] as const) {
      const enough = deferred<void>();
      const all = Array.from({ length: workers }, async () => {
        const lease = await pool.connect();
        await enough.promise;
        await lease.query('SELECT 1');
        lease.release();
      });
      await eventually(() => pool.stats().leased === total && pool.stats().dialling === 0, 'the workers to be served');
      expect(pool.stats()).toMatchObject({ total, idle: 0, leased: total, waiting });
      expect(pool).toMatchObject({ totalCount: total, idleCount: 0, waitingCount: waiting });
      expect(await sessions(pool)).toHaveLength(total);
      enough.resolve();
      await Promise.all(all);
    }
    expect(pool.stats()).toMatchObject({ total: 4, idle: 4, leased: 0, waiting: 0 });
  });
});
