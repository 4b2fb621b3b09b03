import {
  Inject,
  Injectable,
  Module,
  Scope,
  type DynamicModule,
  type OnApplicationShutdown,
  type OnModuleDestroy,
  type OnModuleInit,
} from '@nestjs/common';
import {
  getConnectionFactoryToken,
  getPoolToken,
  InjectConnectionFactory,
  InjectPool,
  PG_CONNECTION_FACTORY,
  PG_POOL,
  PgModule,
  PgPool,
  type ConnectionFactory,
  type PgModuleOptions,
  type PgOptionsFactory,
} from 'nestjs-pg';
import pg from 'pg';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { sessionsOf, useServer, waitFor } from '../support/postgres.js';
import { compileApp, rejection, startApp } from './support/test-app.js';

const server = useServer();

/** Options that reach the server; the name shows in pg_stat_activity. */
function at(applicationName = 'app'): PgModuleOptions {
  return { connectionString: server().connectionString, application_name: applicationName };
}

async function applicationName(pool: PgPool): Promise<unknown> {
  const { rows } = await pool.query<{ name: string }>(`SELECT current_setting('application_name') AS name`);
  return rows[0]?.name;
}

afterEach(async () => {
  vi.unstubAllEnvs();
  await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'the sessions to end' });
});

describe('forRoot', () => {
  it('provides a pool and a connection factory, under tokens and decorators', async () => {
    @Injectable()
    class Orders {
      @InjectPool() readonly asProperty!: PgPool;

      constructor(
        @Inject(PG_POOL) readonly byToken: PgPool,
        @InjectPool() readonly byDecorator: PgPool,
        @Inject(PG_CONNECTION_FACTORY) readonly connectByToken: ConnectionFactory,
        @InjectConnectionFactory() readonly connectByDecorator: ConnectionFactory,
      ) {}
    }
    await using app = await startApp({ imports: [PgModule.forRoot(at('orders'))], providers: [Orders] });
    const orders = app.module.get(Orders);

    expect(orders.byToken).toBeInstanceOf(PgPool);
    expect(orders.byToken).toBeInstanceOf(pg.Pool);
    expect(orders.byDecorator).toBe(orders.byToken);
    expect(orders.asProperty).toBe(orders.byToken);
    expect(orders.connectByDecorator).toBe(orders.connectByToken);
    expect(await applicationName(orders.byToken)).toBe('orders');
    await using connection = await orders.connectByToken();
    expect((await connection.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  it.each([
    ['no options', () => PgModule.forRoot()],
    ['an empty object', () => PgModule.forRoot({})],
    ['a factory that returns an empty object', () => PgModule.forRootAsync({ useFactory: () => ({}) })],
  ])('reads the environment alone when given %s', async (_, module) => {
    const { host, port, user, password, database } = server();
    const variables = { HOST: host, PORT: String(port), USER: user, PASSWORD: password, DATABASE: database };
    for (const [name, value] of Object.entries(variables)) vi.stubEnv(`PG${name}`, value);
    vi.stubEnv('PGAPPNAME', 'of-the-environment');

    await using app = await startApp({ imports: [module()] });

    expect(await applicationName(app.pool())).toBe('of-the-environment');
  });

  it('is visible in every module, without an import', async () => {
    @Injectable()
    class Reports {
      constructor(@InjectPool() readonly pool: PgPool) {}
    }
    @Module({ providers: [Reports], exports: [Reports] })
    class ReportsModule {}
    @Module({ imports: [ReportsModule] })
    class Feature {}

    await using app = await startApp({ imports: [Feature, PgModule.forRoot(at())] });

    expect(app.module.get(Reports, { strict: false }).pool).toBe(app.pool());
  });
});

describe('forRootAsync', () => {
  @Injectable()
  class Settings {
    readonly applicationName = 'of-settings';
  }
  @Module({ providers: [Settings], exports: [Settings] })
  class SettingsModule {}

  @Injectable()
  class Factory implements PgOptionsFactory {
    readonly made: string[] = [];

    constructor(readonly settings: Settings) {}

    async createPgOptions(): Promise<PgModuleOptions> {
      this.made.push(this.settings.applicationName);
      return Promise.resolve(at(this.settings.applicationName));
    }
  }
  @Module({ imports: [SettingsModule], providers: [Factory], exports: [Factory] })
  class FactoryModule {}

  const fromSettings = {
    inject: [Settings],
    useFactory: (settings: Settings): PgModuleOptions => at(settings.applicationName),
  };

  it.each<[string, () => DynamicModule]>([
    ['useFactory, inject and imports', () => PgModule.forRootAsync({ imports: [SettingsModule], ...fromSettings })],
    [
      'a useFactory that returns a promise',
      () => PgModule.forRootAsync({ useFactory: () => Promise.resolve(at('of-settings')) }),
    ],
    ['useClass', () => PgModule.forRootAsync({ imports: [SettingsModule], useClass: Factory })],
    ['useExisting', () => PgModule.forRootAsync({ imports: [FactoryModule], useExisting: Factory })],
    [
      'provideInjectionTokensFrom',
      () => PgModule.forRootAsync({ ...fromSettings, provideInjectionTokensFrom: [Settings] }),
    ],
  ])('takes its options from %s', async (_, module) => {
    await using app = await startApp({ imports: [module()] });

    expect(await applicationName(app.pool())).toBe('of-settings');
  });

  it('asks the very instance that useExisting names, and once', async () => {
    await using app = await startApp({
      imports: [PgModule.forRootAsync({ imports: [FactoryModule], useExisting: Factory })],
    });

    expect(app.module.get(Factory, { strict: false }).made).toEqual(['of-settings']);
  });

  it('takes transient providers: the pool is one all the same', async () => {
    let instances = 0;
    @Injectable({ scope: Scope.TRANSIENT })
    class Hints {
      constructor() {
        instances++;
      }
    }
    @Module({ providers: [Hints], exports: [Hints] })
    class HintsModule {}
    @Injectable()
    class Service {
      constructor(@InjectPool() readonly pool: PgPool) {}
    }
    await using app = await startApp({
      imports: [PgModule.forRootAsync({ imports: [HintsModule], inject: [Hints], useFactory: () => at('one') })],
      providers: [Service],
    });

    expect(app.module.get(Service).pool).toBe(app.pool());
    expect(instances).toBe(1);
    expect(await applicationName(app.pool())).toBe('one');
  });
});

describe('named pools', () => {
  it('stand next to the default one, each with its own tokens', async () => {
    @Injectable()
    class Service {
      constructor(
        @InjectPool() readonly pool: PgPool,
        @InjectPool('reports') readonly reports: PgPool,
        @Inject(getPoolToken('audit')) readonly audit: PgPool,
        @InjectConnectionFactory('reports') readonly connectReports: ConnectionFactory,
        @Inject(getConnectionFactoryToken('audit')) readonly connectAudit: ConnectionFactory,
      ) {}
    }
    await using app = await startApp({
      imports: [
        PgModule.forRoot(at('main')),
        PgModule.forRoot({ name: 'reports', ...at('of-reports') }),
        PgModule.forRootAsync({ name: 'audit', useFactory: () => at('of-audit') }),
      ],
      providers: [Service],
    });
    const service = app.module.get(Service);

    expect(await applicationName(service.pool)).toBe('main');
    expect(await applicationName(service.reports)).toBe('of-reports');
    expect(await applicationName(service.audit)).toBe('of-audit');
    expect([service.pool.name, service.reports.name, service.audit.name]).toEqual(['default', 'reports', 'audit']);
    await using reports = await service.connectReports();
    await using audit = await service.connectAudit();
    const { rows } = await reports.query(`SHOW application_name`);
    expect(rows).toEqual([{ application_name: 'of-reports' }]);
    expect((await audit.query(`SHOW application_name`)).rows).toEqual([{ application_name: 'of-audit' }]);
  });

  it('"default" is the name of the default one', async () => {
    await using app = await startApp({ imports: [PgModule.forRoot({ name: 'default', ...at() })] });

    expect(app.module.get(PG_POOL)).toBe(app.pool('default'));
    expect(getPoolToken('default')).toBe(PG_POOL);
    expect(getConnectionFactoryToken('default')).toBe(PG_CONNECTION_FACTORY);
  });

  const twice = (name: string | undefined) => ({
    sync: () => PgModule.forRoot({ name, ...at() }),
    async: () => PgModule.forRootAsync({ name, useFactory: () => at() }),
  });

  it.each<[string, string, () => DynamicModule[]]>([
    ['the default one, twice', 'default', () => [twice(undefined).sync(), twice(undefined).sync()]],
    ['the default one, once by its name', 'default', () => [twice(undefined).sync(), twice('default').sync()]],
    ['the same name, twice', 'reports', () => [twice('reports').sync(), twice('reports').sync()]],
    ['the same name, sync and async', 'reports', () => [twice('reports').sync(), twice('reports').async()]],
    ['the same name, async twice', 'reports', () => [twice('reports').async(), twice('reports').async()]],
  ])('cannot be registered twice in one application: %s', async (_, name, modules) => {
    const [first, second] = modules() as [DynamicModule, DynamicModule];
    @Module({ imports: [second] })
    class Feature {}

    for (const imports of [
      [first, second],
      [first, Feature],
    ]) {
      const error = await rejection(startApp({ imports }));
      expect(error).toMatchObject({ name: 'PgModuleError', code: 'PG_CONFIG_INVALID' });
      expect(error.message).toContain(`registered twice under the name "${name}"`);
    }
    expect(await sessionsOf(server())).toEqual([]);
  });

  it('one and the same dynamic module may be imported in two places', async () => {
    const database = PgModule.forRoot(at());
    @Module({ imports: [database] })
    class Feature {}

    await using app = await startApp({ imports: [database, Feature] });

    expect(await applicationName(app.pool())).toBe('app');
    expect(await sessionsOf(server())).toHaveLength(1);
  });
});

describe('two applications in one process', () => {
  it('share nothing', async () => {
    await using one = await startApp({ imports: [PgModule.forRoot(at('one'))] });
    await using other = await startApp({ imports: [PgModule.forRoot(at('other'))] });

    expect(one.pool()).not.toBe(other.pool());
    await one.close();
    expect(await applicationName(other.pool())).toBe('other');
    await expect(one.pool().query('SELECT 1')).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
  });

  it('not even with the same dynamic module', async () => {
    const database = PgModule.forRoot(at());
    await using one = await startApp({ imports: [database] });
    await using other = await startApp({ imports: [database] });

    await one.close();

    expect(await applicationName(other.pool())).toBe('app');
  });
});

describe('the pool is usable', () => {
  it('in the hooks of other providers, from the first to the last', async () => {
    const seen: string[] = [];
    @Injectable()
    class Service implements OnModuleInit, OnModuleDestroy, OnApplicationShutdown {
      constructor(@InjectPool() readonly pool: PgPool) {}

      async onModuleInit(): Promise<void> {
        seen.push(`init ${String(await applicationName(this.pool))}`);
      }

      async onModuleDestroy(): Promise<void> {
        seen.push(`destroy ${String(await applicationName(this.pool))}`);
      }

      async onApplicationShutdown(): Promise<void> {
        seen.push(`shutdown ${String(await applicationName(this.pool))}`);
      }
    }
    @Module({ providers: [Service] })
    class Feature {}
    await using app = await startApp({ imports: [Feature, PgModule.forRoot(at())] });

    await app.close();

    expect(seen).toEqual(['init app', 'destroy app', 'shutdown app']);
  });

  it('in async provider factories, before any hook has run', async () => {
    await using app = await compileApp({
      imports: [PgModule.forRoot(at())],
      providers: [{ provide: 'answer', inject: [PG_POOL], useFactory: (pool: PgPool) => applicationName(pool) }],
    });

    expect(app.module.get('answer')).toBe('app');
  });
});
