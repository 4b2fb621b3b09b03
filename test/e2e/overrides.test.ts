import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import {
  createConnectionFactory,
  createPool,
  getConnectionFactoryToken,
  getPoolToken,
  InjectPool,
  PG_CONNECTION_FACTORY,
  PG_POOL,
  PgModule,
  PgPool,
  type ConnectionFactory,
  type PgModuleOptions,
} from 'nestjs-pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { sessionsOf, useServer, waitFor } from '../support/postgres.js';
import { startScriptedServer, type ScriptedServer } from '../support/scripted-server.js';
import { compileApp, rejection, startApp } from './support/test-app.js';

const server = useServer();

/** Where the module would connect to, if it were not overridden. */
let elsewhere: ScriptedServer;

beforeEach(async () => {
  elsewhere = await startScriptedServer((connection) => connection.reset());
});

afterEach(async () => {
  await elsewhere.close();
  await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'the sessions to end' });
});

const unreachable = (): PgModuleOptions => ({ host: elsewhere.host, port: elsewhere.port, retry: false });

const reachable = (): PgModuleOptions => ({ connectionString: server().connectionString });

@Injectable()
class Orders implements OnModuleInit {
  first: unknown;

  constructor(@InjectPool() readonly pool: Pick<PgPool, 'query'>) {}

  async onModuleInit(): Promise<void> {
    this.first = await this.pool.query('SELECT 1');
  }
}

describe('overrideProvider(PG_POOL)', () => {
  it('is needed for what follows: without it, sockets are opened', async () => {
    const error = await rejection(startApp({ imports: [PgModule.forRoot(unreachable())] }));

    expect(error.code).toBe('PG_CONNECT_FAILED');
    expect(elsewhere.accepted).toBeGreaterThan(0);
  });

  it('by a value: the original is not made, and no socket is opened', async () => {
    const query = vi.fn(() => Promise.resolve({ rows: [{ id: 1 }] }));
    const connectionFactory = vi.fn();
    {
      await using app = await startApp(
        { imports: [PgModule.forRoot({ ...unreachable(), connectionFactory })], providers: [Orders] },
        (builder) => builder.overrideProvider(PG_POOL).useValue({ query }),
      );

      expect(app.module.get(Orders).first).toEqual({ rows: [{ id: 1 }] });
    }
    expect(query).toHaveBeenCalledExactlyOnceWith('SELECT 1');
    expect(connectionFactory).not.toHaveBeenCalled();
    expect(elsewhere.accepted).toBe(0);
  });

  it('by a factory', async () => {
    const query = vi.fn(() => Promise.resolve({ rows: [{ id: 2 }] }));
    {
      await using app = await startApp(
        { imports: [PgModule.forRootAsync({ useFactory: unreachable })], providers: [Orders] },
        (builder) => builder.overrideProvider(PG_POOL).useFactory({ factory: () => ({ query }) }),
      );

      expect(app.module.get(Orders).first).toEqual({ rows: [{ id: 2 }] });
    }
    expect(elsewhere.accepted).toBe(0);
  });

  it('by a pool of ours: it is opened and drained like the original', async () => {
    const pool = createPool({ ...reachable(), pool: { min: 2 } });
    {
      await using app = await startApp({ imports: [PgModule.forRoot(unreachable())] }, (builder) =>
        builder.overrideProvider(PG_POOL).useValue(pool),
      );

      expect(app.pool()).toBe(pool);
      expect(pool.totalCount).toBe(2);
    }
    expect(pool.ended).toBe(true);
    expect(elsewhere.accepted).toBe(0);
  });

  it('of one name leaves the others alone', async () => {
    const stub = { query: vi.fn() };
    {
      await using app = await startApp(
        { imports: [PgModule.forRoot(reachable()), PgModule.forRoot({ name: 'reports', ...unreachable() })] },
        (builder) => builder.overrideProvider(getPoolToken('reports')).useValue(stub),
      );

      expect(app.pool('reports')).toBe(stub);
      expect(app.pool()).toBeInstanceOf(PgPool);
      expect((await app.pool().query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    }
    expect(elsewhere.accepted).toBe(0);
  });
});

describe('overrideProvider(PG_CONNECTION_FACTORY)', () => {
  it.each([undefined, 'reports'])('makes the pool use it, too (name: %s)', async (name) => {
    const connect = vi.fn(createConnectionFactory(reachable()));
    {
      await using app = await startApp(
        { imports: [PgModule.forRoot({ name, ...unreachable(), pool: { min: 1 } })] },
        (builder) => builder.overrideProvider(getConnectionFactoryToken(name)).useValue(connect),
      );
      expect(connect).toHaveBeenCalledTimes(1);
      expect(connect).toHaveBeenCalledWith({ signal: expect.any(AbortSignal) });
      expect((await app.pool(name).query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
      expect(app.connectionFactory(name)).toBe(connect);
    }
    expect(elsewhere.accepted).toBe(0);
  });

  it('by something that gives no connection is a clear error, and not a dead process', async () => {
    const metadata = { imports: [PgModule.forRoot(unreachable())] };
    const error = await rejection(
      startApp(metadata, (builder) =>
        builder.overrideProvider(PG_CONNECTION_FACTORY).useValue(() => Promise.resolve({ query: vi.fn() })),
      ),
    );

    expect(error).toMatchObject({ code: 'PG_CONFIG_INVALID' });
    expect(error.message).toContain('The connection factory of the pool "default" did not resolve to a connection');
  });

  it('is what consumers of the token get', async () => {
    @Injectable()
    class Migrations {
      constructor(@Inject(PG_CONNECTION_FACTORY) readonly connect: ConnectionFactory) {}
    }
    const connect = vi.fn();
    await using app = await compileApp(
      { imports: [PgModule.forRoot(unreachable())], providers: [Migrations] },
      (builder) => builder.overrideProvider(PG_CONNECTION_FACTORY).useValue(connect),
    );

    expect(app.module.get(Migrations).connect).toBe(connect);
  });
});
