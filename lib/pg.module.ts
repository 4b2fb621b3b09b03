import { ConfigurableModuleBuilder, Logger, Module } from '@nestjs/common';
import type { DynamicModule, Provider } from '@nestjs/common';
import { notificationsOf } from './create-notifications.js';
import { PgModuleError } from './errors/pg-module.error.js';
import type { ConnectionFactory, Connector } from './connect/connection-factory.js';
import { connectorOf, poolOf } from './create-pool.js';
import { CONNECTOR, PgLifecycle, POOL_NAME, RESOLVED_OPTIONS } from './pg.lifecycle.js';
import { PgNotificationsModule } from './pg.notifications.js';
import {
  checkAsyncOptions,
  resolveModuleOptions,
  type PgModuleOptions,
  type ResolvedModuleOptions,
} from './pg.options.js';
import { PgRegistryModule } from './pg.registry.js';
import type { PgPool } from './pg.pool.js';
import { DEFAULT_POOL_NAME, getConnectionFactoryToken, getNotificationsToken, getPoolToken } from './pg.tokens.js';

const OPTIONS = Symbol('nestjs-pg:options');

/** A class given to `forRootAsync({ useClass })` or `({ useExisting })`. */
export interface PgOptionsFactory {
  createPgOptions(): PgModuleOptions | Promise<PgModuleOptions>;
}

const definition = new ConfigurableModuleBuilder<PgModuleOptions>({
  optionsInjectionToken: OPTIONS,
})
  .setClassMethodName('forRoot')
  .setFactoryMethodName('createPgOptions')
  // The key must be there: Nest keeps only the keys of these defaults out of the options.
  .setExtras<{ name?: string }>({ name: undefined }, (base, { name = DEFAULT_POOL_NAME }) => ({
    ...base,
    global: true,
    imports: [...(base.imports ?? []), PgRegistryModule, PgNotificationsModule],
    providers: [...(base.providers ?? []), ...providersOf(name)],
    exports: [getPoolToken(name), getConnectionFactoryToken(name), getNotificationsToken(name)],
  }))
  .build();

/**
 * PostgreSQL for a Nest application: a pool under {@link PG_POOL} and a connection factory under
 * {@link PG_CONNECTION_FACTORY}, in every module of the application, opened at bootstrap and drained at shutdown.
 */
@Module({})
export class PgModule extends definition.ConfigurableModuleClass {
  /** `name` registers a further pool; see {@link getPoolToken}. */
  static override forRoot(options: typeof definition.OPTIONS_TYPE = {}): DynamicModule {
    return super.forRoot(options);
  }

  /** The options come from `useFactory`, `useClass` or `useExisting`; `name` stands beside them. */
  static override forRootAsync(options: typeof definition.ASYNC_OPTIONS_TYPE): DynamicModule {
    checkAsyncOptions(options);
    return super.forRootAsync(options);
  }
}

function providersOf(name: string): Provider[] {
  if (typeof name !== 'string' || name === '') {
    throw new PgModuleError('PG_CONFIG_INVALID', 'The name of a PgModule must be a text that is not empty.');
  }
  const poolToken = getPoolToken(name);
  const factoryToken = getConnectionFactoryToken(name);
  return [
    { provide: POOL_NAME, useValue: name },
    {
      provide: RESOLVED_OPTIONS,
      inject: [OPTIONS],
      useFactory: (options: PgModuleOptions) => resolveNamed(name, options),
    },
    {
      provide: CONNECTOR,
      inject: [RESOLVED_OPTIONS],
      useFactory: (options: ResolvedModuleOptions) => connectorOf(options, warnOf(name)),
    },
    { provide: factoryToken, inject: [CONNECTOR], useFactory: (connector: Connector) => connector.connect },
    {
      provide: poolToken,
      inject: [RESOLVED_OPTIONS, factoryToken, CONNECTOR],
      useFactory: (options: ResolvedModuleOptions, connect: ConnectionFactory, connector: Connector) =>
        poolOf(name, options, connect, connector),
    },
    {
      provide: getNotificationsToken(name),
      inject: [RESOLVED_OPTIONS, factoryToken, poolToken],
      useFactory: (options: ResolvedModuleOptions, connect: ConnectionFactory, pool: PgPool) =>
        notificationsOf({ name, options, connect, pool, ...notificationLog }),
    },
    PgLifecycle,
  ];
}

const logger = new Logger('PgModule');
const notificationLog = {
  warn: (message: string) => logger.warn(message),
  log: (message: string) => logger.log(message),
};

/** Says which of an application's modules is meant. */
function resolveNamed(name: string, options: PgModuleOptions): ResolvedModuleOptions {
  try {
    return resolveModuleOptions(options, warnOf(name));
  } catch (error) {
    if (!(error instanceof PgModuleError)) throw error;
    throw new PgModuleError(error.code, `PgModule "${name}": ${error.message}`, { cause: error.cause });
  }
}

function warnOf(name: string): (message: string) => void {
  return (message) => logger.warn(`Pool "${name}": ${message}`);
}
