import { describe, expect, it } from 'vitest';
import type { PgLease } from 'nestjs-pg';
import { deferred } from '../../../lib/util/deferred.js';
import { ManualClock } from '../../support/manual-clock.js';
import { terminateBackends } from '../../support/postgres.js';
import {
  eventually,
  expectSessions,
  openPool,
  pidOf,
  pidsOf,
  server,
  sessions,
  stall,
  startNetwork,
  through,
  warningsOf,
} from './pool-under-test.js';

/** Tests of pgxpool and of puddle under it, by their names: what they show holds here. See docs/pool-conformance.md. */
describe('pgxpool', () => {
  it('TestPoolAcquireChecksIdleConns: when all idle connections were killed, the borrower gets a new one, and it is the only one', async () => {
    const clock = new ManualClock();
    const pool = openPool('killed', { pool: { max: 3, validateAfterIdleMillis: 1_000 } }, clock);
    const leases = await Promise.all(Array.from({ length: 3 }, () => pool.connect()));
    const before = await pidsOf(pool);
    expect(before).toHaveLength(3);
    for (const lease of leases) lease.release();
    expect(await terminateBackends(server(), pool.name)).toBe(3);
    await clock.advance(1_000);
    const pid = await pidOf(pool);
    expect(before).not.toContain(pid);
    await eventually(() => pool.totalCount === 1, 'the killed connections to be forgotten');
    expect(await pidsOf(pool)).toEqual([pid]);
    expect(await pidOf(pool)).toBe(pid);
  });

  it('TestPoolAcquireChecksIdleConns: with the one on top silent and no new one to be had, the borrower gets the next idle one', async () => {
    await using proxy = await startNetwork();
    const clock = new ManualClock();
    const pool = openPool(
      'next-idle',
      {
        connectionString: through(proxy),
        pool: { max: 2, validateAfterIdleMillis: 1_000, validateTimeoutMillis: 200 },
      },
      clock,
    );
    const [sound, silent] = [await pool.connect(), await pool.connect()];
    const [soundPid, silentPid] = [await pidOf(sound), await pidOf(silent)];
    sound.release();
    silent.release();
    await proxy.refuse();
    await clock.advance(1_000);
    await using _ = await stall(silentPid);
    let outcome: unknown;
    const borrower = pidOf(pool).then(
      (pid) => (outcome = pid),
      (error: unknown) => (outcome = error),
    );
    await clock.advance(200);
    const isOver = (): boolean => {
      const { validating, dialling, connectFailures } = pool.stats();
      return outcome !== undefined || (validating === 0 && dialling === 0 && connectFailures > 0);
    };
    await eventually(isOver, 'the borrower to be served, or nothing to be under way');
    await clock.advance(30_000);
    await borrower;
    expect(outcome).toBe(soundPid);
  });

  it('TestPoolAcquirePingTimeout: a stalled connection is given up at the deadline of the ping, and the borrower gets a new one', async () => {
    const clock = new ManualClock();
    const pool = openPool(
      'ping',
      { pool: { max: 1, validateAfterIdleMillis: 1_000, validateTimeoutMillis: 200 } },
      clock,
    );
    const pid = await pidOf(pool);
    await using _ = await stall(pid);
    await clock.advance(1_000);
    const borrower = pidOf(pool);
    await clock.advance(199);
    expect(pool.stats()).toMatchObject({ validating: 1, waiting: 1, dialling: 0 });
    await clock.advance(1);
    expect(pool.stats()).toMatchObject({ validating: 0, dialling: 1, retired: { invalid: 1 } });
    const next = await borrower;
    expect(next).not.toBe(pid);
    expect(await pidsOf(pool)).toContain(next);
    expect(pool.totalCount).toBe(1);
  });

  it('TestConnReleaseClosesBusyConn: a connection released amid a statement is closed', async () => {
    const pool = openPool('busy-conn', { pool: { max: 1 } });
    const lease = await pool.connect();
    const running = lease.query('SELECT generate_series(1, 10), pg_sleep(600)').catch((error: unknown) => error);
    await eventually(async () => (await sessions(pool))[0]?.state === 'active', 'the statement to run');
    lease.release();
    await eventually(() => pool.totalCount === 0, 'the connection to be closed');
    await expectSessions(pool, 0);
    expect(await running).toBeInstanceOf(Error);
    expect(pool.stats().retired).toEqual({ busy: 1 });
  });

  it('TestConnReleaseClosesBusyConn: a statement that reaches its backend only after the cancel request does not go on', async () => {
    await using proxy = await startNetwork();
    const pool = openPool('late-statement', { connectionString: through(proxy), pool: { max: 1 } });
    const lease = await pool.connect();
    const pid = await pidOf(lease);
    let isRemoved = false;
    pool.once('remove', () => (isRemoved = true));
    // A backend that has much to do: the request finds it idle, and is forgotten.
    await server().pauseBackend(pid);
    const running = lease.query('SELECT pg_sleep(600)').catch((error: unknown) => error);
    lease.release();
    await eventually(() => isRemoved || proxy.accepted > 2, 'the connection to be given up, or a second request');
    await server().resumeBackend(pid);
    expect(await running).toBeInstanceOf(Error);
    await expectSessions(pool, 0).finally(() => terminateBackends(server(), pool.name));
  });

  // pgx destroys both: a rollback costs one round trip, a new connection many, and the session is as clean after either.
  it('TestConnReleaseClosesConnInTransaction: a connection released in a transaction is rolled back and kept', async () => {
    await expectRolledBackAndKept(async (lease) => {
      await lease.query('BEGIN');
      expect(lease.getTransactionStatus()).toBe('T');
    });
  });

  it('TestConnReleaseClosesConnInFailedTransaction: a connection released in a failed transaction is rolled back and kept', async () => {
    await expectRolledBackAndKept(async (lease) => {
      await lease.query('BEGIN');
      await expect(lease.query('selct')).rejects.toMatchObject({ code: '42601' });
      await eventually(() => lease.getTransactionStatus() === 'E', 'the server to be ready after the error');
    });
  });

  it('TestPoolAcquireDestroysExpiredIdleConn: an idle connection past its lifetime is closed when it is asked for', async () => {
    const clock = new ManualClock();
    const pool = openPool('expired', { pool: { max: 1, maxLifetimeSeconds: 1, lifetimeJitter: 0 } }, clock);
    const pid = await pidOf(pool);
    await clock.advance(1_000);
    expect(await pidsOf(pool)).toEqual([pid]);
    const next = await pidOf(pool);
    expect(next).not.toBe(pid);
    expect(pool.stats()).toMatchObject({ connects: 2, total: 1, retired: { lifetime: 1 } });
    await expectSessions(pool, 1);
    expect(await pidsOf(pool)).toEqual([next]);
  });

  it('TestPoolAcquireCalledConstructorIsNotCanceledByAcquireCancellation: a connection that comes up after its borrower has gone is kept', async () => {
    const late = deferred<void>();
    const pool = openPool('late', {
      pool: { max: 10 },
      connectionFactory: async (connect, options) => {
        await late.promise;
        return connect(options);
      },
    });
    const impatient = new AbortController();
    const borrower = expect(pool.connect({ signal: impatient.signal })).rejects.toMatchObject({ code: 'PG_ABORTED' });
    impatient.abort();
    await borrower;
    expect(pool.stats()).toMatchObject({ dialling: 1, waiting: 0, aborted: 1 });
    late.resolve();
    await eventually(() => pool.idleCount === 1, 'the late connection');
    const [pid] = await pidsOf(pool);
    expect(pool.stats()).toMatchObject({ total: 1, connects: 1, acquires: 0 });
    expect(await pidOf(pool)).toBe(pid);
    expect(await pidsOf(pool)).toEqual([pid]);
  });
});

async function expectRolledBackAndKept(leaveOpen: (lease: PgLease) => Promise<void>): Promise<void> {
  const pool = openPool('in-transaction', { pool: { max: 1 } });
  const lease = await pool.connect();
  const pid = await pidOf(lease);
  expect(lease.getTransactionStatus()).toBe('I');
  await leaveOpen(lease);
  lease.release();
  const next = await pool.connect();
  expect(next.getTransactionStatus()).toBe('I');
  expect(await pidOf(next)).toBe(pid);
  next.release();
  expect(warningsOf(pool)).toHaveLength(1);
  expect(pool.stats()).toMatchObject({ resets: 1, connects: 1, retired: {} });
  expect(await sessions(pool)).toMatchObject([{ pid, state: 'idle' }]);
}
