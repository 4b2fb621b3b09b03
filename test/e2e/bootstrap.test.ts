import { Injectable, Module, type OnModuleInit } from '@nestjs/common';
import { InjectPool, PgModule, type PgModuleOptions, type PgPool } from 'nestjs-pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { adminQuery, sessionsOf, terminateBackends, useServer, waitFor } from '../support/postgres.js';
import { startProxy, type FaultProxy } from '../support/proxy.js';
import { compileApp, rejection, startApp, type TestApp } from './support/test-app.js';

const PASSWORD = 'wisteria-17';
const server = useServer({ password: PASSWORD });

/** Between the application and the server: to count, and to stop what comes and goes. */
let proxy: FaultProxy;

beforeEach(async () => {
  proxy = await startProxy({ host: server().host, port: server().port });
});

afterEach(async () => {
  await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'the sessions to end' });
  await proxy.close();
});

function metadata(options: PgModuleOptions = {}): { imports: [ReturnType<typeof PgModule.forRoot>] } {
  const { host, port } = proxy;
  const settings = { host, port, user: 'postgres', password: PASSWORD, database: 'postgres', application_name: 'app' };
  return { imports: [PgModule.forRoot({ ...settings, ...options })] };
}

const start = (options?: PgModuleOptions): Promise<TestApp> => startApp(metadata(options));

/** Starts, and waits until so many attempts have failed; the application is still starting then. */
async function startWithoutServer(options: PgModuleOptions, failures: number): Promise<TestApp> {
  await proxy.refuse();
  const app = await compileApp(metadata(options));
  // Whoever awaits it hears of it.
  app.init().catch(() => undefined);
  await waitFor(() => app.log.lines('warn').length >= failures, { message: `${failures} failed attempts` });
  return app;
}

const ATTEMPT =
  /^Pool "default": attempt (\d+) failed, next in .*(ms|s): Could not connect as "postgres".*ECONNREFUSED/;

function numbersOfAttempts(lines: string[]): number[] {
  for (const line of lines) expect(line).toMatch(ATTEMPT);
  return lines.map((line) => Number(ATTEMPT.exec(line)?.[1]));
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

describe("connect: 'eager'", () => {
  it.each([
    [0, 1],
    [1, 1],
    [3, 3],
  ])('waits for the connections of pool.min: %i', async (min, count) => {
    await using app = await start({ pool: { min } });

    expect(app.pool().totalCount).toBe(count);
    expect(app.pool().idleCount).toBe(count);
    expect(await sessionsOf(server(), 'app')).toHaveLength(count);
  });

  it('is the default, and says in one line where it is connected to', async () => {
    await using app = await start();

    expect(app.log.lines()).toEqual([
      `Pool "default": connected to 127.0.0.1:${proxy.port} as "postgres", database "postgres", unencrypted.`,
    ]);
  });

  it('comes before the hooks of other modules', async () => {
    let idle: number | undefined;
    @Injectable()
    class Service implements OnModuleInit {
      constructor(@InjectPool() readonly pool: PgPool) {}

      onModuleInit(): void {
        idle = this.pool.idleCount;
      }
    }
    @Module({ imports: [], providers: [Service] })
    class Feature {}
    const { imports } = metadata({ pool: { min: 2 } });
    await using _ = await startApp({ imports: [Feature, ...imports] });

    expect(idle).toBe(2);
  });

  it('comes up with a server that comes up later, and logs each attempt once', async () => {
    await using app = await startWithoutServer({}, 3);
    await proxy.accept();
    await app.init();

    expect((await app.pool().query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    const attempts = numbersOfAttempts(app.log.lines('warn'));
    expect(attempts).toEqual(upTo(attempts.length));
    expect(app.log.lines('log')).toEqual([
      `Pool "default": connected after ${attempts.length} failed attempts.`,
      expect.stringContaining('connected to 127.0.0.1'),
    ]);
  });

  it('comes up with a server that was not even running', async () => {
    await server().stop();
    try {
      await using app = await compileApp(metadata());
      app.init().catch(() => undefined);
      await waitFor(() => app.log.lines('warn').length > 0, { message: 'a failed attempt' });
      await server().start();
      await app.init();
      expect(app.pool().idleCount).toBe(1);
    } finally {
      await server().start();
    }
  });

  it('gives up after retry.timeoutMillis, and says after how many attempts', async () => {
    await using app = await startWithoutServer({ retry: { timeoutMillis: 300 } }, 1);
    const error = await rejection(app.init());

    expect(error).toMatchObject({ name: 'PgConnectError', code: 'PG_CONNECT_FAILED', permanent: false });
    const count = app.log.lines('warn').length;
    expect(numbersOfAttempts(app.log.lines('warn'))).toEqual(upTo(count));
    expect(error.message).toMatch(/^Pool "default": not open within 300 ms \(retry\.timeoutMillis\)\./);
    expect(error.message).toContain(`The last of ${count} attempts: Could not connect`);
  });

  it('gives up after retry.timeoutMillis also when the server is silent', async () => {
    proxy.blackHole();
    const error = await rejection(start({ retry: { timeoutMillis: 50 } }));

    expect(error.message).toBe(
      'Pool "default": not open within 50 ms (retry.timeoutMillis). The server has not answered the first attempt yet.',
    );
    await waitFor(() => proxy.accepted === 1, { message: 'the attempt' });
    proxy.heal();
    await waitFor(() => proxy.connections === 0, { message: 'the attempt to be given up' });
  });

  it('retry: false makes one attempt', async () => {
    await proxy.refuse();
    await using app = await compileApp(metadata({ retry: false }));
    const error = await rejection(app.init());

    expect(error).toMatchObject({ code: 'PG_CONNECT_FAILED', attempts: [{ phase: 'TCP connect' }] });
    expect(error.message).toContain('ECONNREFUSED');
    expect(app.log.lines()).toEqual([]);
  });

  describe('does not try again what cannot heal:', () => {
    const refused: [string, string, () => PgModuleOptions][] = [
      ['a wrong password', '28P01', () => ({ password: 'other' })],
      ['an unknown user', '28P01', () => ({ user: 'nobody' })],
      ['an unknown database', '3D000', () => ({ database: 'nowhere' })],
      ['a setting that the server does not know', '42704', () => ({ options: '-c no_such_setting=1' })],
    ];

    it.each(refused)('%s (%s)', async (_, sqlState, options) => {
      await using app = await compileApp(metadata(options()));
      const error = await rejection<Error & { cause: unknown }>(app.init());

      expect(error).toMatchObject({ code: 'PG_CONNECT_FAILED', permanent: true, cause: { code: sqlState } });
      expect(error.message).toMatch(/^Could not connect as "\w+" to database "\w+": 127\.0\.0\.1:\d+, .*\.$/);
      expect(error.message).toContain(`[SQLSTATE ${sqlState}]`);
      expect(error.message).not.toContain('\n');
      expect(error.stack).not.toContain(PASSWORD);
      // The error is all there is to say.
      expect(app.log.lines()).toEqual([]);
      expect(proxy.accepted).toBe(1);
    });

    it('not even with pool.min, which is opened at once', async () => {
      await using app = await compileApp(metadata({ database: 'nowhere', pool: { min: 3 } }));
      await expect(app.init()).rejects.toMatchObject({ cause: { code: '3D000' } });

      expect(app.log.lines()).toEqual([]);
      expect(proxy.accepted).toBeLessThanOrEqual(3);
    });

    it('a client that pg_hba.conf does not let in (28000)', async () => {
      await server().setHba(['local all all trust']);
      try {
        await expect(start()).rejects.toMatchObject({ permanent: true, cause: { code: '28000' } });
        expect(proxy.accepted).toBe(1);
      } finally {
        await server().setHba();
      }
    });

    it('a password that is not configured', async () => {
      const error = await rejection(start({ password: '', passfile: '/dev/null' }));

      expect(error).toMatchObject({ permanent: true });
      expect(error.message).toContain('none is configured: set password, PGPASSWORD or a password file');
      expect(proxy.accepted).toBe(1);
    });
  });

  it('asks a password function for each new connection', async () => {
    let calls = 0;
    await using app = await start({
      password: async () => {
        calls++;
        return Promise.resolve(PASSWORD);
      },
      pool: { min: 2 },
    });

    expect(calls).toBe(2);
    expect(app.pool().totalCount).toBe(2);
  });

  it('warns of a remote server that is not verified', async () => {
    await using app = await start({ host: 'db.example', hostaddr: '127.0.0.1' });

    expect(app.log.lines('warn')).toEqual([
      'Pool "default": the connection is not encrypted. Set ssl: \'verify-full\' (see the guide on TLS).',
    ]);
  });
});

describe("connect: 'background'", () => {
  it.each([0, 2])('starts without the server, and connects by itself when it comes (pool.min: %i)', async (min) => {
    await using app = await startWithoutServer({ connect: 'background', pool: { min } }, 1);
    await app.init();
    expect(app.pool().totalCount).toBe(0);

    await proxy.accept();
    await waitFor(() => app.pool().idleCount === Math.max(1, min), {
      message: 'the pool to be open',
      deadline: 10_000,
    });

    expect(app.log.lines('log')[0]).toMatch(
      /^Pool "default": connected after (one failed attempt|\d+ failed attempts)/,
    );
  });

  it('serves those who have been waiting for the server', async () => {
    await using app = await startWithoutServer({ connect: 'background' }, 1);
    await app.init();
    const answer = app.pool().query('SELECT 1 AS one');
    await proxy.accept();

    expect((await answer).rows).toEqual([{ one: 1 }]);
  });

  it('logs what cannot heal, does not try it again by itself, and keeps the application running', async () => {
    await using app = await start({ connect: 'background', database: 'nowhere' });
    await waitFor(() => app.log.lines('warn').length > 0, { message: 'a warning' });

    expect(app.log.lines('warn')).toEqual([
      expect.stringMatching(/attempt 1 failed, the next when it is needed: .*"nowhere" does not exist/),
    ]);
    expect(await rejection(app.pool().query('SELECT 1'))).toMatchObject({ cause: { code: '3D000' } });
    expect(proxy.accepted).toBe(2);
  });

  it('does not log each attempt of a long outage', async () => {
    await using app = await startWithoutServer({ connect: 'background' }, 1);
    await app.init();
    let failures = 0;
    app.pool().on('dialFailed', (failure) => (failures = failure.failures));
    const waiting = rejection(app.pool().query('SELECT 1'));
    await waitFor(() => failures >= 5, { message: 'five failures', deadline: 10_000 });

    expect(numbersOfAttempts(app.log.lines('warn'))).toEqual([1, 2, 4]);
    await app.close();
    expect(await waiting).toMatchObject({ code: 'PG_POOL_CLOSED' });
  });
});

describe("connect: 'lazy'", () => {
  it('opens nothing before the first query', async () => {
    await using app = await start({ connect: 'lazy', pool: { min: 2 } });
    expect(proxy.accepted).toBe(0);

    expect((await app.pool().query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);

    await waitFor(() => app.pool().totalCount === 2, { message: 'pool.min to be kept from now on' });
    expect(proxy.accepted).toBe(2);
  });
});

describe('afterwards', () => {
  it('an idle connection that is lost is logged, replaced, and no reason to end', async () => {
    await using app = await start({ pool: { min: 2 } });
    const before = await sessionsOf(server(), 'app');

    expect(await terminateBackends(server(), 'app')).toBe(2);

    await waitFor(() => app.log.lines('warn').length === 2, { message: 'the losses to be logged' });
    for (const line of app.log.lines('warn')) {
      expect(line).toMatch(/^Pool "default": an idle connection was lost: terminating connection/);
    }
    await waitFor(() => app.pool().idleCount === 2, { message: 'the pool to be full again' });
    const after = (await sessionsOf(server(), 'app')).map(({ pid }) => pid);
    for (const { pid } of before) expect(after).not.toContain(pid);
  });

  it('a server that is restarted is found again', async () => {
    await using app = await start();
    const lost = rejection(app.pool().query('SELECT pg_sleep(60)'));
    await waitFor(async () => (await sessionsOf(server(), 'app'))[0]?.state === 'active', { message: 'the query' });
    await server().restart('immediate');

    expect(await lost).toBeInstanceOf(Error);
    expect((await app.pool().query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(await adminQuery(server(), 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });
});
