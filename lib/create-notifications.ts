import { assertConnection, type ConnectionFactory } from './connect/connection-factory.js';
import { isPermanent, originOf, processWarning } from './create-pool.js';
import { PgModuleError } from './errors/pg-module.error.js';
import type { ResolvedOptions } from './pg.options.js';
import type { PgPool } from './pg.pool.js';
import { PgNotifications, type NotificationsSettings } from './stream/notifications.js';
import { systemClock } from './util/clock.js';

/** How often a silent connection is asked whether it is alive, where `pool.keepaliveMillis` says nothing. */
const KEEPALIVE_MILLIS = 30_000;
const LISTEN_TIMEOUT_MILLIS = 10_000;

/**
 * LISTEN and NOTIFY without Nest, for a pool that `createPool` has made. Close it with `await notifications.close()` or
 * `await using`, before the pool.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID`
 */
export function createNotifications(pool: PgPool): PgNotifications {
  const origin = originOf(pool);
  if (!origin) {
    throw new PgModuleError(
      'PG_CONFIG_INVALID',
      'createNotifications() takes a pool that createPool() has made. In a Nest application, inject PgNotifications.',
    );
  }
  return notificationsOf({ name: pool.name, pool, warn: processWarning, log: () => undefined, ...origin });
}

/** @internal */
export function notificationsOf({
  options,
  connect,
  ...rest
}: Pick<NotificationsSettings, 'name' | 'pool' | 'warn' | 'log'> & {
  readonly options: ResolvedOptions;
  readonly connect: ConnectionFactory;
}): PgNotifications {
  const { config, limits } = options;
  // A standby neither listens nor notifies. `read-write` asks for more than `primary`, and is kept.
  const targetSessionAttrs = config.targetSessionAttrs === 'read-write' ? 'read-write' : 'primary';
  return new PgNotifications({
    ...rest,
    connect: async (signal) => {
      const client = await connect({ signal, targetSessionAttrs });
      assertConnection(client, `The connection factory of the pool "${rest.name}"`);
      return client;
    },
    isPermanent,
    limits: {
      keepaliveMillis: limits.keepaliveMillis || KEEPALIVE_MILLIS,
      keepaliveTimeoutMillis: limits.validateTimeoutMillis,
      listenTimeoutMillis: LISTEN_TIMEOUT_MILLIS,
    },
    clock: systemClock,
  });
}
