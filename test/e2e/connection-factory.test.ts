import {
  createConnectionFactory,
  PgModule,
  type ConnectionFactory,
  type ConnectionFactoryHook,
  type PgClient,
  type PgModuleOptions,
} from 'nestjs-pg';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { deferred } from '../../lib/util/deferred.js';
import { sessionsOf, useServer, waitFor } from '../support/postgres.js';
import { startProxy } from '../support/proxy.js';
import { rejection, startApp, type TestApp } from './support/test-app.js';

const PASSWORD = 'wisteria-17';
const server = useServer({ password: PASSWORD });

function start(options: PgModuleOptions = {}): Promise<TestApp> {
  const { connectionString } = server();
  return startApp({ imports: [PgModule.forRoot({ connectionString, application_name: 'of-the-pool', ...options })] });
}

async function one(client: PgClient): Promise<unknown> {
  return (await client.query('SELECT 1 AS one')).rows;
}

const sessionsNamed = (name: string): Promise<unknown[]> => sessionsOf(server(), name);

afterEach(async () => {
  await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'the sessions to end' });
});

describe('a connection of the connection factory', () => {
  it('is new, is set up like those of the pool, and does not count as one of them', async () => {
    const onConnect = async (client: PgClient): Promise<void> => {
      await client.query('SET search_path = from_on_connect');
    };
    await using app = await start({
      statement_timeout: 12_345,
      pool: { max: 1, onConnect },
    });
    const connect = app.connectionFactory();
    await using first = await connect();
    await using second = await connect();

    expect(first.processId).not.toBe(second.processId);
    for (const client of [first, second, await app.pool().connect()]) {
      const { rows } = await client.query(
        `SELECT current_setting('statement_timeout') AS timeout, current_setting('search_path') AS path,
                current_setting('application_name') AS name`,
      );
      expect(rows).toEqual([{ timeout: '12345ms', path: 'from_on_connect', name: 'of-the-pool' }]);
      if ('release' in client) (client as { release(): void }).release();
    }
    expect(app.pool().totalCount).toBe(1);
  });

  it('may have another application_name', async () => {
    await using app = await start();
    await using client = await app.connectionFactory()({ applicationName: 'listener' });

    expect((await client.query('SHOW application_name')).rows).toEqual([{ application_name: 'listener' }]);
    expect(await sessionsNamed('listener')).toHaveLength(1);
    expect(await sessionsNamed('of-the-pool')).toHaveLength(1);
  });

  it('is closed by `await using`, by close() and by end(), and twice is as good as once', async () => {
    await using app = await start({ connect: 'lazy' });
    const connect = app.connectionFactory();
    let kept: PgClient;
    {
      await using client = await connect();
      kept = client;
      expect(await one(client)).toEqual([{ one: 1 }]);
    }
    expect(kept.isClosed).toBe(true);
    await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'the session to end' });

    const client = await connect();
    await Promise.all([client.close(), client.close(), client.end()]);
    await client.close();
    expect(client.isClosed).toBe(true);
    await expect(one(client)).rejects.toThrow();
    await app.close();
    expect(app.log.lines('warn')).toEqual([]);
  });

  it('that dies under its user does not end the process, nor is it reported as forgotten', async () => {
    await using app = await start({ connect: 'lazy' });
    const client = await app.connectionFactory()();
    const ended = new Promise((resolve) => client.once('end', resolve));

    const error = await rejection(client.query('SELECT pg_terminate_backend(pg_backend_pid())'));

    expect(error).toMatchObject({ code: '57P01' });
    await ended;
    await app.close();
    expect(app.log.lines('warn')).toEqual([]);
  });

  it('that is still open at shutdown is closed, and named with its line', async () => {
    await using app = await start({ connect: 'lazy' });
    async function forgetful(connect: ConnectionFactory): Promise<PgClient> {
      return connect({ applicationName: 'forgotten' });
    }
    const client = await forgetful(app.connectionFactory());
    const running = rejection(client.query('SELECT pg_sleep(60)'));
    await waitFor(async () => (await sessionsNamed('forgotten')).length === 1, { message: 'the session' });

    await app.close();

    expect(client.isClosed).toBe(true);
    expect(await running).toBeInstanceOf(Error);
    expect(app.log.lines('warn')).toEqual([
      expect.stringMatching(
        /^Pool "default": closed a connection .* ago at .*forgetful \(.*connection-factory\.test\.ts:\d+:\d+\) and never closed\.$/,
      ),
    ]);
  });

  it('cannot be had any more after shutdown', async () => {
    await using app = await start();
    await app.close();

    expect(await rejection(app.connectionFactory()())).toMatchObject({ code: 'PG_POOL_CLOSED' });
  });

  it('that is being opened at shutdown is given up', async () => {
    await using proxy = await startProxy({ host: server().host, port: server().port });
    await using app = await start({
      connectionString: undefined,
      host: proxy.host,
      port: proxy.port,
      user: 'postgres',
      connect: 'lazy',
    });
    proxy.blackHole();
    const opening = rejection(app.connectionFactory()());
    await waitFor(() => proxy.accepted === 1, { message: 'the attempt' });

    await app.close();

    expect(await opening).toMatchObject({ code: 'PG_POOL_CLOSED' });
    proxy.heal();
    await waitFor(() => proxy.connections === 0, { message: 'the socket to close' });
  });

  it('is given up when the signal fires: before, during, and not after', async () => {
    await using proxy = await startProxy({ host: server().host, port: server().port });
    const { user, database } = server();
    await using app = await start({
      connectionString: undefined,
      ...{ host: proxy.host, port: proxy.port, user, database, password: PASSWORD },
      connect: 'lazy',
    });
    const connect = app.connectionFactory();

    expect(await rejection(connect({ signal: AbortSignal.abort() }))).toMatchObject({ code: 'PG_ABORTED' });
    expect(proxy.accepted).toBe(0);

    proxy.blackHole();
    const abort = new AbortController();
    const opening = rejection(connect({ signal: abort.signal }));
    await waitFor(() => proxy.accepted === 1, { message: 'the attempt' });
    const reason = new Error('the user has left');
    abort.abort(reason);
    expect(await opening).toMatchObject({ code: 'PG_ABORTED', cause: reason });
    proxy.heal();

    const late = new AbortController();
    await using client = await connect({ signal: late.signal });
    late.abort();
    expect(await one(client)).toEqual([{ one: 1 }]);
  });
});

describe('the option connectionFactory', () => {
  it('wraps how the pool and the token open their connections', async () => {
    const hook = vi.fn<ConnectionFactoryHook>((connect, options) => connect(options));
    await using app = await start({ connectionFactory: hook, pool: { min: 2 } });
    expect(hook).toHaveBeenCalledTimes(2);

    await using client = await app.connectionFactory()({ applicationName: 'wrapped' });

    expect(hook).toHaveBeenCalledTimes(3);
    expect(hook.mock.lastCall?.[1]).toEqual({ applicationName: 'wrapped' });
    expect((await client.query('SHOW application_name')).rows).toEqual([{ application_name: 'wrapped' }]);
    expect((await app.pool().query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  it('may replace it: another server, or another way there', async () => {
    await using proxy = await startProxy({ host: server().host, port: server().port });
    const elsewhere = createConnectionFactory({ connectionString: server().connectionString });
    await using app = await start({
      connectionString: 'host=nowhere.invalid',
      connectionFactory: (_, options) => elsewhere(options),
    });
    expect((await app.pool().query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);

    const { connect } = await import('node:net');
    await using tunnelled = await start({
      connectionString: server().connectionString.replace('127.0.0.1', 'behind-the-tunnel.invalid'),
      connectionFactory: (open, options) => open({ ...options, stream: () => connect(proxy.port, proxy.host) }),
    });
    expect((await tunnelled.pool().query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(proxy.accepted).toBe(1);
  });

  it('closes what it opened when shutdown came first', async () => {
    const opened = deferred<void>();
    const held = deferred<void>();
    await using app = await start({
      connect: 'lazy',
      connectionFactory: async (connect, options) => {
        const client = await connect(options);
        opened.resolve();
        await held.promise;
        return client;
      },
    });
    const opening = rejection(app.connectionFactory()());
    await opened.promise;

    await app.close();
    held.resolve();

    expect(await opening).toMatchObject({ code: 'PG_POOL_CLOSED' });
  });

  it.each<[string, unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['a text', 'connection'],
    ['something like a client', { processId: 5, query: () => undefined }],
  ])('that resolves to %s is a clear error, for the pool and for the token', async (_, rubbish) => {
    const connectionFactory: ConnectionFactoryHook = () => Promise.resolve(rubbish as PgClient);
    const said = 'connectionFactory did not resolve to a connection';

    const eager = await rejection(start({ connectionFactory }));
    expect(eager).toMatchObject({ code: 'PG_CONFIG_INVALID' });
    expect(eager.message).toContain(said);

    await using app = await start({ connectionFactory, connect: 'lazy' });
    expect((await rejection(app.connectionFactory()())).message).toContain(said);
    expect((await rejection(app.pool().query('SELECT 1'))).message).toContain(said);
  });

  it('that throws is tried again like a server that is down', async () => {
    const hook = vi.fn<ConnectionFactoryHook>((connect, options) => connect(options));
    hook.mockRejectedValueOnce(new Error('no tunnel yet'));
    hook.mockImplementationOnce(() => {
      throw new Error('no tunnel yet, either');
    });

    await using app = await start({ connectionFactory: hook });

    expect(hook).toHaveBeenCalledTimes(3);
    expect(app.log.lines('warn')).toEqual([
      expect.stringMatching(/^Pool "default": attempt 1 failed, next in \d+ ms: no tunnel yet$/),
      expect.stringMatching(/^Pool "default": attempt 2 failed, next in \d+ ms: no tunnel yet, either$/),
    ]);
  });
});

it('no password ever shows in the log', async () => {
  const wrong = `not-${PASSWORD}`;
  const { connectionString } = server();
  await using app = await start({ pool: { drainTimeoutMillis: 1 } });
  await app.pool().connect();
  await app.connectionFactory()();
  await app.close();
  await using failing = await start({
    connectionString: connectionString.replace(PASSWORD, wrong),
    connect: 'background',
  });
  const error = await rejection(failing.pool().query('SELECT 1'));
  await waitFor(() => failing.log.lines('warn').length > 0, { message: 'a warning' });
  await failing.close();

  const { inspect } = await import('node:util');
  for (const text of [app.log.text, failing.log.text, inspect(error, { depth: 9 }), JSON.stringify(error)]) {
    expect(text).not.toContain(PASSWORD);
  }
  expect(app.log.lines('warn')).toHaveLength(2);
});
