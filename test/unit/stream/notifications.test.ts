import { AsyncLocalStorage } from 'node:async_hooks';
import fc from 'fast-check';
import { PgModuleError, type PgNotificationEvent, PgNotifications } from 'nestjs-pg';
import { config, filter, map, retry, take, type Observable, type Subscription } from 'rxjs';
import { afterEach, describe, expect, expectTypeOf, it } from 'vitest';
import { ManualClock } from '../../support/manual-clock.js';
import { FakeListener } from './notifications-client.js';

const PERMANENT = new Error('wrong password');
const DOWN = new Error('nobody there');

/** Notifications over connections whose every message has its turn. */
class World {
  readonly clock = new ManualClock();
  readonly warnings: string[] = [];
  readonly news: string[] = [];
  readonly clients: FakeListener[] = [];
  readonly statements: unknown[] = [];
  /** What the next attempts to connect end with. */
  readonly failures: Error[] = [];
  attempts = 0;
  readonly signals: AbortSignal[] = [];
  readonly notifications: PgNotifications;

  constructor() {
    this.notifications = new PgNotifications({
      name: 'main',
      connect: async (signal) => {
        this.attempts++;
        this.signals.push(signal);
        const failure = this.failures.shift();
        if (failure) throw failure;
        const client = new FakeListener();
        this.clients.push(client);
        return client;
      },
      isPermanent: (error) => error === PERMANENT,
      pool: { query: async (...statement) => this.statements.push(statement) },
      limits: { keepaliveMillis: 30_000, keepaliveTimeoutMillis: 2_000, listenTimeoutMillis: 10_000 },
      warn: (message) => this.warnings.push(message),
      log: (message) => this.news.push(message),
      clock: this.clock,
    });
  }

  get client(): FakeListener {
    return this.clients.at(-1)!;
  }

  listen(channel = 'a'): Log {
    return new Log(this.notifications.listen(channel));
  }

  /** Lets everything arrive that is under way. */
  async settle(): Promise<void> {
    for (;;) {
      await this.clock.advance(0);
      const client = this.clients.at(-1);
      if (!client || client.isClosed || client.isQuiet) return;
      client.serve();
      client.deliver();
    }
  }

  /** What the present connection was told. */
  get sent(): string[] {
    return this.client.sent;
  }
}

/** What one subscriber is told, in short: `listening`, `gap`, payloads, `done`, errors. */
class Log {
  readonly entries: string[] = [];
  readonly #subscription: Subscription;

  constructor(source: Observable<PgNotificationEvent>) {
    this.#subscription = source.subscribe({
      next: (event) => this.entries.push(event.kind === 'notification' ? event.payload : event.kind),
      error: (error: Error) => this.entries.push(`error: ${error.message}`),
      complete: () => this.entries.push('done'),
    });
  }

  stop(): void {
    this.#subscription.unsubscribe();
  }
}

describe('the connection', () => {
  it('is opened for the first subscriber, and serves all channels', async () => {
    const world = new World();
    await world.settle();
    expect(world.attempts).toBe(0);

    const [a, b] = [world.listen('a'), world.listen('b')];
    await world.settle();
    const again = world.listen('a');
    world.client.notify('a', '1');
    world.client.notify('b', '2');
    await world.settle();

    expect(world.attempts).toBe(1);
    expect(world.sent).toEqual(['LISTEN "a"; LISTEN "b"']);
    expect([a.entries, b.entries, again.entries]).toEqual([
      ['listening', '1'],
      ['listening', '2'],
      ['listening', '1'],
    ]);
  });

  it('is not opened by listen() without a subscriber', async () => {
    const world = new World();
    world.notifications.listen('a');
    await world.settle();
    expect(world.attempts).toBe(0);
  });

  it('hears LISTEN for the first subscriber of a channel, and UNLISTEN for the last', async () => {
    const world = new World();
    const [first, second] = [world.listen(), world.listen()];
    const other = world.listen('b');
    await world.settle();
    first.stop();
    await world.settle();
    expect(world.sent).toHaveLength(1);
    second.stop();
    await world.settle();
    expect(world.sent.slice(1)).toEqual(['UNLISTEN "a"']);
    expect(other.entries).toEqual(['listening']);
  });

  it('is kept for five seconds when nobody listens, without keeping the process alive, and then closed', async () => {
    const world = new World();
    const log = world.listen();
    await world.settle();
    expect(world.client.isRef).toBe(true);
    log.stop();
    await world.settle();
    expect(world.client.isRef).toBe(false);
    expect(world.clock.foregroundTimers).toBe(0);

    await world.clock.advance(4_999);
    expect(world.client.isClosed).toBe(false);
    const back = world.listen();
    await world.settle();
    expect(world.client.isRef).toBe(true);
    expect(back.entries).toEqual(['listening']);
    await world.clock.advance(5_001);
    expect(world.client.isClosed).toBe(false);

    back.stop();
    await world.settle();
    await world.clock.advance(5_000);
    expect(world.client.isClosed).toBe(true);
    expect(world.attempts).toBe(1);
    expect(world.clock.timers).toBe(0);
    expect(world.warnings).toEqual([]);
  });

  it('has no listener and no timer of ours when it is closed', async () => {
    const world = new World();
    const log = world.listen();
    await world.settle();
    const { client } = world;
    expect(client.eventNames()).toEqual(['notification', 'error', 'end']);
    log.stop();
    await world.notifications.close();
    expect(client.eventNames()).toEqual([]);
    expect(world.clock.timers).toBe(0);
  });

  it('that is being opened when the last subscriber leaves is given up after the same time', async () => {
    const world = new World();
    world.failures.push(DOWN, DOWN, DOWN, DOWN, DOWN, DOWN, DOWN, DOWN, DOWN, DOWN);
    const log = world.listen();
    await world.settle();
    log.stop();
    await world.clock.advance(10_000);
    expect(world.attempts).toBe(1);
    expect(world.clock.timers).toBe(0);
  });
});

describe('subscribers who come and go quickly', () => {
  it('cost no command within one tick', async () => {
    const world = new World();
    const stays = world.listen('b');
    await world.settle();
    for (let cycle = 0; cycle < 10_000; cycle++) world.listen('a').stop();
    await world.settle();
    expect(world.sent).toEqual(['LISTEN "b"']);
    expect(stays.entries).toEqual(['listening']);
  });

  it('who comes back while UNLISTEN is under way is told when LISTEN is in force again, and not before', async () => {
    const world = new World();
    const first = world.listen();
    await world.settle();
    first.stop();
    await world.clock.advance(0);
    expect(world.sent.at(-1)).toBe('UNLISTEN "a"');
    // It is still in force at the server, but will not be for long.
    world.client.notify('a', 'early');
    const second = world.listen();
    world.client.deliver();
    world.client.serve();
    await world.clock.advance(0);
    expect(second.entries).toEqual([]);
    world.client.notify('a', 'lost');
    world.client.deliver();
    await world.clock.advance(0);
    expect(world.sent.at(-1)).toBe('LISTEN "a"');
    expect(second.entries).toEqual([]);
    await world.settle();
    world.client.notify('a', '1');
    await world.settle();
    expect(second.entries).toEqual(['listening', '1']);
    expect([...world.client.channels]).toEqual(['a']);
  });

  it('who leaves while LISTEN is under way leaves nothing behind', async () => {
    const world = new World();
    const stays = world.listen('b');
    await world.settle();
    const leaves = world.listen('a');
    await world.clock.advance(0);
    expect(world.sent.at(-1)).toBe('LISTEN "a"');
    leaves.stop();
    await world.settle();
    expect(world.sent.at(-1)).toBe('UNLISTEN "a"');
    expect([...world.client.channels]).toEqual(['b']);
    expect(leaves.entries).toEqual([]);
    expect(stays.entries).toEqual(['listening']);
  });

  it('may do so while they are told', async () => {
    const world = new World();
    const once: string[] = [];
    world.notifications
      .listen('a')
      .pipe(take(1))
      .subscribe((event) => once.push(event.kind));
    const nested: string[] = [];
    const source = world.notifications.listen('a').subscribe((event) => {
      if (event.kind !== 'notification') return;
      source.unsubscribe();
      nested.push(event.payload);
      world.notifications.listen('b').subscribe((inner) => nested.push(inner.kind));
    });
    const last = world.listen('a');
    await world.settle();
    world.client.notify('a', '1');
    world.client.notify('a', '2');
    await world.settle();
    expect(once).toEqual(['listening']);
    expect(nested).toEqual(['1', 'listening']);
    expect(last.entries).toEqual(['listening', '1', '2']);
  });
});

describe('a lost connection', () => {
  it('is replaced after a pause with jitter; those who were told are told of the gap, others that they listen', async () => {
    const world = new World();
    world.clock.chance = 0.5;
    const log = world.listen();
    await world.settle();
    world.client.notify('a', '1');
    await world.settle();
    world.client.die();
    const late = world.listen();
    const other = world.listen('b');
    await world.clock.advance(74);
    expect(world.attempts).toBe(1);
    await world.clock.advance(1);
    expect(world.attempts).toBe(2);
    await world.settle();
    expect(world.sent).toEqual(['LISTEN "a"; LISTEN "b"']);
    world.client.notify('a', '3');
    await world.settle();

    expect(log.entries).toEqual(['listening', '1', 'gap', '3']);
    expect(late.entries).toEqual(['listening', '3']);
    expect(other.entries).toEqual(['listening']);
    expect(world.warnings).toEqual([
      'Pool "main": the connection for LISTEN was lost, next attempt in 75 ms: terminated',
    ]);
    expect(world.news).toEqual(['Pool "main": listening again.']);
  });

  it('delivers nothing any more', async () => {
    const world = new World();
    const log = world.listen();
    await world.settle();
    const { client } = world;
    client.die();
    client.emit('notification', { channel: 'a', payload: 'late', processId: 1 });
    await world.clock.advance(100);
    await world.settle();
    client.emit('notification', { channel: 'a', payload: 'later', processId: 1 });
    client.emit('end');
    expect(log.entries).toEqual(['listening', 'gap']);
  });

  it('that comes to nothing each time is tried ever more rarely, and told of ever more rarely', async () => {
    const world = new World();
    world.failures.push(...Array.from({ length: 9 }, () => DOWN));
    const log = world.listen();
    await world.clock.advance(10_700);
    await world.settle();
    expect(world.attempts).toBe(10);
    expect(world.warnings).toEqual(
      ['50 ms', '100 ms', '400 ms', '2.5 s'].map(
        (pause) => `Pool "main": no connection for LISTEN, next attempt in ${pause}: nobody there`,
      ),
    );
    expect(world.news).toEqual(['Pool "main": listening again.']);
    expect(log.entries).toEqual(['listening']);
  });

  it('and one again soon, is no reason for haste: short sessions count as failures, long ones do not', async () => {
    const world = new World();
    const log = world.listen();
    await world.settle();
    const pauses: number[] = [];
    const lose = async (): Promise<void> => {
      world.client.die();
      const before = world.attempts;
      let pause = 0;
      for (; world.attempts === before; pause += 10) await world.clock.advance(10);
      pauses.push(pause);
      await world.settle();
    };
    await lose();
    await lose();
    await lose();
    await world.clock.advance(5_001);
    await lose();
    expect(pauses).toEqual([50, 100, 200, 50]);
    expect(log.entries).toEqual(['listening', 'gap', 'gap', 'gap', 'gap']);
  });

  it('before LISTEN was in force is no gap', async () => {
    const world = new World();
    const log = world.listen();
    await world.clock.advance(0);
    world.client.die();
    await world.clock.advance(50);
    await world.settle();
    expect(log.entries).toEqual(['listening']);
  });

  it('is also one that answers LISTEN with what may heal, or not in time', async () => {
    const world = new World();
    const log = world.listen();
    await world.clock.advance(0);
    world.client.refusal = Object.assign(new Error('canceling statement due to user request'), { code: '57014' });
    await world.settle();
    expect(world.client.isClosed).toBe(true);
    await world.clock.advance(50);
    expect(world.attempts).toBe(2);
    await world.clock.advance(10_000);
    expect(world.client.isClosed).toBe(true);
    await world.clock.advance(100);
    await world.settle();
    expect(log.entries).toEqual(['listening']);
    expect(world.warnings).toHaveLength(2);
    expect(world.warnings[1]).toContain('the server has not answered within 10 s');
  });
});

describe('the keepalive', () => {
  it('asks a connection that has been silent for 30 s, and takes its answer for a sign of life', async () => {
    const world = new World();
    const log = world.listen();
    await world.settle();
    await world.clock.advance(29_999);
    expect(world.sent).toHaveLength(1);
    await world.clock.advance(1);
    expect(world.sent.slice(1)).toEqual(['SELECT 1']);
    await world.clock.advance(1_999);
    await world.settle();
    await world.clock.advance(29_999);
    expect(world.sent).toHaveLength(2);
    await world.clock.advance(1);
    expect(world.sent).toHaveLength(3);
    await world.settle();
    expect(log.entries).toEqual(['listening']);
  });

  it('takes a notification for a sign of life, too', async () => {
    const world = new World();
    world.listen();
    await world.settle();
    await world.clock.advance(20_000);
    world.client.notify('a', '1');
    await world.settle();
    await world.clock.advance(29_999);
    expect(world.sent).toHaveLength(1);
    await world.clock.advance(1);
    expect(world.sent).toHaveLength(2);
  });

  it('replaces a connection that does not answer within its deadline', async () => {
    const world = new World();
    const log = world.listen();
    await world.settle();
    await world.clock.advance(32_000);
    expect(world.client.isClosed).toBe(true);
    expect(world.warnings).toEqual([
      expect.stringContaining('the connection for LISTEN was lost, next attempt in 50 ms: the server has not answered'),
    ]);
    await world.clock.advance(50);
    await world.settle();
    expect(log.entries).toEqual(['listening', 'gap']);
  });

  it('lets those who come meanwhile wait for it', async () => {
    const world = new World();
    world.listen();
    await world.settle();
    await world.clock.advance(30_000);
    const late = world.listen('b');
    await world.clock.advance(10);
    expect(world.sent.at(-1)).toBe('SELECT 1');
    await world.settle();
    expect(world.sent.at(-1)).toBe('LISTEN "b"');
    expect(late.entries).toEqual(['listening']);
  });
});

describe('what cannot heal', () => {
  it('goes to all subscribers, and the next one tries again', async () => {
    const world = new World();
    world.failures.push(PERMANENT);
    const [a, b] = [world.listen('a'), world.listen('b')];
    await world.settle();
    expect([a.entries, b.entries]).toEqual([['error: wrong password'], ['error: wrong password']]);
    expect(world.warnings).toEqual([]);
    const again = world.listen('a');
    await world.clock.advance(100);
    await world.settle();
    expect(again.entries).toEqual(['listening']);
  });

  it('also when the connection had to be replaced', async () => {
    const world = new World();
    const log = world.listen();
    await world.settle();
    world.failures.push(PERMANENT);
    world.client.die();
    await world.clock.advance(100);
    expect(log.entries).toEqual(['listening', 'error: wrong password']);
  });

  it('is not asked for in haste by those who never give up', async () => {
    const world = new World();
    world.failures.push(...Array.from({ length: 5 }, () => PERMANENT));
    const log = new Log(world.notifications.listen('a').pipe(retry()));
    await world.settle();
    expect(world.attempts).toBe(1);
    await world.clock.advance(50 + 100 + 200 + 400 + 800);
    await world.settle();
    expect(world.attempts).toBe(6);
    expect(log.entries).toEqual(['listening']);
  });

  it('of LISTEN goes to the subscribers of its channels', async () => {
    const world = new World();
    const before = world.listen('b');
    await world.settle();
    const refused = world.listen('a');
    await world.clock.advance(0);
    world.client.refusal = Object.assign(new Error('LISTEN is not supported'), { code: '0A000' });
    await world.settle();
    world.client.notify('b', '1');
    await world.settle();
    expect(refused.entries).toEqual(['error: LISTEN is not supported']);
    expect(before.entries).toEqual(['listening', '1']);
    expect(world.attempts).toBe(1);
  });
});

describe('a subscriber', () => {
  afterEach(() => {
    config.onUnhandledError = null;
  });

  it('who throws does no harm to others', async () => {
    const uncaught: unknown[] = [];
    config.onUnhandledError = (error: unknown) => uncaught.push(error);
    const world = new World();
    const failing: unknown[] = [];
    world.notifications
      .listen('a')
      .pipe(
        map((event) => {
          if (event.kind === 'notification') throw new Error('in an operator');
          return event;
        }),
      )
      .subscribe({ error: (error: unknown) => failing.push(error) });
    world.notifications.listen('a').subscribe(() => {
      throw new Error('in a listener');
    });
    const log = world.listen();
    await world.settle();
    world.client.notify('a', '1');
    world.client.notify('a', '2');
    await world.settle();
    // rxjs tells it in a timer of its own.
    await new Promise((resolve) => setTimeout(resolve));
    expect(log.entries).toEqual(['listening', '1', '2']);
    expect(failing).toEqual([new Error('in an operator')]);
    expect(uncaught).toEqual(Array.from({ length: 3 }, () => new Error('in a listener')));
  });

  it('is told outside of what it subscribed in, and of what had the connection opened', async () => {
    const storage = new AsyncLocalStorage<string>();
    const world = new World();
    const seen: unknown[] = [];
    const note = (event: PgNotificationEvent): void => void seen.push([event.kind, storage.getStore()]);
    storage.run('first', () => world.notifications.listen('a').subscribe(note));
    await world.settle();
    storage.run('second', () => world.notifications.listen('a').subscribe(note));
    expect(seen).toEqual([
      ['listening', undefined],
      ['listening', undefined],
    ]);
  });

  it('who does not care for markers filters them, and the compiler knows it', () => {
    const { notifications } = new World();
    const source = notifications.listen('a').pipe(
      filter((event) => event.kind === 'notification'),
      map(({ payload }) => payload),
    );
    expectTypeOf(source).toEqualTypeOf<Observable<string>>();
    // @ts-expect-error -- a marker has no payload
    notifications.listen('a').pipe(map(({ payload }) => String(payload)));
  });
});

describe('close()', () => {
  it('completes all subscriptions, closes the connection, and refuses whoever comes later', async () => {
    const world = new World();
    const [a, b] = [world.listen('a'), world.listen('b')];
    await world.settle();
    const first = world.notifications.close();
    expect([a.entries, b.entries]).toEqual([
      ['listening', 'done'],
      ['listening', 'done'],
    ]);
    await Promise.all([first, world.notifications.close()]);
    expect(world.client.isClosed).toBe(true);
    expect(world.clock.timers).toBe(0);
    let error: unknown;
    world.notifications.listen('a').subscribe({ error: (one: unknown) => (error = one) });
    expect(error).toBeInstanceOf(PgModuleError);
    expect(error).toMatchObject({ code: 'PG_POOL_CLOSED' });
    await world.clock.advance(100_000);
    expect(world.attempts).toBe(1);
    expect(world.warnings).toEqual([]);
  });

  it('ends an attempt to connect, and a pause between two', async () => {
    const world = new World();
    const log = world.listen();
    const closed = world.notifications.close();
    expect(world.signals[0]?.aborted).toBe(true);
    await closed;
    await world.settle();
    expect(world.client.isClosed).toBe(true);
    expect(log.entries).toEqual(['done']);

    const other = new World();
    other.failures.push(DOWN);
    other.listen();
    await other.settle();
    expect(other.clock.foregroundTimers).toBe(1);
    await other.notifications.close();
    expect(other.clock.timers).toBe(0);
  });
});

describe('names and payloads', () => {
  it.each([
    ['', /must not be empty/],
    ['x'.repeat(64), /too long: 64 bytes in UTF-8, and the server takes 63/],
    ['é'.repeat(32), /too long: 64 bytes/],
    ['a\0b', /U\+0000/],
    [7, /must be a string; it is a number/],
    [undefined, /it is undefined/],
  ])('channel %j is refused', async (channel, message) => {
    const { notifications } = new World();
    expect(() => notifications.listen(channel as string)).toThrow(message);
    const refused = await notifications.notify(channel as string).catch((error: unknown) => error);
    expect(refused).toMatchObject({
      code: 'PG_NOTIFICATION_INVALID',
      message: expect.stringMatching(message) as string,
    });
  });

  it.each([
    ['of 8 000 bytes', 'x'.repeat(8_000), /too long: 8000 bytes in UTF-8, and the server takes 7999.*Store what is/],
    ['of 4 000 characters of two bytes', 'é'.repeat(4_000), /8000 bytes/],
    ['with U+0000', 'a\0b', /U\+0000/],
    ['that is no string', { id: 1 }, /must be a string; it is an object. Send JSON.stringify\(value\)/],
  ])('a payload %s is refused', async (_, payload, message) => {
    const world = new World();
    const refused = await world.notifications.notify('a', payload as string).catch((error: unknown) => error);
    expect(refused).toMatchObject({
      code: 'PG_NOTIFICATION_INVALID',
      message: expect.stringMatching(message) as string,
    });
    expect(world.statements).toEqual([]);
  });

  it('any other goes to the pool', async () => {
    const world = new World();
    await world.notifications.notify('a "b" ü', 'x'.repeat(7_999));
    await world.notifications.notify('x'.repeat(63));
    expect(world.statements).toEqual([
      ['SELECT pg_catalog.pg_notify($1, $2)', ['a "b" ü', 'x'.repeat(7_999)]],
      ['SELECT pg_catalog.pg_notify($1, $2)', ['x'.repeat(63), '']],
    ]);
  });

  it('names are quoted for LISTEN', async () => {
    const world = new World();
    world.listen('Orders "new"');
    await world.settle();
    expect(world.sent).toEqual(['LISTEN "Orders ""new"""']);
  });
});

describe('whatever subscribers, server and network do', () => {
  const CHANNELS = ['a', 'b', 'c'];
  const channel = fc.constantFrom(...CHANNELS);
  const action = fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant('subscribe' as const), channel }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('leave' as const), which: fc.nat(20) }) },
    { weight: 6, arbitrary: fc.record({ do: fc.constant('notify' as const), channel }) },
    { weight: 6, arbitrary: fc.constant({ do: 'serve' as const }) },
    { weight: 6, arbitrary: fc.constant({ do: 'deliver' as const }) },
    { weight: 1, arbitrary: fc.constant({ do: 'lose' as const }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('wait' as const), millis: fc.constantFrom(1, 100, 6_000, 31_000) }),
    },
    { weight: 4, arbitrary: fc.constant({ do: 'settle' as const }) },
  );

  it('each has all that is committed between a marker and a loss, in order, and the server listens to what is wanted', async () => {
    const seen = { gap: 0, notification: 0 };
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(action, fc.boolean()), { minLength: 10, maxLength: 80, size: 'max' }),
        async (actions) => {
          const world = new World();
          const counts = new Map(CHANNELS.map((name) => [name, 0]));
          const open: Follower[] = [];
          const all: Follower[] = [];
          for (const [step, isSlow] of actions) {
            const client = world.clients.at(-1);
            if (step.do === 'subscribe') {
              const follower = new Follower(world.notifications, step.channel, () => counts.get(step.channel)!);
              open.push(follower);
              all.push(follower);
            } else if (step.do === 'leave') open.splice(step.which, 1)[0]?.stop();
            else if (step.do === 'notify') {
              counts.set(step.channel, counts.get(step.channel)! + 1);
              client?.notify(step.channel, String(counts.get(step.channel)));
            } else if (step.do === 'serve') client?.serve();
            else if (step.do === 'deliver') client?.deliver();
            else if (step.do === 'lose') client?.die();
            else if (step.do === 'settle') await world.settle();
            else await world.clock.advance(step.millis);
            if (isSlow) await world.clock.advance(0);
          }
          await world.clock.advance(5_000);
          await world.settle();
          for (const follower of open) {
            const count = counts.get(follower.channel)! + 1;
            counts.set(follower.channel, count);
            world.client.notify(follower.channel, String(count));
          }
          await world.settle();

          for (const follower of all) {
            expect(follower.problems).toEqual([]);
            seen.gap += follower.gaps;
            seen.notification += follower.received;
          }
          for (const follower of open) expect(follower.last).toBe(counts.get(follower.channel));
          if (open.length > 0) {
            expect([...world.client.channels].sort()).toEqual([...new Set(open.map((one) => one.channel))].sort());
          }
          await world.notifications.close();
          expect(world.clock.timers).toBe(0);
          for (const client of world.clients) expect(client.eventNames()).toEqual([]);
          expect(world.clients.filter((client) => !client.isClosed)).toEqual([]);
        },
      ),
      { numRuns: 400 },
    );
    expect(seen.gap).toBeGreaterThan(200);
    expect(seen.notification).toBeGreaterThan(2_000);
  });
});

/** A subscriber that knows what it must be told: the numbers of its channel, without a hole but at a marker. */
class Follower {
  readonly problems: string[] = [];
  gaps = 0;
  received = 0;
  last = -1;
  #isTold = false;
  #isFirst = true;
  readonly #subscription: Subscription;

  constructor(
    notifications: PgNotifications,
    readonly channel: string,
    committed: () => number,
  ) {
    this.#subscription = notifications.listen(channel).subscribe((event) => {
      if (event.channel !== channel) this.problems.push(`told of ${event.channel}`);
      if (event.kind === 'notification') {
        this.received++;
        const number = Number(event.payload);
        if (!this.#isTold) this.problems.push(`${number} before listening`);
        // What was committed before the marker may come all the same: whoever reads at the marker has it already.
        const isNext = number === this.last + 1 || (this.#isFirst && number <= this.last);
        if (!isNext) this.problems.push(`${number} after ${this.last}`);
        this.last = number;
        this.#isFirst = false;
        return;
      }
      if (event.kind !== (this.#isTold ? 'gap' : 'listening')) this.problems.push(event.kind);
      if (event.kind === 'gap') this.gaps++;
      this.#isTold = true;
      this.#isFirst = true;
      this.last = committed();
    });
  }

  stop(): void {
    this.#subscription.unsubscribe();
  }
}
