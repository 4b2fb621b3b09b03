import { describe, expect, it } from 'vitest';
import type { PgLease } from 'nestjs-pg';
import { deferred } from '../../../lib/util/deferred.js';
import { ManualClock } from '../../support/manual-clock.js';
import { adminQuery, terminateBackends } from '../../support/postgres.js';
import {
  eventually,
  expectSessions,
  failuresOf,
  openPool,
  pidOf,
  pidsOf,
  RealTime,
  server,
  sessions,
  sleep,
  startNetwork,
  through,
  warningsOf,
} from './pool-under-test.js';

/** HikariCP's tests, by their names: what they show of HikariCP holds here. See docs/pool-conformance.md. */
describe('HikariCP', () => {
  it('TestConnections.testMaximumPoolLimit: 20 borrowers and max 4 open exactly 4 connections', async () => {
    const pool = openPool('limit', { pool: { min: 1, max: 4 } });
    const enough = deferred<void>();
    const borrowers = Array.from({ length: 20 }, async () => {
      const lease = await pool.connect();
      const pid = await pidOf(lease);
      await enough.promise;
      lease.release();
      return pid;
    });
    await eventually(() => pool.stats().leased === 4, 'four connections to be lent');
    expect(pool.stats()).toMatchObject({ total: 4, dialling: 0, waiting: 16 });
    const open = await pidsOf(pool);
    expect(open).toHaveLength(4);
    enough.resolve();
    expect(new Set(await Promise.all(borrowers))).toEqual(new Set(open));
    expect(pool.stats()).toMatchObject({ connects: 4, acquires: 20, idle: 4 });
    expect(await pidsOf(pool)).toEqual(open);
  });

  it('TestConnections.testMaxLifetime2: the same connection before its expiry, another one after it', async () => {
    const clock = new ManualClock();
    const pool = openPool('lifetime', { pool: { max: 1, maxLifetimeSeconds: 7, lifetimeJitter: 0 } }, clock);
    const pid = await pidOf(pool);
    expect(await pidOf(pool)).toBe(pid);
    await clock.advance(6_999);
    expect(await pidOf(pool)).toBe(pid);
    await clock.advance(1);
    const next = await pidOf(pool);
    expect(next).not.toBe(pid);
    expect(pool.stats()).toMatchObject({ total: 1, idle: 1, retired: { lifetime: 1 } });
    await expectSessions(pool, 1);
    expect(await pidsOf(pool)).toEqual([next]);
  });

  it('TestConnections.testKeepalive: an idle connection survives a network that forgets the silent after 700 ms', async () => {
    await using proxy = await startNetwork();
    const clock = new ManualClock();
    let heard = 0;
    proxy.onData((chunk, from) => {
      if (from === 'client') heard = clock.now();
      return chunk;
    });
    // The network's patience is measured on the pool's clock.
    const pass = async (): Promise<void> => {
      for (let step = 0; step < 60; step++) {
        await clock.advance(50);
        await eventually(() => pool.stats().validating === 0, 'the ping to be answered');
        if (clock.now() - heard >= 700) proxy.cut();
      }
    };
    const connectionString = through(proxy);
    let pool = openPool('keepalive', { connectionString, pool: { max: 1, keepaliveMillis: 300 } }, clock);
    const pid = await pidOf(pool);
    await pass();
    expect(await pidsOf(pool)).toEqual([pid]);
    expect(pool.stats()).toMatchObject({ idle: 1, acquires: 1, connects: 1 });

    await pool.end();
    pool = openPool('silent', { connectionString, pool: { max: 1 } }, clock);
    await pidOf(pool);
    await pass();
    await expectSessions(pool, 0);
  });

  it('TestConnections.testBackfill: a connection that broke while it was lent is replaced though nobody asks', async () => {
    const pool = openPool('backfill', { pool: { min: 1, max: 4 } });
    await pool.open();
    const lease = await pool.connect();
    const pid = await pidOf(lease);
    await expect(lease.query('SELECT pg_terminate_backend(pg_backend_pid())')).rejects.toMatchObject({ code: '57P01' });
    lease.release();
    expect(pool.stats()).toMatchObject({ leased: 0, idle: 0 });
    await eventually(() => pool.idleCount === 1, 'the replacement');
    await expectSessions(pool, 1);
    expect(await pidsOf(pool)).not.toEqual([pid]);
    expect(pool.stats()).toMatchObject({ total: 1, acquires: 1, connects: 2 });
  });

  it('TestConnections.testEvictAllRefill: when all have been evicted, min connections are opened again', async () => {
    const pool = openPool('refill', { pool: { min: 5, max: 10 } });
    await pool.open();
    const before = await pidsOf(pool);
    expect(before).toHaveLength(5);
    pool.evict();
    expect(pool.idleCount).toBe(0);
    await eventually(() => pool.idleCount === 5, 'five idle connections');
    await expectSessions(pool, 5);
    const after = await pidsOf(pool);
    expect(before.filter((pid) => after.includes(pid))).toEqual([]);
    expect(pool.stats()).toMatchObject({ total: 5, connects: 10, acquires: 0, retired: { evicted: 5 } });
  });

  it('TestConnections.testSuspendResume: borrowers are held while the pool is suspended, and served when it resumes', async () => {
    const pool = openPool('suspended', { pool: { min: 3, max: 3 } });
    await pool.open();
    const first = await pool.connect();
    pool.suspend();
    const held = [pool.connect(), pool.connect()];
    await pidOf(first);
    expect(pool.stats()).toMatchObject({ idle: 2, waiting: 2, suspended: true });
    first.release();
    expect(pool.stats()).toMatchObject({ idle: 3, waiting: 2 });
    pool.resume();
    const leases = await Promise.all(held);
    expect(pool.stats()).toMatchObject({ idle: 1, leased: 2, waiting: 0, suspended: false });
    expect(await pidsOf(pool)).toHaveLength(3);
    for (const lease of leases) lease.release();
  });

  it('TestConnections.testInitializationFailure1: a first borrow that can never succeed fails at once; one that may yet waits, and is told why it was in vain', async () => {
    // A refused connection may be a server that starts: HikariCP gives up after a millisecond, we after the acquire timeout.
    const clock = new ManualClock();
    const wrong = openPool('wrong', { password: 'wrong', pool: { min: 1, max: 1 } }, clock);
    await expect(wrong.connect()).rejects.toMatchObject({ code: 'PG_CONNECT_FAILED', permanent: true });
    expect(clock.now()).toBe(0);
    expect(wrong.stats()).toMatchObject({ total: 0, connectFailures: 1, timeouts: 0 });

    await using proxy = await startNetwork();
    await proxy.refuse();
    const refused = openPool(
      'refused',
      { connectionString: through(proxy), pool: { min: 1, max: 1, acquireTimeoutMillis: 2_500 } },
      clock,
    );
    const borrower = refused.connect().catch((error: unknown) => error);
    await eventually(() => failuresOf(refused).length === 1, 'the first attempt to fail');
    await clock.advance(2_499);
    expect(refused.waitingCount).toBe(1);
    await clock.advance(1);
    expect(await borrower).toMatchObject({
      code: 'PG_ACQUIRE_TIMEOUT',
      message: expect.stringMatching(/within 2\.5 s .*none can be opened: .*ECONNREFUSED/),
    });
  });

  it('TestConnectionTimeoutRetry.testConnectionRetries2: a borrower is served when the server returns before the deadline', async () => {
    await using proxy = await startNetwork();
    await proxy.refuse();
    const clock = new ManualClock();
    const pool = openPool(
      'returns',
      { connectionString: through(proxy), pool: { max: 1, acquireTimeoutMillis: 2_800 } },
      clock,
    );
    const borrower = pidOf(pool);
    await eventually(() => failuresOf(pool).length === 1, 'the first attempt to fail');
    const [first] = failuresOf(pool);
    await clock.advance(first?.retryInMillis ?? 0);
    await eventually(() => failuresOf(pool).length === 2, 'the second attempt to fail');
    await proxy.accept();
    await clock.advance(failuresOf(pool)[1]?.retryInMillis ?? 0);
    const pid = await borrower;
    expect(await pidsOf(pool)).toEqual([pid]);
    expect(clock.now()).toBeLessThan(2_800);
    expect(pool.stats()).toMatchObject({ connectFailures: 2, connects: 1, timeouts: 0 });
  });

  it('ConnectionPoolSizeVsThreadsTest.testSlowConnectionTimeBurstyWork: slow connecting in a burst opens at most one connection that nobody needs', async () => {
    const workDone = deferred<void>();
    let dials = 0;
    const pool = openPool('bursty', {
      pool: { min: 2, max: 100 },
      connectionFactory: async (connect, options) => {
        if (++dials > 2) await workDone.promise;
        return connect(options);
      },
    });
    await pool.open();
    await Promise.all(
      Array.from({ length: 50 }, async () => {
        for (let unit = 0; unit < 100; unit++) (await pool.connect()).release();
      }),
    );
    expect(pool.stats()).toMatchObject({ acquires: 5_000, waiting: 0, leased: 0 });
    workDone.resolve();
    await eventually(() => pool.stats().dialling === 0, 'the last connection to come up');
    expect(pool.stats().connects).toBeLessThanOrEqual(3);
    expect((await sessions(pool)).length).toBeLessThanOrEqual(3);
  });

  it('TestSaturatedPool830.saturatedPoolTest: timeouts subside once no more is asked for than the pool can serve', async () => {
    const clock = new ManualClock();
    const real = new RealTime();
    const pool = openPool('saturated', { pool: { min: 5, max: 10, acquireTimeoutMillis: 1_000 } }, clock);
    const outcomes: boolean[] = [];
    // A second of work that ends in an error of the server, which must cost no connection.
    const work = async (): Promise<boolean> => {
      let lease: PgLease;
      try {
        lease = await pool.connect();
      } catch (error) {
        expect(error).toMatchObject({ code: 'PG_ACQUIRE_TIMEOUT' });
        return false;
      }
      await real.track(expect(lease.query('SELECT bogus FROM imaginary')).rejects.toMatchObject({ code: '42P01' }));
      await real.track(eventually(() => lease.isReady, 'the server to be ready after the error'));
      await sleep(clock, 1_000);
      lease.release();
      return true;
    };
    const begin = async (): Promise<void> => void outcomes.push(await work());
    const all = Array.from({ length: 50 }, begin);
    await eventually(() => pool.stats().leased === 10, 'the pool to be saturated');
    expect(pool.waitingCount).toBe(40);
    // Ten a second, which is what ten connections can do.
    const arrivals = async (): Promise<void> => {
      for (let arrival = 0; arrival < 200; arrival++) {
        await sleep(clock, 100);
        all.push(begin());
      }
    };
    await real.drive(clock, 50, arrivals());
    await real.drive(clock, 50, Promise.all(all));
    const failed = outcomes.filter((served) => !served).length;
    expect(failed).toBeGreaterThanOrEqual(30);
    expect(outcomes.slice(-100)).toEqual(Array<boolean>(100).fill(true));
    expect(pool.stats()).toMatchObject({
      timeouts: failed,
      acquires: 250 - failed,
      waiting: 0,
      idle: 10,
      connects: 10,
    });
    expect(await sessions(pool)).toHaveLength(10);
  });

  it('ShutdownTest.testShutdown1: leases that never come back do not keep a single connection open', async () => {
    const clock = new ManualClock();
    const pool = openPool('shutdown', { pool: { max: 10, drainTimeoutMillis: 1_800 } }, clock);
    const leases = await Promise.all(Array.from({ length: 10 }, () => pool.connect()));
    expect(await sessions(pool)).toHaveLength(10);
    let over = false;
    const end = pool.drain().then((report) => {
      over = true;
      return report;
    });
    await clock.advance(1_799);
    expect(over).toBe(false);
    expect(await sessions(pool)).toHaveLength(10);
    await clock.advance(1);
    expect((await end).holders).toHaveLength(10);
    expect(pool.stats()).toMatchObject({ leased: 0, idle: 0, total: 0 });
    expect(pool.ended).toBe(true);
    await expectSessions(pool, 0);
    for (const lease of leases) lease.release();
    expect(pool.totalCount).toBe(0);
  });

  it('ShutdownTest.testAfterShutdown: a closed pool says that it is closed', async () => {
    const pool = openPool('after', { pool: { max: 5 } });
    await pool.end();
    const closed = {
      code: 'PG_POOL_CLOSED',
      message: expect.stringContaining(`Pool "${pool.name}" is closed`) as string,
    };
    await expect(pool.connect()).rejects.toMatchObject(closed);
    await expect(pool.query('SELECT 1')).rejects.toMatchObject(closed);
    await expect(pool.open()).rejects.toMatchObject(closed);
    expect(await sessions(pool)).toEqual([]);
  });

  it('MiscTest.testLeakDetection: a lease held too long is told with the line that took it, and its return as well', async () => {
    const clock = new ManualClock();
    const pool = openPool('leak', { pool: { max: 2, leakThresholdMillis: 1_000 } }, clock);
    const lease = await pool.connect();
    await clock.advance(999);
    expect(warningsOf(pool)).toEqual([]);
    await clock.advance(5_000);
    expect(warningsOf(pool)).toEqual([
      expect.stringMatching(/hikaricp\.test\.ts:\d+:\d+\)? has been held for [\s\S]*\n {4}at /),
    ]);
    expect(pool.stats().leaks).toBe(1);
    lease.release();
    expect(warningsOf(pool)[1]).toMatch(/hikaricp\.test\.ts:\d+:\d+\)? came back after/);
    expect(warningsOf(pool)).toHaveLength(2);
    expect(await sessions(pool)).toHaveLength(1);
  });

  it('BrokenConnectionEvictionTest.testRemoteCloseLocalInMemory: when the server has ended every session, all of twice as many borrowers succeed', async () => {
    const clock = new ManualClock();
    const pool = openPool('kicked', { pool: { min: 3, max: 3 } }, clock);
    const crowd = (): Promise<number[]> => Promise.all(Array.from({ length: 6 }, () => pidOf(pool)));
    await pool.open();
    const before = await pidsOf(pool);
    for (const pid of await crowd()) expect(before).toContain(pid);
    expect(await terminateBackends(server(), pool.name)).toBe(3);
    // The default of validateAfterIdleMillis: it makes no difference whether the pool has heard of the end yet.
    await clock.advance(30_000);
    for (const pid of await crowd()) expect(before).not.toContain(pid);
    await eventually(() => pool.idleCount === 3, 'min to be open again');
    await expectSessions(pool, 3);
  });

  it('TestCredentials.testCredentialsProvider: the password is asked for at every connect, and at no other time', async () => {
    const { host, port, database } = server();
    let password = 'first';
    let asked = 0;
    await adminQuery(server(), `CREATE ROLE courier LOGIN PASSWORD '${password}'`);
    const pool = openPool('credentials', {
      ...{ connectionString: undefined, host, port, database, user: 'courier' },
      password: async () => {
        asked++;
        return password;
      },
      pool: { max: 1 },
    });
    expect(asked).toBe(0);
    const pid = await pidOf(pool);
    expect(await pidOf(pool)).toBe(pid);
    expect(asked).toBe(1);
    password = 'second';
    await adminQuery(server(), `ALTER ROLE courier PASSWORD '${password}'`);
    pool.evict();
    expect(await pidOf(pool)).not.toBe(pid);
    expect(asked).toBe(2);
    await expectSessions(pool, 1);
    expect(await sessions(pool)).toMatchObject([{ usename: 'courier' }]);
  });
});
