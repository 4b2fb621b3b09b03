import { StatementCatalog } from './client/statement-catalog.js';
import { PgConnectError } from './connect/connect.error.js';
import { assertConnection, Connector, type ConnectionFactory } from './connect/connection-factory.js';
import { PgModuleError } from './errors/pg-module.error.js';
import { resolveOptions, type PgOptions, type ResolvedOptions } from './pg.options.js';
import { DEFAULT_POOL_NAME } from './pg.tokens.js';
import { libraryOptions } from './library-options.js';
import { PgPool } from './pg.pool.js';
import { unpooledClient } from './pool/unpooled-client.js';
import { TlsMaterial } from './tls/tls-material.js';
import { systemClock } from './util/clock.js';

type Warn = (message: string) => void;

/** What a pool's other connections are opened with. */
interface Origin {
  readonly options: ResolvedOptions;
  readonly connect: ConnectionFactory;
}

const origins = new WeakMap<PgPool, Origin>();

/**
 * A pool without Nest: for scripts, workers, migrations and tests. It opens nothing until it is used, or until
 * `await pool.open()`; close it with `await pool.end()` or `await using`.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID`
 */
export function createPool(options: PgOptions = {}, name = DEFAULT_POOL_NAME): PgPool {
  const resolved = resolveOptions(options, processWarning);
  const connector = connectorOf(resolved, processWarning);
  const pool = poolOf(name, resolved, connector.connect, connector);
  origins.set(pool, { options: resolved, connect: connector.connect });
  return pool;
}

/**
 * A function that opens connections, without a pool and without Nest. Closing them is the caller's.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID`
 */
export function createConnectionFactory(options: PgOptions = {}): ConnectionFactory {
  return connectorOf(resolveOptions(options, processWarning), processWarning).connect;
}

/** @internal */
export function connectorOf(options: ResolvedOptions, warn: Warn): Connector {
  const { config, limits, onConnect, connectionFactory } = options;
  const opener = {
    config,
    tlsMaterial: new TlsMaterial(config.tls, { warn }),
    connectTimeoutMillis: limits.connectTimeoutMillis,
    onConnect,
    statements: new StatementCatalog(limits.statementCache, warn),
    warn,
    clock: systemClock,
  };
  return new Connector(opener, connectionFactory);
}

/**
 * @internal
 * @param connect the factory as the application sees it: the pool opens its connections through the very same
 */
export function poolOf(
  name: string,
  options: ResolvedOptions,
  connect: ConnectionFactory,
  connector: Connector,
): PgPool {
  const { config, limits } = options;
  return new PgPool({
    name,
    limits,
    shown: libraryOptions(config, limits),
    Client: unpooledClient(connect),
    connect: async (signal) => {
      const client = await connect({ signal });
      assertConnection(client, `The connection factory of the pool "${name}"`);
      connector.adopt(client);
      return client;
    },
    statements: connector.statements,
    hasQueryTimeout: config.queryTimeoutMillis > 0,
    isPermanent,
    clock: systemClock,
  });
}

/** @internal Of a pool that `createPool` has made. */
export function originOf(pool: PgPool): Origin | undefined {
  return origins.get(pool);
}

/** @internal Trying again with the same settings cannot help. */
export function isPermanent(error: Error): boolean {
  if (error instanceof PgConnectError) return error.permanent;
  return error instanceof PgModuleError && (error.code === 'PG_CONFIG_INVALID' || error.code === 'PG_POOL_CLOSED');
}

/** @internal */
export function processWarning(message: string): void {
  process.emitWarning(message, { type: 'PgWarning' });
}
