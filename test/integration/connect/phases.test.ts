import dns from 'node:dns/promises';
import { PassThrough } from 'node:stream';
import { PgConnectError, type ConnectPhase, type PgClient } from 'nestjs-pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { deferred, type Deferred } from '../../../lib/util/deferred.js';
import { createAuthority } from '../../support/certificates.js';
import { fullBacklog } from '../../support/full-backlog.js';
import { sessionsOf, useServer, waitFor } from '../../support/postgres.js';
import { startScriptedServer, type ScriptedConnection } from '../../support/scripted-server.js';
import { DEADLINE_MILLIS, Opening, socketCount, type OpeningOptions } from './support/opening.js';

const NEVER = new Promise<never>(() => undefined);

const certificate = await (await createAuthority('Root')).issue({ dns: ['localhost'] });
const server = useServer({ ssl: { cert: certificate.certPem, key: certificate.keyPem } });

const reals = (): OpeningOptions['settings'] => ({
  host: server().host,
  port: server().port,
  user: server().user,
  password: server().password,
  database: server().database,
  ssl: 'require',
});

async function sleep(client: PgClient): Promise<void> {
  await client.query('SELECT pg_sleep(3600)');
}

/** A place at which an attempt to connect stops for good. */
interface Station extends AsyncDisposable {
  readonly options: OpeningOptions;
  /** Until the attempt is there. */
  readonly reached: () => Promise<unknown>;
  /** Connections that the other side still has. */
  readonly left: () => number | Promise<number>;
}

/** A server that plays its part and then falls silent. */
async function silentAfter(
  play: (connection: ScriptedConnection) => Promise<unknown>,
  settings: OpeningOptions['settings'],
): Promise<Station> {
  const silent = deferred<void>();
  const scripted = await startScriptedServer(async (connection) => {
    await play(connection);
    silent.resolve();
  });
  return {
    options: { settings: { host: scripted.host, port: scripted.port, user: 'u', password: 'p', ...settings } },
    reached: () => silent.promise,
    left: () => scripted.connections,
    [Symbol.asyncDispose]: scripted.close,
  };
}

/** The real server. */
function real(
  options: Omit<OpeningOptions, 'settings'> & Partial<OpeningOptions>,
  reached: () => Promise<unknown>,
): Station {
  return {
    options: { ...options, settings: { ...reals(), ...options.settings } },
    reached,
    left: async () => (await sessionsOf(server())).length,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

const STATIONS: readonly (readonly [string, ConnectPhase, () => Station | Promise<Station>])[] = [
  [
    'the name server does not answer',
    'name look-up',
    () => {
      const lookUp = vi.spyOn(dns, 'lookup').mockReturnValue(NEVER);
      return real({ settings: { host: 'db.internal' } }, () => vi.waitFor(() => expect(lookUp).toHaveBeenCalled()));
    },
  ],
  [
    'packets get lost',
    'TCP connect',
    async () => {
      const backlog = await fullBacklog();
      const before = socketCount();
      return {
        options: { settings: { host: backlog.host, port: backlog.port } },
        reached: () => waitFor(() => socketCount() > before, { message: 'the socket' }),
        left: () => socketCount() - before,
        [Symbol.asyncDispose]: () => backlog[Symbol.asyncDispose](),
      };
    },
  ],
  [
    'the tunnel does not open',
    'TCP connect',
    () => {
      const stream = vi.fn(() => NEVER);
      return real({ stream }, () => vi.waitFor(() => expect(stream).toHaveBeenCalled()));
    },
  ],
  [
    'the request for TLS is not answered',
    'TLS',
    () => silentAfter((connection) => connection.startup(), { ssl: 'prefer' }),
  ],
  [
    'the handshake of TLS does not go on',
    'TLS',
    () =>
      silentAfter(
        async (connection) => {
          await connection.startup();
          connection.send('S');
          await connection.read(1);
        },
        { ssl: 'require' },
      ),
  ],
  [
    'the handshake of direct TLS does not begin',
    'TLS',
    () =>
      silentAfter((connection) => connection.read(1), {
        ssl: { mode: 'require', negotiation: 'direct' },
      }),
  ],
  [
    'the startup packet is not answered',
    'authentication',
    () => silentAfter((connection) => connection.startupWithoutEncryption(), { ssl: false }),
  ],
  [
    'the password is not answered',
    'authentication',
    () =>
      silentAfter(
        async (connection) => {
          await connection.startupWithoutEncryption();
          connection.sendMessage('R', Buffer.from([0, 0, 0, 3]));
          await connection.message();
        },
        { ssl: false },
      ),
  ],
  [
    'the server lets us in and is never ready',
    'authentication',
    () =>
      silentAfter(
        async (connection) => {
          await connection.startupWithoutEncryption();
          connection.sendMessage('R', Buffer.alloc(4));
        },
        { ssl: false },
      ),
  ],
  [
    'the password function does not answer',
    'password',
    () => {
      const password = vi.fn(() => NEVER);
      return real({ settings: { password } }, () => vi.waitFor(() => expect(password).toHaveBeenCalledOnce()));
    },
  ],
  [
    'the question for the kind of session is not answered',
    'session check',
    () =>
      silentAfter(
        async (connection) => {
          await connection.startupWithoutEncryption();
          connection.sendReady();
          await connection.message();
        },
        { ssl: false, target_session_attrs: 'read-write' },
      ),
  ],
  [
    'onConnect does not end',
    'onConnect',
    () => {
      const onConnect = vi.fn(() => NEVER);
      return real({ onConnect }, () => vi.waitFor(() => expect(onConnect).toHaveBeenCalled()));
    },
  ],
  [
    'a statement of onConnect does not end',
    'onConnect',
    () =>
      real({ onConnect: sleep }, () =>
        waitFor(async () => (await sessionsOf(server())).some(({ wait_event }) => wait_event === 'PgSleep'), {
          message: 'the statement',
        }),
      ),
  ],
];

let before: number;
beforeEach(() => {
  before = socketCount();
});
afterEach(async () => {
  vi.restoreAllMocks();
  await waitFor(() => socketCount() <= before, { message: 'the sockets of the test to close' });
});

describe.each(STATIONS)('when %s, the attempt', (_, phase, open) => {
  it(`ends by its deadline, in the phase "${phase}", and leaves nothing`, async () => {
    await using station = await open();
    const opening = new Opening(station.options);
    await station.reached();
    await opening.clock.advance(DEADLINE_MILLIS - 1);
    expect(opening.outcome).toBeUndefined();

    await opening.clock.advance(1);

    const error = await opening.failure<PgConnectError>();
    expect(error).toBeInstanceOf(PgConnectError);
    expect(error).toMatchObject({ code: 'PG_CONNECT_FAILED', permanent: false });
    expect(error.attempts).toMatchObject([{ phase, error: { code: 'PG_CONNECT_TIMEOUT' } }]);
    expect(error.message).toMatch(
      new RegExp(`, ${phase}: no connection within 1 s \\(connectTimeoutMillis\\)\\. [A-Z].*\\.$`),
    );
    await waitFor(async () => (await station.left()) === 0, { message: 'the other side to be left alone' });
    await waitFor(() => opening.clock.timers === 0, { message: 'the timers to be cleared' });
  });

  it('ends by the signal, and leaves nothing', async () => {
    await using station = await open();
    const opening = new Opening(station.options);
    await station.reached();
    expect(opening.outcome).toBeUndefined();
    const reason = new Error('the user has left');

    opening.abort.abort(reason);

    expect(await opening.failure()).toMatchObject({ code: 'PG_ABORTED', cause: reason });
    await waitFor(async () => (await station.left()) === 0, { message: 'the other side to be left alone' });
    await waitFor(() => opening.clock.timers === 0, { message: 'the timers to be cleared' });
  });
});

describe('the deadline', () => {
  it('is one for all phases', async () => {
    const settings = {
      ...reals(),
      password: async (): Promise<string> => {
        await opening.clock.advance(DEADLINE_MILLIS * 0.6);
        return server().password;
      },
    };
    const spend = (share: number) => (): Promise<void> => opening.clock.advance(DEADLINE_MILLIS * share);
    let opening = new Opening({ settings, onConnect: spend(0.3) });
    const client = await opening.result;
    expect(opening.clock.timers).toBe(0);
    await client.close();

    opening = new Opening({ settings, onConnect: spend(0.5) });
    expect((await opening.failure<PgConnectError>()).attempts).toMatchObject([{ phase: 'onConnect' }]);
  });

  it('begins anew with the next address of a name, and with the next host', async () => {
    await using silent = await silentAfter((connection) => connection.startup(), {});
    const { host, port } = silent.options.settings;
    vi.spyOn(dns, 'lookup').mockResolvedValue([
      { address: host!, family: 4 },
      { address: host!, family: 4 },
    ] as never);
    const opening = new Opening({
      settings: { ...reals(), host: `one.internal,${host},${server().host}`, port: `${port},${port},${server().port}` },
    });
    for (const tried of [1, 2, 3]) {
      await waitFor(() => opening.clock.timers === 1 && silent.left() === 1, { message: `attempt ${tried}` });
      await opening.clock.advance(DEADLINE_MILLIS);
      await waitFor(() => opening.outcome !== undefined || opening.clock.timers === 1, { message: 'the next' });
    }
    const client = await opening.result;
    expect(client.port).toBe(server().port);
    await client.close();
  });

  it('that is 0 never comes', async () => {
    await using silent = await silentAfter((connection) => connection.startup(), {});
    const opening = new Opening({ ...silent.options, deadlineMillis: 0 });
    await silent.reached();
    expect(opening.clock.timers).toBe(0);
    opening.abort.abort();
    expect(await opening.failure()).toMatchObject({ code: 'PG_ABORTED' });
  });
});

describe('what comes too late', () => {
  it('is closed, if it is a stream', async () => {
    const opened = deferred<PassThrough>();
    const opening = new Opening({ settings: reals(), stream: () => opened.promise });
    opening.abort.abort(new Error('left'));
    await opening.failure();
    const late = new PassThrough();
    opened.resolve(late);
    await waitFor(() => late.destroyed, { message: 'the stream to be destroyed' });
  });

  it.each([
    ['a password', (answer: Deferred<string>) => answer.resolve(server().password)],
    ['the failure of the password function', (answer: Deferred<string>) => answer.reject(new Error('late'))],
  ])('hurts nobody, if it is %s', async (_, settle) => {
    const answer = deferred<string>();
    const password = vi.fn(() => answer.promise);
    const opening = new Opening({ settings: { ...reals(), password } });
    await vi.waitFor(() => expect(password).toHaveBeenCalled());
    await opening.clock.advance(DEADLINE_MILLIS);
    await opening.failure();
    settle(answer);
    await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'no session' });
  });

  it('hurts nobody, if it is the failure of onConnect', async () => {
    const answer = deferred<void>();
    const onConnect = vi.fn(() => answer.promise);
    const opening = new Opening({ settings: reals(), onConnect });
    await vi.waitFor(() => expect(onConnect).toHaveBeenCalled());
    await opening.clock.advance(DEADLINE_MILLIS);
    await opening.failure();
    answer.reject(new Error('late'));
    await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'no session' });
  });
});

it('a signal that has fired already keeps everything from being opened', async () => {
  const lookUp = vi.spyOn(dns, 'lookup');
  const before = socketCount();
  const onConnect = vi.fn();
  const abort = new AbortController();
  abort.abort(new Error('earlier'));
  const opening = new Opening({ settings: { ...reals(), host: `localhost,${server().host}` }, onConnect, abort });
  expect(socketCount()).toBe(before);
  expect(await opening.failure()).toMatchObject({ code: 'PG_ABORTED', cause: abort.signal.reason as Error });
  expect(lookUp).not.toHaveBeenCalled();
  expect(onConnect).not.toHaveBeenCalled();
  expect(opening.clock.timers).toBe(0);
});
