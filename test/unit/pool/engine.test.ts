import { describe, expect, it } from 'vitest';
import { PgModuleError } from '../../../lib/errors/pg-module.error.js';
import { CallSite } from '../../../lib/util/call-site.js';
import { PoolEngine } from '../../../lib/pool/engine.js';
import type { Leased, RetireCause } from '../../../lib/pool/pooled-connection.js';
import { resolvePoolOptions, type PoolOptions } from '../../../lib/pool/pool-options.js';
import { FakeClient } from '../../support/fake-client.js';
import { ManualClock, settle } from '../../support/manual-clock.js';

type Lease = Leased<FakeClient>;

/** An engine over fake connections, with everything it tells. */
function setUp(options: PoolOptions = {}, dial?: (signal: AbortSignal) => Promise<FakeClient>) {
  const clock = new ManualClock();
  const clients: FakeClient[] = [];
  const closed: RetireCause[] = [];
  const warnings: string[] = [];
  const lost: Error[] = [];
  const dialFailures: { failures: number; retryInMillis: number | undefined }[] = [];
  const open = (): Promise<FakeClient> => {
    const client = new FakeClient(clients.length + 1);
    clients.push(client);
    return Promise.resolve(client);
  };
  const engine = new PoolEngine<FakeClient>({
    name: 'test',
    limits: resolvePoolOptions(options, undefined),
    connect: dial ?? open,
    isPermanent: (error) => error.message.startsWith('permanent'),
    clock,
    events: {
      opened: () => undefined,
      lent: () => undefined,
      released: () => undefined,
      closed: (_, cause) => void closed.push(cause),
      lost: (_, error) => void lost.push(error),
      dialFailed: ({ failures, retryInMillis }) => void dialFailures.push({ failures, retryInMillis }),
      warning: (message) => void warnings.push(message),
    },
  });
  const acquire = (): Promise<Lease> => engine.acquire(undefined);
  const release = (lease: Lease, retire = false): void => engine.release(lease, retire);
  return { engine, clock, clients, closed, warnings, lost, dialFailures, open, acquire, release };
}

/** Whether a promise has settled, and how. */
async function outcome(promise: Promise<unknown>): Promise<string> {
  return Promise.race([
    promise.then(
      () => 'resolved',
      (error: unknown) => (error instanceof PgModuleError ? error.code : (error as Error).message),
    ),
    settle()
      .then(settle)
      .then(() => 'pending'),
  ]);
}

describe('acquire and release', () => {
  it('lends the connection that was used last, and opens no second one', async () => {
    const { acquire, release, clients } = setUp();
    const first = await acquire();
    release(first);
    const second = await acquire();
    expect(second.client).toBe(first.client);
    expect(clients).toHaveLength(1);
  });

  it('never opens more than max', async () => {
    const { engine, acquire, release, clients } = setUp({ max: 4 });
    const leases = await Promise.all(Array.from({ length: 4 }, acquire));
    const waiting = Array.from({ length: 16 }, acquire);
    await settle();
    expect(clients).toHaveLength(4);
    expect(engine.waiting).toBe(16);
    leases.forEach((lease) => release(lease));
    for (const lease of waiting) release(await lease);
    expect(clients).toHaveLength(4);
  });

  it('serves waiters in the order in which they came, and lets nobody overtake', async () => {
    const { acquire, release } = setUp({ max: 1 });
    const order: number[] = [];
    const lease = await acquire();
    const turns = [1, 2, 3].map(async (turn) => {
      const mine = await acquire();
      order.push(turn);
      release(mine);
    });
    release(lease);
    turns.push(
      acquire().then((late) => {
        order.push(4);
        release(late);
      }),
    );
    await Promise.all(turns);
    expect(order).toEqual([1, 2, 3, 4]);
  });

  it('serves a waiter from any freed connection, not from the one that it caused to be opened', async () => {
    let finishDial!: (client: FakeClient) => void;
    const first = new FakeClient();
    let dials = 0;
    const { engine, acquire, release } = setUp({}, () =>
      dials++ === 0 ? Promise.resolve(first) : new Promise((resolve) => (finishDial = resolve)),
    );
    const lease = await acquire();
    const waiter = acquire();
    await settle();
    expect(dials).toBe(2);
    release(lease);
    expect((await waiter).client).toBe(first);
    finishDial(new FakeClient());
    await settle();
    expect(engine.idle).toBe(1);
  });

  it('refuses one more than maxWaiting, with the numbers', async () => {
    const { acquire } = setUp({ max: 1, maxWaiting: 2 });
    await acquire();
    void acquire();
    void acquire();
    await expect(acquire()).rejects.toMatchObject({
      code: 'PG_QUEUE_FULL',
      message: expect.stringContaining('2 borrowers already wait for its 1 connections'),
    });
  });
});

it('maxWaiting 0 refuses only what nobody could be opened for', async () => {
  const { acquire, release } = setUp({ max: 2, maxWaiting: 0 });
  const [first] = await Promise.all([acquire(), acquire()]);
  await expect(acquire()).rejects.toMatchObject({ code: 'PG_QUEUE_FULL' });
  if (first) release(first);
  await expect(acquire()).resolves.toMatchObject({ state: 'leased' });
});

describe('the process', () => {
  it('is kept alive by connections that are lent, and not by those that rest', async () => {
    const { acquire, release, clients } = setUp();
    const lease = await acquire();
    expect(clients[0]?.isRef).toBe(true);
    release(lease);
    expect(clients[0]?.isRef).toBe(false);
    release(await acquire(), true);
    expect(clients[0]?.isRef).toBe(true);
  });

  it('is kept alive by attempts that somebody waits for, and not by those for min', async () => {
    const down = (): Promise<FakeClient> => Promise.reject(new Error('refused'));
    const waitedFor = setUp({ acquireTimeoutMillis: 0 }, down);
    void waitedFor.acquire().catch(() => undefined);
    await settle();
    expect(waitedFor.clock.foregroundTimers).toBe(1);
    const opening = setUp({}, down);
    void opening.engine.open();
    await settle();
    expect(opening.clock.foregroundTimers).toBe(1);
    const background = setUp({ min: 1 }, down);
    background.engine.openInBackground();
    await settle();
    expect(background.clock).toMatchObject({ timers: 1, foregroundTimers: 0 });
  });
});

describe('acquireTimeoutMillis', () => {
  it('rejects each waiter at its own deadline, and tells who holds the connections', async () => {
    const { engine, clock, acquire } = setUp({ max: 1, acquireTimeoutMillis: 1000 });
    await acquire();
    const early = acquire();
    const earlyEnds = expect(early).rejects.toMatchObject({
      code: 'PG_ACQUIRE_TIMEOUT',
      message: expect.stringMatching(/within 1 s .*1 of 1 are lent.*Held longest: 1 s by a pool\.query\(\)/s),
    });
    await clock.advance(400);
    const late = acquire();
    await clock.advance(600);
    await earlyEnds;
    expect(await outcome(late)).toBe('pending');
    expect(engine.waiting).toBe(1);
    const lateEnds = expect(late).rejects.toMatchObject({ code: 'PG_ACQUIRE_TIMEOUT' });
    await clock.advance(400);
    await lateEnds;
    expect(engine.waiting).toBe(0);
  });

  it('loses no connection to a waiter that gave up', async () => {
    const { engine, clock, acquire, release } = setUp({ max: 1, acquireTimeoutMillis: 100 });
    const lease = await acquire();
    const givesUp = expect(acquire()).rejects.toMatchObject({ code: 'PG_ACQUIRE_TIMEOUT' });
    await clock.advance(100);
    await givesUp;
    release(lease);
    expect(engine.idle).toBe(1);
    expect((await acquire()).client).toBe(lease.client);
  });

  it('leaves no timer behind', async () => {
    const { clock, acquire, release } = setUp({ max: 1, idleTimeoutMillis: 0 });
    const lease = await acquire();
    const waiter = acquire();
    expect(clock.timers).toBe(1);
    release(lease);
    release(await waiter);
    expect(clock.timers).toBe(0);
  });

  it('waits without limit at 0', async () => {
    const { clock, acquire } = setUp({ max: 1, acquireTimeoutMillis: 0 });
    await acquire();
    const waiter = acquire();
    await clock.advance(1e9);
    expect(await outcome(waiter)).toBe('pending');
  });
});

describe('what a released connection was doing', () => {
  it('rolls back an open transaction before the next lease', async () => {
    const { acquire, release, clients, engine, clock } = setUp({ max: 1 });
    const lease = await acquire();
    lease.client.status = 'T';
    const next = acquire();
    release(lease);
    expect(engine.idle).toBe(0);
    expect((await next).client).toBe(lease.client);
    expect(lease.client.queries).toEqual(['ROLLBACK']);
    expect(clients).toHaveLength(1);
    expect(clock.timers).toBe(0);
  });

  it('rolls back a failed transaction', async () => {
    const { acquire, release } = setUp({ max: 1 });
    const lease = await acquire();
    lease.client.status = 'E';
    release(lease);
    await acquire();
    expect(lease.client.queries).toEqual(['ROLLBACK']);
  });

  it('closes a connection whose ROLLBACK is not answered, within five seconds', async () => {
    const { acquire, release, clock, closed, clients } = setUp({ max: 1 });
    const lease = await acquire();
    lease.client.status = 'T';
    lease.client.answers = false;
    release(lease);
    const next = acquire();
    await clock.advance(5_000);
    expect((await next).client).not.toBe(lease.client);
    expect(lease.client.destroyed).toBe(true);
    expect(closed).toEqual(['reset']);
    expect(clients).toHaveLength(2);
  });

  it('closes a connection that is busy, with a warning', async () => {
    const { engine, release, closed, warnings, clock } = setUp();
    const lease = await engine.acquire(new CallSite());
    lease.client.isReady = false;
    release(lease);
    await clock.advance(1_000);
    // One request may overtake the statement, and is passed over then.
    expect(lease.client).toMatchObject({ destroyed: true, cancels: 4 });
    expect(closed).toEqual(['busy']);
    expect(warnings).toEqual([
      expect.stringMatching(/engine\.test\.ts:\d+.*released while a statement was still running/),
    ]);
  });

  it('keeps a connection whose statement pg itself refused: it is ready when the callback has returned', async () => {
    const { acquire, release, closed } = setUp({ max: 1 });
    const lease = await acquire();
    lease.client.isReady = false;
    release(lease);
    lease.client.becomeReady();
    expect((await acquire()).client).toBe(lease.client);
    expect(closed).toEqual([]);
  });

  it('waits for ReadyForQuery behind an error, keeps the connection, and opens no other for who waits', async () => {
    const { acquire, release, closed, clients } = setUp({ max: 2 });
    const lease = await acquire();
    lease.client.isReady = false;
    lease.client.isSettling = true;
    release(lease);
    const next = acquire();
    expect(await outcome(next)).toBe('pending');
    lease.client.becomeReady();
    expect((await next).client).toBe(lease.client);
    expect(lease.client.queries).toEqual([]);
    expect(closed).toEqual([]);
    expect(clients).toHaveLength(1);
  });

  it('replaces a connection that died while it was lent, or while it was being reset', async () => {
    const { acquire, release, closed, engine } = setUp({ max: 1 });
    const lease = await acquire();
    lease.client.die();
    release(lease);
    const second = await acquire();
    expect(second.client).not.toBe(lease.client);
    second.client.status = 'T';
    second.client.answers = false;
    release(second);
    second.client.die();
    const third = await acquire();
    expect(third.client).not.toBe(second.client);
    expect(closed).toEqual(['lost', 'lost']);
    expect(engine.total).toBe(1);
  });

  it('closes what it is asked to close', async () => {
    const { acquire, release, closed } = setUp();
    release(await acquire(), true);
    await settle();
    expect(closed).toEqual(['asked']);
  });
});

describe('sizing', () => {
  it('opens min ahead and replaces what is lost of it', async () => {
    const { engine, clients, lost } = setUp({ min: 3 });
    await engine.open();
    expect(engine.idle).toBe(3);
    clients[0]?.die();
    await settle();
    expect(lost).toHaveLength(1);
    expect(engine.idle).toBe(3);
    expect(clients).toHaveLength(4);
  });

  it('opens one for min 0, and lets it go when idle', async () => {
    const { engine, clock, closed } = setUp({ idleTimeoutMillis: 1000 });
    await engine.open();
    expect(engine.idle).toBe(1);
    await clock.advance(1000);
    expect(engine.total).toBe(0);
    expect(closed).toEqual(['idle']);
    expect(clock.timers).toBe(0);
  });

  it('retires idle connections down to min, one a second', async () => {
    const { engine, clock, acquire, release, closed } = setUp({ min: 2, idleTimeoutMillis: 5_000 });
    const leases = await Promise.all(Array.from({ length: 4 }, acquire));
    leases.forEach((lease) => release(lease));
    expect(engine.idle).toBe(4);
    await clock.advance(4_999);
    expect(engine.idle).toBe(4);
    await clock.advance(1);
    expect(engine.idle).toBe(3);
    await clock.advance(999);
    expect(engine.idle).toBe(3);
    await clock.advance(1);
    expect(engine.idle).toBe(2);
    await clock.advance(10_000);
    expect(engine.idle).toBe(2);
    expect(closed).toEqual(['idle', 'idle']);
  });

  it('retires after maxUses leases', async () => {
    const { acquire, release, clients } = setUp({ maxUses: 2 });
    for (let use = 0; use < 5; use++) release(await acquire());
    expect(clients).toHaveLength(3);
  });

  it('retires at maxLifetimeSeconds, up to a tenth earlier, also when it is borrowed', async () => {
    const { clock, acquire, release, clients, closed } = setUp({ maxLifetimeSeconds: 100, idleTimeoutMillis: 0 });
    // Half of the default jitter of a tenth.
    clock.chance = 0.5;
    const lease = await acquire();
    release(lease);
    await clock.advance(94_999);
    const again = await acquire();
    expect(again.client).toBe(lease.client);
    release(again);
    await clock.advance(1);
    expect((await acquire()).client).not.toBe(lease.client);
    expect(closed).toEqual(['lifetime']);
    expect(clients).toHaveLength(2);
  });

  it('lets a burst be served by the few that are open: 50 borrowers of 2 ms, dials of 150 ms', async () => {
    const clients: FakeClient[] = [];
    const { engine, clock } = setUp({ min: 5, max: 50 }, () => {
      const client = new FakeClient();
      clients.push(client);
      if (clients.length <= 5) return Promise.resolve(client);
      return new Promise((resolve) => clock.setTimeout(() => resolve(client), 150));
    });
    await engine.open();
    const waits: number[] = [];
    const work = Array.from({ length: 50 }, async () => {
      const began = clock.now();
      const lease = await engine.acquire(undefined);
      waits.push(clock.now() - began);
      await new Promise<void>((resolve) => clock.setTimeout(resolve, 2));
      engine.release(lease, false);
    });
    await clock.advance(1_000);
    await Promise.all(work);
    expect(clients.length).toBeLessThanOrEqual(7);
    expect(Math.max(...waits)).toBeLessThanOrEqual(20);
  });
});

describe('an AbortSignal', () => {
  it('ends the waiting, and the next in the queue moves up', async () => {
    const { engine, acquire, release } = setUp({ max: 1 });
    const lease = await acquire();
    const abort = new AbortController();
    const gaveUp = engine.acquire(undefined, abort.signal);
    const next = acquire();
    const told = expect(gaveUp).rejects.toMatchObject({ code: 'PG_ABORTED', cause: 'enough' });
    abort.abort('enough');
    await told;
    expect(engine.waiting).toBe(1);
    release(lease);
    expect((await next).client).toBe(lease.client);
  });

  it('that has fired refuses at once; one that fires later than the lease changes nothing', async () => {
    const { engine } = setUp();
    await expect(engine.acquire(undefined, AbortSignal.abort())).rejects.toMatchObject({ code: 'PG_ABORTED' });
    expect(engine.total).toBe(0);
    const abort = new AbortController();
    const lease = await engine.acquire(undefined, abort.signal);
    abort.abort();
    await settle();
    expect(lease.state).toBe('leased');
  });

  it('leaves no timer of a queue that it emptied', async () => {
    const { engine, clock, acquire } = setUp({ max: 1 });
    await acquire();
    const abort = new AbortController();
    const gaveUp = outcome(engine.acquire(undefined, abort.signal));
    abort.abort();
    expect(await gaveUp).toBe('PG_ABORTED');
    expect(clock.timers).toBe(0);
  });
});

describe('validation', () => {
  const limits = { validateAfterIdleMillis: 1_000, idleTimeoutMillis: 0 };

  it('is for connections that have rested long enough, and not for others', async () => {
    const { clock, acquire, release, clients } = setUp(limits);
    release(await acquire());
    await clock.advance(999);
    release(await acquire());
    expect(clients[0]?.queries).toEqual([]);
    await clock.advance(1_000);
    const lease = await acquire();
    expect(lease.client).toBe(clients[0]);
    expect(lease.client.queries).toEqual(['']);
    expect(clients).toHaveLength(1);
    expect(lease.client.isRef).toBe(true);
  });

  it('replaces a connection that does not answer within its own deadline, and the borrower does not notice', async () => {
    const { clock, acquire, release, clients, closed } = setUp({ ...limits, validateTimeoutMillis: 200 });
    release(await acquire());
    await clock.advance(1_000);
    if (clients[0]) clients[0].answers = false;
    const borrower = acquire();
    await clock.advance(199);
    expect(await outcome(borrower)).toBe('pending');
    await clock.advance(1);
    expect((await borrower).client).toBe(clients[1]);
    expect(clients[0]?.destroyed).toBe(true);
    expect(closed).toEqual(['invalid']);
  });

  it('replaces a connection that turns out to be dead', async () => {
    const { clock, acquire, release, clients } = setUp(limits);
    release(await acquire());
    await clock.advance(1_000);
    if (clients[0]) clients[0].answers = false;
    const borrower = acquire();
    await settle();
    clients[0]?.die();
    expect((await borrower).client).toBe(clients[1]);
  });

  it('asks as many as there are borrowers, and lets the others rest', async () => {
    const { engine, clock, acquire, release, clients } = setUp(limits);
    const leases = await Promise.all(Array.from({ length: 4 }, acquire));
    leases.forEach((lease) => release(lease));
    await clock.advance(1_000);
    await Promise.all([acquire(), acquire()]);
    expect(clients.map(({ queries }) => queries.length).sort()).toEqual([0, 0, 1, 1]);
    expect(engine.idle).toBe(2);
  });

  it('serves a borrower from a connection that is free before', async () => {
    const { clock, acquire, release, clients } = setUp(limits);
    const [used, rested] = await Promise.all([acquire(), acquire()]);
    if (!used || !rested) throw new Error('two leases');
    release(rested);
    rested.client.answers = false;
    await clock.advance(1_000);
    const borrower = acquire();
    await settle();
    release(used);
    expect((await borrower).client).toBe(used.client);
    rested.client.becomeReady();
    await settle();
    expect(clients).toHaveLength(2);
  });

  it('does not hide a connection below that was validated later', async () => {
    const { engine, acquire, release, clock, clients } = setUp({
      max: 2,
      validateAfterIdleMillis: 50,
      keepaliveMillis: 200,
    });
    const [first, second] = await Promise.all([acquire(), acquire()]);
    release(first);
    await clock.advance(120);
    release(second);
    // The round finds the first alone: the second has answered since.
    await clock.advance(100);
    const [one, other] = clients as [FakeClient, FakeClient];
    expect([one.queries, other.queries]).toEqual([[''], []]);
    const lease = engine.tryAcquire(undefined);
    expect(lease?.client).toBe(one);
    expect(engine.idle).toBe(1);
  });

  it('is spared a connection that is too old anyway', async () => {
    const { acquire, release, clock, clients, closed } = setUp({ validateAfterIdleMillis: 500, maxLifetimeSeconds: 1 });
    release(await acquire());
    await clock.advance(1_000);
    release(await acquire());
    expect(closed).toEqual(['lifetime']);
    expect(clients.map(({ queries }) => queries)).toEqual([[], []]);
  });

  it('is put off while the pool is suspended', async () => {
    const { engine, clock, acquire, release, clients } = setUp(limits);
    release(await acquire());
    engine.suspend();
    await clock.advance(1_000);
    const borrower = acquire();
    await settle();
    expect(clients[0]?.queries).toEqual([]);
    engine.resume();
    expect((await borrower).client.queries).toEqual(['']);
  });

  it('never happens at 0', async () => {
    const { clock, acquire, release, clients } = setUp({ validateAfterIdleMillis: 0, idleTimeoutMillis: 0 });
    release(await acquire());
    await clock.advance(1e9);
    await acquire();
    expect(clients.flatMap(({ queries }) => queries)).toEqual([]);
  });
});

describe('keepaliveMillis', () => {
  it('validates what rests, again and again, without making it younger', async () => {
    const { engine, clock, clients, closed } = setUp({
      min: 1,
      max: 2,
      keepaliveMillis: 100,
      idleTimeoutMillis: 1_000,
    });
    engine.resize(2, 2);
    await engine.open();
    engine.resize(1, 2);
    await clock.advance(950);
    for (const { queries } of clients) expect(queries.length).toBeGreaterThanOrEqual(6);
    expect(closed).toEqual([]);
    await clock.advance(50);
    expect(closed).toEqual(['idle']);
  });

  it('finds a dead connection before a borrower does', async () => {
    const { engine, clock, clients, closed } = setUp({ min: 1, keepaliveMillis: 100, validateTimeoutMillis: 50 });
    await engine.open();
    if (clients[0]) clients[0].answers = false;
    await clock.advance(200);
    expect(closed).toEqual(['invalid']);
    expect(engine.idle).toBe(1);
    expect(clients).toHaveLength(2);
  });

  it('closes what proves to be alive when the pool is draining already', async () => {
    const { engine, clock, clients, closed } = setUp({ min: 1, keepaliveMillis: 100 });
    await engine.open();
    let answer!: () => void;
    const [client] = clients as [FakeClient];
    client.query = () => {
      client.isReady = false;
      answer = () => client.becomeReady();
      return new Promise(() => undefined);
    };
    await clock.advance(100);
    expect(engine.stats()).toMatchObject({ validating: 1, idle: 0 });
    const end = engine.drain(60_000);
    await settle();
    answer();
    await end;
    expect(closed).toEqual(['drain']);
    expect(engine.stats()).toMatchObject({ total: 0 });
  });

  it('ends with the pool', async () => {
    const { engine, clock } = setUp({ min: 1, keepaliveMillis: 100 });
    await engine.open();
    await engine.drain(1_000);
    expect(clock.timers).toBe(0);
  });
});

describe('leakThresholdMillis', () => {
  it('tells once of a lease that is held too long, with its line, and again when it comes back', async () => {
    const { engine, clock, warnings, release } = setUp({ leakThresholdMillis: 1_000 });
    const lease = await engine.acquire(new CallSite());
    await clock.advance(900);
    expect(warnings).toEqual([]);
    await clock.advance(5_000);
    expect(warnings).toEqual([
      expect.stringMatching(
        /engine\.test\.ts:\d+:\d+\)? has been held for 1 s .*leakThresholdMillis is 1000.*\n {4}at /s,
      ),
    ]);
    expect(engine.stats().leaks).toBe(1);
    release(lease);
    expect(warnings[1]).toMatch(/came back after 5\.9 s/);
    await clock.advance(10_000);
    expect(warnings).toHaveLength(2);
  });

  it('does not watch pool.query(), and keeps no timer without leases', async () => {
    const { clock, warnings, acquire, release } = setUp({ leakThresholdMillis: 1_000, idleTimeoutMillis: 0 });
    const lease = await acquire();
    await clock.advance(10_000);
    release(lease);
    await clock.advance(1_000);
    expect(warnings).toEqual([]);
    expect(clock.timers).toBe(0);
  });
});

describe('stats', () => {
  it('count sizes by state, and what has been done', async () => {
    const { engine, clock, acquire, release } = setUp({ max: 2, maxWaiting: 2, acquireTimeoutMillis: 1_000 });
    const [first, second] = await Promise.all([acquire(), acquire()]);
    if (!first || !second) throw new Error('two leases');
    const abort = new AbortController();
    const waiting = acquire();
    const gaveUp = outcome(engine.acquire(undefined, abort.signal));
    const full = outcome(acquire());
    abort.abort();
    expect([await gaveUp, await full]).toEqual(['PG_ABORTED', 'PG_QUEUE_FULL']);
    await clock.advance(400);
    expect(engine.stats()).toMatchObject({ name: 'test', min: 0, max: 2, leased: 2, idle: 0, total: 2, waiting: 1 });
    release(first);
    const third = await waiting;
    const timedOut = outcome(acquire());
    await clock.advance(1_000);
    expect(await timedOut).toBe('PG_ACQUIRE_TIMEOUT');
    second.client.status = 'T';
    release(second);
    expect(engine.stats()).toMatchObject({ leased: 1, resetting: 1 });
    await settle();
    release(third, true);
    await settle();
    expect(engine.stats()).toEqual({
      ...{ name: 'test', min: 0, max: 2, idle: 1, leased: 0, resetting: 0, validating: 0, dialling: 0, total: 1 },
      ...{ waiting: 0, suspended: false, draining: false },
      // Both of the first two had to wait for a dial.
      ...{ acquires: 3, joins: 0, waits: 3, waitMillis: 400, timeouts: 1, queueFull: 1, aborted: 1 },
      ...{ connects: 2, connectMillis: 0, connectFailures: 0, resets: 1, leaks: 0, retired: { asked: 1 } },
    });
    expect(Object.isFrozen(engine.stats())).toBe(true);
  });
});

describe('reset', () => {
  it.each(['clean', 'discard-all'] as const)('%s is sent at release, and nobody waits for it', async (reset) => {
    const { engine, acquire, release } = setUp({ max: 1, reset });
    const lease = await acquire();
    release(lease);
    expect(lease.client.queries).toEqual([reset]);
    expect(engine.tryAcquire(undefined)?.client).toBe(lease.client);
    expect(engine.stats().resets).toBe(1);
  });

  it('follows the ROLLBACK, and is not sent on a connection that is closed', async () => {
    const { acquire, release } = setUp({ max: 1, maxUses: 2, reset: 'discard-all' });
    const lease = await acquire();
    lease.client.status = 'T';
    release(lease);
    const again = await acquire();
    expect(again.client.queries).toEqual(['ROLLBACK', 'discard-all']);
    release(again);
    expect(again.client.queries).toEqual(['ROLLBACK', 'discard-all']);
  });

  it('{ sql } is awaited before the connection is lent again', async () => {
    const { engine, acquire, release, clients } = setUp({ reset: { sql: 'RESET ROLE' } });
    const lease = await acquire();
    release(lease);
    expect(engine.stats()).toMatchObject({ resetting: 1, idle: 0 });
    const next = await acquire();
    expect(next.client).toBe(lease.client);
    expect(next.client.queries).toEqual(['RESET ROLE']);
    expect(engine.stats().resets).toBe(1);
    // The borrower waited for the reset, and not for a connection of its own.
    expect(clients).toHaveLength(1);
  });

  it('{ sql } that fails, hangs, or leaves a transaction open costs the connection, with a warning', async () => {
    const { acquire, release, closed, warnings, clock } = setUp({ max: 1, reset: { sql: 'SELECT mine()' } });
    const failing = await acquire();
    failing.client.query = () => Promise.reject(new Error('no such function'));
    release(failing);
    const open = await acquire();
    open.client.query = () => Promise.resolve((open.client.status = 'T'));
    release(open);
    const hanging = await acquire();
    hanging.client.query = () => new Promise(() => undefined);
    release(hanging);
    const next = acquire();
    await clock.advance(5_000);
    await next;
    expect(closed).toEqual(['reset', 'reset', 'reset']);
    expect(warnings.map((warning) => warning.replace(/.*was closed: /, ''))).toEqual([
      'no such function',
      'it left a transaction open (status T)',
      'no answer within 5 s',
    ]);
  });
});

describe('a lease whose connection is lost', () => {
  it('holds nothing any more, whether it is given back or not', async () => {
    const { engine, acquire, release, closed } = setUp({ max: 1 });
    const lease = await acquire();
    const next = acquire();
    lease.client.die();
    expect((await next).client).not.toBe(lease.client);
    expect(closed).toEqual(['lost']);
    release(lease);
    expect(engine.stats()).toMatchObject({ leased: 1, total: 1 });
  });
});

it('ends on the server what runs on a connection that is released to be closed', async () => {
  const { acquire, release, clock } = setUp();
  const lease = await acquire();
  lease.client.isReady = false;
  release(lease, true);
  await clock.advance(1_000);
  expect(lease.client).toMatchObject({ destroyed: true, cancels: 4 });
});

describe('an error that makes the connection useless', () => {
  it('retires it when it comes back', async () => {
    const { acquire, release, closed } = setUp({ max: 1 });
    const lease = await acquire();
    lease.client.fault = '08006';
    release(lease);
    expect((await acquire()).client).not.toBe(lease.client);
    expect(closed).toEqual(['fatal']);
  });
});

it('keeps the process alive by connections that rest where allowExitOnIdle is false', async () => {
  const { acquire, release } = setUp({ allowExitOnIdle: false });
  const lease = await acquire();
  release(lease);
  expect(lease.client.isRef).toBe(true);
});

describe('resize', () => {
  it('closes what is above the new max: what rests at once, what is lent when it comes back', async () => {
    const { engine, acquire, release, closed } = setUp({ max: 4 });
    const leases = await Promise.all(Array.from({ length: 4 }, acquire));
    leases.slice(0, 2).forEach((lease) => release(lease));
    engine.resize(0, 1);
    expect(engine).toMatchObject({ total: 2, idle: 0 });
    leases.slice(2).forEach((lease) => release(lease));
    await settle();
    expect(engine).toMatchObject({ total: 1, idle: 1 });
    expect(closed).toEqual(['resized', 'resized', 'resized']);
  });

  it('gives a larger pool to those who wait, and opens a larger min', async () => {
    const { engine, acquire } = setUp({ max: 1 });
    await acquire();
    const waiting = acquire();
    engine.resize(0, 2);
    expect((await waiting).client.id).toBe(2);
    engine.resize(4, 5);
    await settle();
    expect(engine.idle).toBe(2);
    const opened = setUp({ min: 1 });
    await opened.engine.open();
    opened.engine.resize(3, 5);
    await settle();
    expect(opened.engine.idle).toBe(3);
  });

  it('keeps a pool small that has not been used yet', async () => {
    const { engine } = setUp();
    engine.resize(2, 4);
    await settle();
    expect(engine.total).toBe(0);
  });

  it('ends an opening that waits for more than the new min', async () => {
    const dials: ((client: FakeClient) => void)[] = [];
    const { engine } = setUp({ min: 3 }, () => new Promise((resolve) => dials.push(resolve)));
    const opening = engine.open();
    dials[0]?.(new FakeClient(1));
    await settle();
    expect(await outcome(opening)).toBe('pending');
    engine.resize(1, 3);
    expect(await outcome(opening)).toBe('resolved');
  });

  it('lets as many wait as maxWaiting says, though more are lent than the new max', async () => {
    const { engine, acquire } = setUp({ max: 3, maxWaiting: 1 });
    await Promise.all([acquire(), acquire(), acquire()]);
    engine.resize(0, 1);
    expect(await outcome(acquire())).toBe('pending');
    expect(await outcome(acquire())).toBe('PG_QUEUE_FULL');
  });

  it('lets a connection that comes up too late for the new max go', async () => {
    let finish!: (client: FakeClient) => void;
    const { engine, acquire, closed } = setUp({ max: 2, acquireTimeoutMillis: 0 }, () => {
      return new Promise((resolve) => (finish = resolve));
    });
    void acquire();
    await settle();
    const first = finish;
    void acquire();
    await settle();
    const second = finish;
    engine.resize(0, 1);
    first(new FakeClient());
    await settle();
    second(new FakeClient());
    await settle();
    expect(engine.total).toBe(1);
    expect(closed).toEqual(['resized']);
  });
});

describe('evict', () => {
  it('replaces every connection: idle ones at once, lent ones when they come back', async () => {
    const { engine, clients, acquire, release, closed } = setUp({ min: 2, max: 3 });
    await engine.open();
    const lease = await acquire();
    engine.evict();
    await settle();
    expect(closed).toEqual(['evicted']);
    release(lease);
    await settle();
    expect(closed).toEqual(['evicted', 'evicted']);
    expect(engine.idle).toBe(2);
    expect(clients).toHaveLength(4);
    expect((await acquire()).client.id).toBeGreaterThan(2);
  });
});

describe('suspend and resume', () => {
  it('hold borrowers, and serve them afterwards in their order', async () => {
    const { engine, acquire, release, clients } = setUp({ max: 2 });
    const lent = await acquire();
    engine.suspend();
    const order: number[] = [];
    const waiting = [1, 2, 3].map(async (turn) => {
      const lease = await acquire();
      order.push(turn);
      release(lease);
    });
    release(lent);
    await settle();
    expect(order).toEqual([]);
    expect(engine).toMatchObject({ waiting: 3, idle: 1 });
    expect(clients).toHaveLength(1);
    engine.resume();
    await Promise.all(waiting);
    expect(order).toEqual([1, 2, 3]);
  });

  it('hand out nothing that has expired meanwhile', async () => {
    const { engine, acquire, release, clock, closed } = setUp({
      maxLifetimeSeconds: 1,
      lifetimeJitter: 0,
      validateAfterIdleMillis: 0,
    });
    const first = await acquire();
    release(first);
    engine.suspend();
    const waiting = acquire();
    await clock.advance(1_000);
    engine.resume();
    expect((await waiting).client).not.toBe(first.client);
    expect(closed).toEqual(['lifetime']);
  });

  it('leave the deadline of borrowers as it is', async () => {
    const { engine, clock, acquire } = setUp({ acquireTimeoutMillis: 1_000 });
    engine.suspend();
    const waiting = acquire();
    const told = expect(waiting).rejects.toMatchObject({ code: 'PG_ACQUIRE_TIMEOUT' });
    await clock.advance(1_000);
    await told;
  });
});

describe('while the server is down', () => {
  const down = (): Promise<FakeClient> => Promise.reject(new Error('refused'));

  it('has one dial at a time, with delays that double up to a second', async () => {
    const { engine, clock, acquire, dialFailures } = setUp({ acquireTimeoutMillis: 10_000 }, down);
    clock.chance = 0.999999;
    const waiters = Array.from({ length: 20 }, () => outcome(acquire()));
    await clock.advance(3_000);
    expect(engine.total).toBe(0);
    const delays = dialFailures.map(({ retryInMillis }) => Math.round(retryInMillis ?? -1));
    // The four of the cold start fail together, and count as one attempt.
    expect(delays).toEqual([100, 200, 400, 800, 1000, 1000]);
    expect(new Set(await Promise.all(waiters))).toEqual(new Set(['pending']));
  });

  it('makes no attempt for further borrowers while one is due, and one at once for the first after nobody waited', async () => {
    let dials = 0;
    const { engine, clock, acquire } = setUp({ min: 1, acquireTimeoutMillis: 0 }, () => {
      dials++;
      return down();
    });
    engine.openInBackground();
    // In the background it has come to pauses of up to five seconds.
    await clock.advance(20_000);
    const before = dials;
    void acquire().catch(() => undefined);
    await settle();
    expect(dials).toBe(before + 1);
    void acquire().catch(() => undefined);
    void acquire().catch(() => undefined);
    await settle();
    expect(dials).toBe(before + 1);
  });

  it('starts its delays anew after a success', async () => {
    let up = false;
    const { clock, acquire, dialFailures, release } = setUp({ acquireTimeoutMillis: 0 }, () =>
      up ? Promise.resolve(new FakeClient()) : down(),
    );
    const waiter = acquire();
    await clock.advance(2_000);
    up = true;
    await clock.advance(1_000);
    release(await waiter, true);
    up = false;
    dialFailures.length = 0;
    void acquire().catch(() => undefined);
    await settle();
    expect(dialFailures).toEqual([{ failures: 1, retryInMillis: 50 }]);
  });

  it('asks every five seconds for min while trying again cannot help: somebody may mend it', async () => {
    const { engine, dialFailures } = setUp({ min: 1 }, () => Promise.reject(new Error('permanent')));
    engine.openInBackground();
    await settle();
    expect(dialFailures).toEqual([{ failures: 1, retryInMillis: 5_000 }]);
  });

  it('serves waiters as soon as it is back', async () => {
    let up = false;
    const { clock, acquire } = setUp({ acquireTimeoutMillis: 60_000 }, () =>
      up ? Promise.resolve(new FakeClient()) : Promise.reject(new Error('refused')),
    );
    const waiter = acquire();
    await clock.advance(5_000);
    expect(await outcome(waiter)).toBe('pending');
    up = true;
    await clock.advance(1_000);
    expect((await waiter).client).toBeInstanceOf(FakeClient);
  });

  it('tells waiters that time out that the server is down, and why', async () => {
    const { clock, acquire } = setUp({ acquireTimeoutMillis: 1_000 }, down);
    const ends = expect(acquire()).rejects.toMatchObject({
      code: 'PG_ACQUIRE_TIMEOUT',
      message: expect.stringMatching(/none can be opened: \d+ attempts in a row have failed\. The last one: refused/),
      cause: { message: 'refused' },
    });
    await clock.advance(1_000);
    await ends;
  });

  it('rejects waiters at once when trying again cannot help', async () => {
    const { acquire, clock } = setUp({}, () => Promise.reject(new Error('permanent: wrong password')));
    await expect(acquire()).rejects.toThrow('permanent');
    await expect(acquire()).rejects.toThrow('permanent');
    expect(clock.timers).toBe(0);
  });

  it('keeps waiters that an open connection can still serve', async () => {
    const first = new FakeClient();
    let dials = 0;
    const { acquire, release } = setUp({}, () =>
      dials++ === 0 ? Promise.resolve(first) : Promise.reject(new Error('permanent: password changed')),
    );
    const lease = await acquire();
    const waiter = acquire();
    expect(await outcome(waiter)).toBe('pending');
    release(lease);
    expect((await waiter).client).toBe(first);
  });

  it('ends an opening that cannot heal, and goes on with one that may', async () => {
    const bad = setUp({}, () => Promise.reject(new Error('permanent')));
    await expect(bad.engine.open()).rejects.toThrow('permanent');
    let up = false;
    const slow = setUp({}, () => (up ? Promise.resolve(new FakeClient()) : Promise.reject(new Error('refused'))));
    const opening = slow.engine.open();
    await slow.clock.advance(3_000);
    expect(await outcome(opening)).toBe('pending');
    up = true;
    await slow.clock.advance(1_000);
    await opening;
    expect(slow.engine.idle).toBe(1);
  });
});

describe('drain', () => {
  it('refuses new work, rejects waiters, waits for leases, and shares one end', async () => {
    const { engine, acquire, release, closed } = setUp({ max: 1 });
    const lease = await acquire();
    const waiter = acquire();
    const waiterEnds = expect(waiter).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
    const end = engine.drain(10_000);
    await waiterEnds;
    await expect(acquire()).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
    expect(await outcome(end)).toBe('pending');
    expect(engine.drain(1)).toBe(end);
    release(lease);
    expect(await end).toEqual({ holders: [] });
    expect(closed).toEqual(['drain']);
    expect(engine.total).toBe(0);
  });

  it('lends nothing more at once, though a connection rests', async () => {
    const { engine, acquire, release, closed } = setUp();
    release(await acquire());
    const end = engine.drain(0);
    expect(await outcome(acquire())).toBe('PG_POOL_CLOSED');
    await end;
    expect(closed).toEqual(['drain']);
  });

  it('cancels and closes what is not back at the deadline, and names it', async () => {
    const { engine, clock, acquire, clients } = setUp();
    await clock.advance(500);
    const busy = await acquire();
    busy.client.isReady = false;
    const idle = await acquire();
    const end = engine.drain(2_000);
    await clock.advance(2_000);
    const { holders } = await end;
    expect(holders).toEqual([
      { heldMillis: 2_000, callSite: undefined },
      { heldMillis: 2_000, callSite: undefined },
    ]);
    expect(busy.client.cancels).toBe(1);
    expect(idle.client.cancels).toBe(0);
    expect(clients.every((client) => client.isClosed)).toBe(true);
    expect(engine.total).toBe(0);
    expect(clock.timers).toBe(0);
  });

  it('ends earlier when a further call asks for it, and never later', async () => {
    const { engine, clock, acquire } = setUp();
    const lease = await acquire();
    const end = engine.drain(60_000);
    void engine.drain(90_000);
    await clock.advance(1_000);
    expect(await outcome(end)).toBe('pending');
    void engine.drain(0);
    expect(await end).toEqual({ holders: [{ heldMillis: 1_000, callSite: undefined }] });
    expect(lease.client.isClosed).toBe(true);
    expect(clock.timers).toBe(0);
  });

  it('resolves when the last socket is closed, which keeps the process alive till then, and leaves no timer', async () => {
    const { engine, acquire, release, clients, clock } = setUp();
    release(await acquire());
    let gone!: () => void;
    if (clients[0]) clients[0].goodbye = new Promise((resolve) => (gone = resolve));
    const end = engine.drain(1_000);
    expect(await outcome(end)).toBe('pending');
    expect(clients[0]?.isRef).toBe(true);
    gone();
    await end;
    expect(clock.timers).toBe(0);
  });

  it('leaves alone what comes back while its statement is being cancelled', async () => {
    const { engine, clock, acquire, release, closed } = setUp();
    const lease = await acquire();
    lease.client.isReady = false;
    lease.client.cancelRunning = () => {
      lease.client.becomeReady();
      release(lease);
      return Promise.resolve();
    };
    const end = engine.drain(1_000);
    await clock.advance(1_000);
    await end;
    expect(closed).toEqual(['drain']);
  });

  it('closes what is still being rolled back at the deadline, once', async () => {
    const { engine, clock, acquire, release, closed } = setUp();
    const lease = await acquire();
    Object.assign(lease.client, { status: 'T', answers: false });
    release(lease);
    const end = engine.drain(1_000);
    await clock.advance(10_000);
    await end;
    expect(closed).toEqual(['drain']);
    expect(clock.timers).toBe(0);
  });

  it('stops a dial under way, and closes one that comes up too late', async () => {
    let finish!: (client: FakeClient) => void;
    let seen: AbortSignal | undefined;
    const { engine, acquire, clock } = setUp({}, (signal) => {
      seen = signal;
      return new Promise((resolve) => (finish = resolve));
    });
    const waiter = outcome(acquire());
    await settle();
    const end = engine.drain(1_000);
    await settle();
    expect(seen?.aborted).toBe(true);
    expect(await waiter).toBe('PG_POOL_CLOSED');
    const late = new FakeClient();
    finish(late);
    await clock.advance(1_000);
    await end;
    expect(late.isClosed).toBe(true);
  });

  it('ends an opening under way', async () => {
    const { engine } = setUp({}, () => new Promise(() => undefined));
    const opening = engine.open();
    void engine.drain(1);
    await expect(opening).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
    await expect(engine.open()).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
  });
});
