import type { Server } from 'node:http';
import {
  Controller,
  Get,
  Injectable,
  Module,
  type DynamicModule,
  type INestApplication,
  type OnModuleInit,
  type Type,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { InjectPool, PgModule, PG_POOL, type PgModuleOptions, type PgPool } from 'nestjs-pg';
import { afterEach, describe, expect, it } from 'vitest';
import { sessionsOf, useServer, waitFor } from '../support/postgres.js';
import { Gate } from './support/gate.js';
import { compileApp, RecordedLog, rejection, startApp, type TestApp } from './support/test-app.js';

const server = useServer();

function at(options: PgModuleOptions = {}): PgModuleOptions {
  return { connectionString: server().connectionString, application_name: 'app', ...options };
}

const start = (options?: PgModuleOptions): Promise<TestApp> => startApp({ imports: [PgModule.forRoot(at(options))] });

async function queryIsRunning(text: string): Promise<void> {
  const isRunning = async (): Promise<boolean> =>
    (await sessionsOf(server())).some(({ state, query }) => state === 'active' && query.includes(text));
  await waitFor(isRunning, { message: `a query with ${text} to run` });
}

const isListening = (app: INestApplication): boolean => (app.getHttpServer() as Server).listening;

/** Nothing may be left, also of what failed. */
async function noSessions(): Promise<void> {
  await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'the sessions to end' });
}

afterEach(noSessions);

describe('app.close()', () => {
  it('answers the HTTP request in flight, whose next query still finds the pool', async () => {
    @Controller()
    class SlowController {
      constructor(@InjectPool() readonly pool: PgPool) {}

      @Get()
      async slow(): Promise<unknown> {
        await this.pool.query(Gate.sql);
        return (await this.pool.query('SELECT 2 AS two')).rows;
      }
    }
    await using gate = await Gate.shut(server());
    await using compiled = await compileApp({ imports: [PgModule.forRoot(at())], controllers: [SlowController] });
    const app = compiled.module.createNestApplication();
    await app.listen(0, '127.0.0.1');
    const order: string[] = [];
    // A connection that is kept alive would keep the HTTP server open for some seconds.
    const headers = { connection: 'close' };
    const answer = fetch(await app.getUrl(), { headers }).then(async (response) => {
      const body: unknown = await response.json();
      order.push('answered');
      return { status: response.status, body };
    });
    await gate.reached();

    const closing = app.close().then(() => order.push('closed'));
    await waitFor(() => !isListening(app), { message: 'the HTTP server to take no more' });
    order.push('opened');
    await gate.open();
    await closing;

    expect(await answer).toEqual({ status: 200, body: [{ two: 2 }] });
    expect(order).toEqual(['opened', 'answered', 'closed']);
  });

  it('lets a running query end', async () => {
    await using app = await start();
    await using gate = await Gate.shut(server());
    const answer = app.pool().query(Gate.sql);
    await gate.reached();
    const closing = app.close();
    await waitFor(() => app.pool().ending, { message: 'the drain to begin' });
    await gate.open();
    await closing;

    expect((await answer).rows).toEqual([{ passed: true }]);
    expect(app.log.lines('warn')).toEqual([]);
  });

  it('waits for a lease, which goes on being usable, and for no longer than that', async () => {
    await using app = await start();
    const lease = await app.pool().connect();
    await lease.query('BEGIN');
    const closing = app.close();
    let closed = false;
    void closing.then(() => (closed = true));
    await waitFor(() => app.pool().ending, { message: 'the drain to begin' });

    expect((await lease.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await lease.query('COMMIT');
    expect(closed).toBe(false);
    lease.release();
    await closing;

    expect(app.log.lines('warn')).toEqual([]);
  });

  it('cuts off, at the deadline, who does not give back: the statement is cancelled and the holder named', async () => {
    await using app = await start({ pool: { drainTimeoutMillis: 200 } });
    async function leakInQuery(): Promise<Error> {
      const lease = await app.pool().connect();
      return rejection(lease.query('SELECT pg_sleep(60)'));
    }
    async function leakIdle(): Promise<unknown> {
      return app.pool().connect();
    }
    const cancelled = leakInQuery();
    await leakIdle();
    const plain = rejection(app.pool().query('SELECT pg_sleep(61)'));
    await queryIsRunning('pg_sleep(60)');
    await queryIsRunning('pg_sleep(61)');

    await app.close();

    expect(await cancelled).toMatchObject({ code: '57014' });
    expect(await plain).toMatchObject({ code: '57014' });
    const lines = app.log.lines('warn');
    expect(lines).toHaveLength(3);
    const holder = (where: string): RegExp =>
      new RegExp(
        `^Pool "default": a connection ${where} was not given back within the drain's deadline \\(held .*\\): closed\\.$`,
      );
    const taken = (name: string): RegExp => holder(`taken at .*${name} \\(.*shutdown\\.test\\.ts:\\d+:\\d+\\)`);
    expect(lines).toContainEqual(expect.stringMatching(taken('leakInQuery')));
    expect(lines).toContainEqual(expect.stringMatching(taken('leakIdle')));
    expect(lines).toContainEqual(
      expect.stringMatching(holder('taken by a pool\\.query\\(\\), or at an unrecorded line,')),
    );
    expect(app.pool().totalCount).toBe(0);
    await app.close();
    expect(app.log.lines('warn')).toEqual(lines);
  });

  it('settles those who wait for a connection, and refuses new work', async () => {
    await using app = await start({ pool: { max: 1 } });
    const pool = app.pool();
    const lease = await pool.connect();
    const waiters = [rejection(pool.query('SELECT 1')), rejection(pool.connect())];
    expect(pool.waitingCount).toBe(2);
    const closing = app.close();

    for (const waiter of waiters) expect(await waiter).toMatchObject({ code: 'PG_POOL_CLOSED' });
    for (const late of [pool.query('SELECT 1'), pool.connect(), pool.open()]) {
      expect(await rejection(late)).toMatchObject({ code: 'PG_POOL_CLOSED' });
    }
    lease.release();
    await closing;
    expect(await rejection(pool.query('SELECT 1'))).toMatchObject({ code: 'PG_POOL_CLOSED' });
  });

  it('twice, one after the other and at once, is as good as once', async () => {
    await using app = await start();
    await app.pool().query('SELECT 1');
    await Promise.all([app.close(), app.close()]);
    await app.close();
    await app.pool().end();

    expect(app.log.lines('warn')).toEqual([]);
    expect(app.log.lines('error')).toEqual([]);
  });

  it('drains every pool, also when one of them takes its time', async () => {
    const imports = [PgModule.forRoot(at()), PgModule.forRoot({ name: 'slow', ...at() })];
    await using app = await startApp({ imports });
    await using gate = await Gate.shut(server());
    const answer = app.pool('slow').query(Gate.sql);
    await gate.reached();
    const closing = app.close();
    await waitFor(() => app.pool('slow').ending, { message: 'the drain to begin' });
    await gate.open();
    await closing;

    expect((await answer).rows).toEqual([{ passed: true }]);
    expect([app.pool().ended, app.pool('slow').ended]).toEqual([true, true]);
  });

  it('comes in the middle of a background opening', async () => {
    await using app = await start({ connect: 'background', pool: { min: 4 } });
    await app.close();

    expect(app.pool().totalCount).toBe(0);
    expect(app.log.lines('warn')).toEqual([]);
  });
});

describe('without init()', () => {
  it('close() is clean', async () => {
    await using app = await compileApp({ imports: [PgModule.forRoot(at())] });
    await app.close();

    expect(app.pool().ended).toBe(true);
  });

  it('close() closes what was opened all the same', async () => {
    await using app = await compileApp({ imports: [PgModule.forRoot(at())] });
    await app.pool().query('SELECT 1');
    const client = await app.connectionFactory()();
    await app.close();

    expect(app.pool().ended).toBe(true);
    expect(client.isClosed).toBe(true);
  });
});

describe('after a failed bootstrap', () => {
  const good = (): DynamicModule => PgModule.forRoot(at({ pool: { min: 2 } }));
  const bad = (): DynamicModule => PgModule.forRoot({ name: 'bad', ...at({ database: 'nowhere' }) });

  it.each<[string, () => DynamicModule[]]>([
    ['first', () => [bad(), good()]],
    ['last', () => [good(), bad()]],
  ])('of one of two pools, which comes %s, both are closed, and close() is clean', async (_, imports) => {
    // Used before any hook has run.
    const early = { provide: 'early', inject: [PG_POOL], useFactory: (pool: PgPool) => pool.query('SELECT 1') };
    await using app = await compileApp({ imports: imports(), providers: [early] });
    await expect(app.init()).rejects.toMatchObject({ cause: { code: '3D000' } });

    expect(app.pool().ended).toBe(true);
    await noSessions();
    await app.close();
    expect(app.log.lines('error')).toEqual([]);
  });

  class Broken implements OnModuleInit {
    onModuleInit(): never {
      throw new Error('a hook of the application');
    }
  }

  it('of another module, close() closes the pool', async () => {
    await using app = await compileApp({ imports: [good()], providers: [Broken] });
    await expect(app.init()).rejects.toThrow('a hook of the application');
    expect(app.pool().idleCount).toBe(2);

    await app.close();
  });

  it('of another module, close() closes the pool of an HTTP application', async () => {
    await using compiled = await compileApp({ imports: [good()], providers: [Broken] });
    const app = compiled.module.createNestApplication();
    await expect(app.listen(0)).rejects.toThrow('a hook of the application');

    await app.close();
  });

  it.each<[string, (module: Type, logger: RecordedLog) => Promise<unknown>]>([
    [
      'NestFactory.createApplicationContext',
      (module, logger) => NestFactory.createApplicationContext(module, { logger, abortOnError: false }),
    ],
    [
      'NestFactory.create and init()',
      async (module, logger) => (await NestFactory.create(module, { logger, abortOnError: false })).init(),
    ],
  ])('of a pool in %s, the others are closed, too', async (_, create) => {
    @Module({ imports: [good(), bad()] })
    class AppModule {}
    const logger = new RecordedLog();

    await expect(create(AppModule, logger)).rejects.toMatchObject({ cause: { code: '3D000' } });

    expect(logger.lines('log')).toHaveLength(1);
    expect(logger.lines('warn')).toEqual([]);
  });

  it('of a provider, nothing was opened', async () => {
    const failing = { provide: 'failing', inject: [PG_POOL], useFactory: () => Promise.reject(new Error('a factory')) };

    await expect(compileApp({ imports: [good(), bad()], providers: [failing] })).rejects.toThrow('a factory');

    expect(await sessionsOf(server())).toEqual([]);
  });
});

describe('providers of a global module that imports ours', () => {
  it('find the pool in their hooks, up to beforeApplicationShutdown', async () => {
    const said: unknown[] = [];
    @Injectable()
    class Writer {
      constructor(@InjectPool() readonly pool: PgPool) {}

      async onModuleInit(): Promise<void> {
        said.push((await this.pool.query(`SELECT 'init' AS said`)).rows[0]);
      }

      async beforeApplicationShutdown(): Promise<void> {
        said.push((await this.pool.query(`SELECT 'before' AS said`)).rows[0]);
      }

      async onModuleDestroy(): Promise<void> {
        said.push((await this.pool.query(`SELECT 'destroy' AS said`)).rows[0]);
      }
    }
    @Module({})
    class DatabaseModule {}
    const database = { module: DatabaseModule, global: true, imports: [PgModule.forRoot(at())], providers: [Writer] };
    await using app = await startApp({ imports: [database] });

    await app.close();

    expect(said).toEqual([{ said: 'init' }, { said: 'destroy' }, { said: 'before' }]);
  });
});
