import { configError } from './config/config-error.js';
import type { ResolvedConfig } from './config/resolved-config.js';
import { CONNECTION_SETTING_HINTS, CONNECTION_SETTING_KEYS, resolveConfig } from './config/resolve-config.js';
import type { ConnectionSettings } from './config/settings.js';
import { assertKnownKeys } from './config/unknown-option.js';
import type { ConnectionFactoryHook } from './connect/connection-factory.js';
import { resolvePoolOptions, type PoolOptions, type ResolvedPoolOptions } from './pool/pool-options.js';

/** How the bootstrap waits for PostgreSQL; only for `connect: 'eager'`. */
export interface RetryOptions {
  /** How long the attempts go on, in milliseconds. Default 30 000. */
  timeoutMillis?: number;
}

/** What `createPool` and `createConnectionFactory` take. */
export interface PgOptions extends ConnectionSettings {
  pool?: PoolOptions;
  /**
   * Wraps or replaces how every connection is opened, the pool's and the connection factory's: a tunnel, a cloud
   * connector, a log line. It must resolve to what `connect` resolves to.
   */
  connectionFactory?: ConnectionFactoryHook;
}

/** What `PgModule.forRoot` and the factories of `forRootAsync` take. */
export interface PgModuleOptions extends PgOptions {
  /**
   * `eager` (default): the application starts when `max(1, pool.min)` connections are open. `background`: it starts at
   * once and the pool keeps trying. `lazy`: the first query opens the first connection.
   */
  connect?: 'eager' | 'background' | 'lazy';
  /** `false` = the first failure ends the bootstrap. What cannot heal (a wrong password, ...) always does. */
  retry?: RetryOptions | false;
}

/** Options checked once, with every default filled in. */
export interface ResolvedOptions {
  readonly config: ResolvedConfig;
  readonly limits: ResolvedPoolOptions;
  readonly onConnect: PoolOptions['onConnect'];
  readonly connectionFactory: ConnectionFactoryHook | undefined;
}

export interface ResolvedModuleOptions extends ResolvedOptions {
  readonly connect: 'eager' | 'background' | 'lazy';
  /** 0 = one attempt only. */
  readonly retryTimeoutMillis: number;
}

const CONNECT_MODES = ['eager', 'background', 'lazy'] as const;
const RETRY_TIMEOUT_MILLIS = 30_000;
const MAX_MILLIS = 2 ** 31 - 1;

const OWN_KEYS = ['pool', 'connectionFactory'];
const MODULE_KEYS = ['connect', 'retry'];
const OUTSIDE_HINTS = {
  connect: 'it is for PgModule; here, await pool.open() to connect ahead, or just query.',
  retry: 'it is for PgModule; here, give pool.open() a signal.',
};
const ASYNC_KEYS = ['name', 'imports', 'inject', 'useFactory', 'useClass', 'useExisting', 'provideInjectionTokensFrom'];
const ASYNC_SOURCES = ['useFactory', 'useClass', 'useExisting'] as const;
const MODULE_HINTS = { name: 'it stands beside useFactory, not in what it returns.' };

/** @throws PgModuleError `PG_CONFIG_INVALID` */
export function resolveOptions(options: PgOptions, warn: (message: string) => void): ResolvedOptions {
  return Object.freeze(resolve(options, [...CONNECTION_SETTING_KEYS, ...OWN_KEYS], OUTSIDE_HINTS, warn));
}

/** @throws PgModuleError `PG_CONFIG_INVALID` */
export function resolveModuleOptions(options: PgModuleOptions, warn: (message: string) => void): ResolvedModuleOptions {
  const known = [...CONNECTION_SETTING_KEYS, ...OWN_KEYS, ...MODULE_KEYS];
  const resolved = resolve(options, known, MODULE_HINTS, warn);
  const { connect = 'eager', retry } = options;
  if (!CONNECT_MODES.includes(connect)) {
    throw configError(`connect is ${JSON.stringify(connect)}; it must be one of ${CONNECT_MODES.join(', ')}.`);
  }
  return Object.freeze({ ...resolved, connect, retryTimeoutMillis: resolveRetry(retry) });
}

/**
 * What stands beside `useFactory`; checked where the module is declared, for Nest passes over what it does not know.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID`
 */
export function checkAsyncOptions(options: object): void {
  const inside = [...CONNECTION_SETTING_KEYS, ...OWN_KEYS, ...MODULE_KEYS];
  const hints = inside.map((key) => [key, 'it belongs into the object that useFactory returns.'] as const);
  assertKnownKeys(options, ASYNC_KEYS, 'options of PgModule.forRootAsync', Object.fromEntries(hints));
  const given = ASYNC_SOURCES.filter((key) => (options as Record<string, unknown>)[key] !== undefined);
  if (given.length === 1) return;
  throw configError(
    `PgModule.forRootAsync needs one of ${ASYNC_SOURCES.join(', ')}; it was given ${given.join(' and ') || 'none'}.`,
  );
}

function resolve(
  options: PgOptions,
  known: readonly string[],
  hints: Readonly<Record<string, string>>,
  warn: (message: string) => void,
): ResolvedOptions {
  const allHints: Record<string, string> = { ...CONNECTION_SETTING_HINTS, ...hints };
  assertKnownKeys(options, known, 'options', allHints);
  const { pool = {}, connectionFactory } = options;
  if (connectionFactory !== undefined && typeof connectionFactory !== 'function') {
    throw configError('connectionFactory must be a function.');
  }
  const settings = Object.fromEntries(
    Object.entries(options as Record<string, unknown>).filter(([key]) => CONNECTION_SETTING_KEYS.includes(key)),
  ) as ConnectionSettings;
  const config = resolveConfig(settings, { warn });
  const limits = resolvePoolOptions(pool, config.connectTimeoutMillis);
  return { config, limits, onConnect: pool.onConnect, connectionFactory };
}

function resolveRetry(retry: PgModuleOptions['retry']): number {
  if (retry === false) return 0;
  if (retry === undefined) return RETRY_TIMEOUT_MILLIS;
  assertKnownKeys(retry, ['timeoutMillis'], 'retry');
  const { timeoutMillis = RETRY_TIMEOUT_MILLIS } = retry;
  if (!Number.isInteger(timeoutMillis) || timeoutMillis < 1 || timeoutMillis > MAX_MILLIS) {
    throw configError(
      `retry.timeoutMillis is ${String(timeoutMillis)}; it must be a whole number from 1 to ${MAX_MILLIS}.`,
    );
  }
  return timeoutMillis;
}
