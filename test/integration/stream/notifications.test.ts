import {
  createConnectionFactory,
  createNotifications,
  createPool,
  PgConnectError,
  type PgClient,
  type PgNotificationEvent,
  type PgNotifications,
  type PgOptions,
  type PgPool,
} from 'nestjs-pg';
import { startStandby, type PostgresServer } from 'nestjs-pg/testing';
import { firstValueFrom, retry, type Observable, type Subscription } from 'rxjs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { adminQuery, sessionsOf, terminateBackends, useServer, waitFor } from '../../support/postgres.js';
import { startProxy } from '../../support/proxy.js';

const server = useServer();

/** A pool, and notifications beside it; `await using` closes both. */
class Party implements AsyncDisposable {
  readonly pool: PgPool;
  readonly notifications: PgNotifications;
  /** Each connection that was opened, the pool's too. */
  readonly clients: PgClient[] = [];

  constructor(options: PgOptions = {}) {
    this.pool = createPool({
      connectionString: server().connectionString,
      application_name: 'party',
      connectionFactory: async (connect, connectOptions) => {
        const client = await connect(connectOptions);
        this.clients.push(client);
        return client;
      },
      ...options,
    });
    this.notifications = createNotifications(this.pool);
  }

  listen(channel = 'orders'): Log {
    return new Log(this.notifications.listen(channel));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.notifications.close();
    await this.pool.end();
  }
}

/** What one subscriber is told, in short: `listening`, `gap`, payloads, `done`. */
class Log {
  readonly entries: string[] = [];
  readonly pids = new Set<number>();
  error: unknown;
  readonly #subscription: Subscription;

  constructor(source: Observable<PgNotificationEvent>) {
    this.#subscription = source.subscribe({
      next: (event) => {
        this.entries.push(event.kind === 'notification' ? event.payload : event.kind);
        if (event.kind === 'notification') this.pids.add(event.pid);
      },
      error: (error: unknown) => (this.error = error),
      complete: () => this.entries.push('done'),
    });
  }

  get last(): string | undefined {
    return this.entries.at(-1);
  }

  async until(entry: string): Promise<void> {
    await waitFor(() => this.error !== undefined || this.entries.includes(entry), { message: entry, deadline: 20_000 });
    expect(this.error).toBeUndefined();
  }

  stop(): void {
    this.#subscription.unsubscribe();
  }
}

/** What the listening connection's own server process listens to, asked on that very connection. */
async function channelsOf(client: PgClient): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>('SELECT pg_listening_channels() AS name ORDER BY 1');
  return rows.map(({ name }) => name);
}

function notify(channel: string, payload: string, at: PostgresServer = server()): Promise<unknown> {
  return adminQuery(at, 'SELECT pg_notify($1, $2)', [channel, payload]);
}

afterEach(async () => {
  await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'the sessions to end' });
});

describe('listen() and notify()', () => {
  it('deliver { channel, payload, pid }, to each subscriber and on one connection for all channels', async () => {
    await using party = new Party();
    const events: PgNotificationEvent[] = [];
    party.notifications.listen('orders').subscribe((event) => events.push(event));
    const [again, other] = [party.listen('orders'), party.listen('Orders "ü"')];
    await Promise.all([again.until('listening'), other.until('listening')]);
    expect(await sessionsOf(server())).toHaveLength(1);

    const { rows } = await party.pool.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    await party.notifications.notify('orders', 'one');
    await party.notifications.notify('Orders "ü"', 'two');
    await party.notifications.notify('orders');
    await Promise.all([again.until(''), other.until('two')]);

    expect(events).toEqual([
      { kind: 'listening', channel: 'orders' },
      { kind: 'notification', channel: 'orders', payload: 'one', pid: rows[0]?.pid },
      { kind: 'notification', channel: 'orders', payload: '', pid: rows[0]?.pid },
    ]);
    expect(again.entries).toEqual(['listening', 'one', '']);
    expect(other.entries).toEqual(['listening', 'two']);
    expect(await sessionsOf(server())).toHaveLength(2);
    expect(party.pool.totalCount).toBe(1);
  });

  it('take names and payloads of any characters up to the limits of the server, and are not changed on the way', async () => {
    await using party = new Party();
    const name = `${'é'.repeat(31)}x`;
    const logs = [name, 'UPPER', 'a"b', "a'b;--", ' ', 'select'].map((channel) => ({
      channel,
      log: party.listen(channel),
    }));
    await Promise.all(logs.map(({ log }) => log.until('listening')));
    const payload = `${'ü'.repeat(3_999)}x`;
    for (const { channel } of logs) await party.notifications.notify(channel, payload);
    for (const { log } of logs) {
      await log.until(payload);
      expect(log.entries).toEqual(['listening', payload]);
    }
    // What is refused here would have been refused there, too.
    await expect(notify('orders', 'x'.repeat(8_000))).rejects.toThrow('payload string too long');
    await expect(notify('x'.repeat(64), '')).rejects.toThrow('channel name too long');
  });

  it('`listening` says that LISTEN is in force: what is sent after it arrives', async () => {
    await using party = new Party();
    for (let round = 0; round < 50; round++) {
      const channel = `channel ${round % 7}`;
      const log = party.listen(channel);
      await firstValueFrom(party.notifications.listen(channel));
      await notify(channel, String(round));
      await log.until(String(round));
      log.stop();
    }
  });

  it('a transaction sends with its COMMIT, and not with a ROLLBACK', async () => {
    await using party = new Party();
    const log = party.listen();
    await log.until('listening');
    const rolledBack = party.pool.transaction(async () => {
      await party.notifications.notify('orders', 'never');
      throw new Error('changed my mind');
    });
    await expect(rolledBack).rejects.toThrow('changed my mind');
    await party.pool.transaction(async (transaction) => {
      await party.notifications.notify('orders', 'late');
      await transaction.query('SELECT 1');
      await notify('orders', 'early');
    });
    await log.until('late');
    expect(log.entries).toEqual(['listening', 'early', 'late']);
  });

  it('a subscription made in a transaction is told outside of it', async () => {
    await using party = new Party();
    const seen: unknown[] = [];
    await party.pool.transaction(async (transaction) => {
      await transaction.query('SELECT 1');
      party.notifications.listen('orders').subscribe(({ kind }) => seen.push(kind, party.pool.currentTransaction));
      await waitFor(() => seen.length > 0, { message: 'listening' });
    });
    await notify('orders', 'x');
    await waitFor(() => seen.length === 4, { message: 'the notification' });
    expect(seen).toEqual(['listening', undefined, 'notification', undefined]);
  });

  it('UNLISTEN follows the last subscriber, and the connection is closed when nobody has come for some seconds', async () => {
    await using party = new Party();
    const [a, b] = [party.listen('a'), party.listen('b')];
    await Promise.all([a.until('listening'), b.until('listening')]);
    const [client] = party.clients as [PgClient];
    expect(await channelsOf(client)).toEqual(['a', 'b']);
    a.stop();
    await waitFor(async () => (await channelsOf(client)).join() === 'b', { message: 'UNLISTEN a' });
    b.stop();
    await waitFor(async () => (await channelsOf(client)).length === 0, { message: 'UNLISTEN b' });
    await waitFor(() => client.isClosed, { message: 'the end of the connection', deadline: 10_000 });
    expect(party.clients).toHaveLength(1);
    const back = party.listen('a');
    await back.until('listening');
    expect(party.clients).toHaveLength(2);
  });

  it('10 000 cycles of subscribing and unsubscribing leave no connection, no LISTEN and no listener behind', async () => {
    await using party = new Party();
    const stays = party.listen('stays');
    await stays.until('listening');
    const [client] = party.clients as [PgClient];
    const listeners = (): string[] =>
      [client, client.connection]
        .flatMap((emitter) => emitter.eventNames().map((name) => [name, emitter.listenerCount(name)]))
        .map(([name, count]) => `${String(name)} ${String(count)}`);
    const before = listeners();
    const warnings = vi.spyOn(process, 'emitWarning');
    let told = 0;
    for (let cycle = 0; cycle < 10_000; cycle++) {
      const source = party.notifications.listen(`channel ${cycle % 10}`);
      // By turns: at once, while LISTEN is under way, and when it is in force.
      const subscription = source.subscribe(() => told++);
      if (cycle % 4 === 1) await Promise.resolve();
      if (cycle % 4 === 2) await new Promise((resolve) => setImmediate(resolve));
      if (cycle % 4 === 3) await firstValueFrom(source);
      subscription.unsubscribe();
    }
    await waitFor(async () => (await channelsOf(client)).join() === 'stays', { message: 'the last UNLISTEN' });

    expect(told).toBeGreaterThanOrEqual(2_500);
    expect(party.clients).toHaveLength(1);
    expect(await sessionsOf(server())).toHaveLength(1);
    expect(listeners()).toEqual(before);
    expect(warnings).not.toHaveBeenCalled();
    await notify('stays', 'still there');
    await stays.until('still there');
    expect(stays.entries).toEqual(['listening', 'still there']);
    await party.notifications.close();
    // Its own, which keep a late error from ending the process.
    expect(client.eventNames()).toEqual(['error']);
    vi.restoreAllMocks();
  });
});

describe('a lost connection', () => {
  it('of 50 listeners, by a restart of the server: each is told of the gap, and loses nothing else', async () => {
    await using party = new Party();
    const channels = Array.from({ length: 10 }, (_, index) => `channel ${index}`);
    const logs = Array.from({ length: 50 }, (_, index) => ({
      channel: channels[index % 10]!,
      log: party.listen(channels[index % 10]),
    }));
    await Promise.all(logs.map(({ log }) => log.until('listening')));
    /** By channel, for each life of the server: the numbers that were committed, and how many of them before its end began. */
    const lives = new Map(channels.map((channel) => [channel, [newLife()]]));
    let number = 0;
    const send = async (): Promise<void> => {
      for (const channel of channels) {
        const life = lives.get(channel)!.at(-1)!;
        const own = ++number;
        await notify(channel, String(own));
        life.committed.push(own);
        if (!isEnding) life.certain++;
      }
    };
    let isEnding = false;
    for (let round = 0; round < 5; round++) await send();
    for (let restart = 1; restart <= 3; restart++) {
      isEnding = true;
      const talking = (async () => {
        for (;;) await send();
      })().catch(() => undefined);
      await server().restart('fast');
      await talking;
      for (const life of lives.values()) life.push(newLife());
      await waitFor(() => logs.every(({ log }) => log.entries.filter((entry) => entry === 'gap').length === restart), {
        message: 'the gaps',
        deadline: 20_000,
      });
      isEnding = false;
      for (let round = 0; round < 5; round++) await send();
    }
    for (const { channel, log } of logs) await log.until(String(lives.get(channel)!.at(-1)!.committed.at(-1)));

    for (const { channel, log } of logs) {
      const told = segmentsOf(log.entries);
      expect(told).toHaveLength(4);
      for (const [index, numbers] of told.entries()) {
        const { committed, certain } = lives.get(channel)![index]!;
        expect(certain).toBe(5);
        expect(numbers.length).toBeGreaterThanOrEqual(certain);
        // One more may have been committed whose sender was not told.
        expect(numbers.length).toBeLessThanOrEqual(committed.length + 1);
        expect(numbers.slice(0, committed.length)).toEqual(committed.slice(0, numbers.length));
      }
    }
    expect(await sessionsOf(server())).toHaveLength(1);
  });

  it('by pg_terminate_backend, again and again', async () => {
    await using party = new Party();
    const log = party.listen();
    for (let round = 1; round <= 5; round++) {
      await waitFor(() => log.entries.filter((entry) => !/\d/.test(entry)).length === round, { message: 'the marker' });
      await notify('orders', String(round));
      await log.until(String(round));
      if (round < 5) expect(await terminateBackends(server(), 'party')).toBe(1);
    }
    expect(log.entries).toEqual(['listening', '1', 'gap', '2', 'gap', '3', 'gap', '4', 'gap', '5']);
  });

  it('is told by a warning, without Nest', async () => {
    await using party = new Party();
    const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const log = party.listen();
    await log.until('listening');
    await terminateBackends(server(), 'party');
    await log.until('gap');
    expect(warnings.mock.calls).toEqual([
      [
        expect.stringMatching(
          /^Pool "default": the connection for LISTEN was lost, next attempt in \d+ ms: terminating connection/,
        ),
        { type: 'PgWarning' },
      ],
    ]);
    vi.restoreAllMocks();
  });

  it('that has silently died is found by the keepalive', async () => {
    await using proxy = await startProxy({ host: server().host, port: server().port });
    const { user, database, password } = server();
    await using party = new Party({
      ...{ connectionString: undefined, host: proxy.host, port: proxy.port, user, database, password },
      pool: { keepaliveMillis: 200, validateTimeoutMillis: 500, connectTimeoutMillis: 1_000 },
    });
    const log = party.listen();
    await log.until('listening');
    const [client] = party.clients as [PgClient];
    proxy.blackHole();
    await notify('orders', 'lost');
    await waitFor(() => client.isClosed, { message: 'the connection to be given up' });
    proxy.heal();
    await log.until('gap');
    await notify('orders', 'arrives');
    await log.until('arrives');
    expect(log.entries).toEqual(['listening', 'gap', 'arrives']);
  });

  it('is replaced although the server does not come back for a while; who subscribes meanwhile waits', async () => {
    await using party = new Party();
    const log = party.listen();
    await log.until('listening');
    const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    await server().stop('immediate');
    await waitFor(() => warnings.mock.calls.some(([text]) => String(text).includes('no connection for LISTEN')), {
      message: 'an attempt in vain',
    });
    const late = party.listen('late');
    await server().start();
    await Promise.all([log.until('gap'), late.until('listening')]);
    expect(late.entries).toEqual(['listening']);
    vi.restoreAllMocks();
  });
});

describe('what cannot heal', () => {
  it('is an error for the subscribers, at once and without a warning; the next subscriber tries again', async () => {
    const warnings = vi.spyOn(process, 'emitWarning');
    let database = 'nowhere';
    await using party = new Party({
      connectionFactory: (connect, options) =>
        database === 'nowhere'
          ? createConnectionFactory({ connectionString: server().connectionString, database })(options)
          : connect(options),
    });
    const [a, b] = [party.listen('a'), party.listen('b')];
    await waitFor(() => a.error && b.error, { message: 'the errors' });
    expect(a.error).toBeInstanceOf(PgConnectError);
    expect(a.error).toMatchObject({ permanent: true, message: expect.stringContaining('does not exist') as string });
    expect(b.error).toBe(a.error);
    expect(a.entries).toEqual([]);
    database = 'postgres';
    const again = party.listen('a');
    await again.until('listening');
    expect(warnings).not.toHaveBeenCalled();
    vi.restoreAllMocks();
  });

  it('may be tried again by the subscriber', async () => {
    let isRight = false;
    await using party = new Party({
      password: () => (isRight ? server().password : 'wrong'),
      connectionFactory: (connect, options) => connect(options),
    });
    await adminQuery(server(), `ALTER ROLE postgres PASSWORD '${server().password}'`);
    await server().setHba(['local all postgres trust', 'host all all all scram-sha-256']);
    try {
      const source = party.notifications.listen('orders');
      const errors: unknown[] = [];
      const log = new Log(
        source.pipe(
          retry({
            delay: async (error) => {
              errors.push(error);
              isRight = errors.length === 3;
            },
          }),
        ),
      );
      await log.until('listening');
      expect(errors).toHaveLength(3);
      expect(errors[0]).toMatchObject({ code: 'PG_CONNECT_FAILED', permanent: true });
    } finally {
      await server().setHba();
    }
  });
});

describe('close()', () => {
  it('completes the subscriptions and closes the connection, and says no word about it', async () => {
    const warnings = vi.spyOn(process, 'emitWarning');
    await using party = new Party();
    const log = party.listen();
    await log.until('listening');
    await party.notifications.close();
    expect(log.entries).toEqual(['listening', 'done']);
    expect(party.clients[0]?.isClosed).toBe(true);
    await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'the session to end' });
    expect(warnings).not.toHaveBeenCalled();
    // The pool goes on.
    await party.notifications.notify('orders', 'nobody hears');
    vi.restoreAllMocks();
  });
});

describe('createNotifications()', () => {
  it('takes the pools of createPool()', () => {
    expect(() => createNotifications({ name: 'x' } as PgPool)).toThrow('a pool that createPool() has made');
  });
});

describe('beside a standby', () => {
  it('listens on the primary, whatever the pool prefers, and follows a failover', async () => {
    await using standby = await startStandby(server());
    const { user, database, password } = server();
    const at = (...servers: PostgresServer[]): PgOptions => ({
      connectionString: `host=${servers.map(() => '127.0.0.1').join()} port=${servers.map(({ port }) => port).join()}`,
      ...{ user, database, password },
    });
    for (const attrs of ['any', 'prefer-standby', 'standby', 'read-only', 'primary', 'read-write'] as const) {
      await using party = new Party({ ...at(standby, server()), target_session_attrs: attrs });
      const log = party.listen();
      await log.until('listening');
      expect(party.clients.at(-1)?.port, attrs).toBe(server().port);
      const { rows } = await party.pool.query<{ standby: boolean }>('SELECT pg_is_in_recovery() AS standby');
      expect(rows[0]?.standby, attrs).toBe(!['primary', 'read-write'].includes(attrs));
      await notify('orders', attrs);
      await log.until(attrs);
    }
    // Also where a hook of the user's passes nothing on.
    await using party = new Party({
      ...at(standby, server()),
      target_session_attrs: 'prefer-standby',
      connectionFactory: async (connect) => {
        const client = await connect();
        party.clients.push(client);
        return client;
      },
    });
    const log = party.listen();
    await log.until('listening');
    expect(party.clients[0]?.port).toBe(server().port);

    // Not the server of all the other tests: one that may fail.
    await using second = await startStandby(server(), { name: 'second' });
    await second.promote();
    await using third = await startStandby(second, { name: 'third' });
    await using family = new Party({ ...at(second, third), target_session_attrs: 'prefer-standby' });
    const follower = family.listen();
    await follower.until('listening');
    await notify('orders', 'before', second);
    await follower.until('before');
    await second.kill();
    await third.promote();
    await follower.until('gap');
    await notify('orders', 'after', third);
    await follower.until('after');
    expect(follower.entries).toEqual(['listening', 'before', 'gap', 'after']);
  });
});

function newLife(): { committed: number[]; certain: number } {
  return { committed: [], certain: 0 };
}

/** Numbers between markers. */
function segmentsOf(entries: readonly string[]): number[][] {
  const segments: number[][] = [];
  for (const entry of entries) {
    if (entry === 'listening' || entry === 'gap') segments.push([]);
    else segments.at(-1)?.push(Number(entry));
  }
  return segments;
}
