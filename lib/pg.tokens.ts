import { PgNotifications } from './stream/notifications.js';

export const DEFAULT_POOL_NAME = 'default';

/** The default pool: `@Inject(PG_POOL) pool: PgPool`. */
export const PG_POOL = Symbol.for('nestjs-pg:pool');

/** The default pool's connection factory: `@Inject(PG_CONNECTION_FACTORY) connect: ConnectionFactory`. */
export const PG_CONNECTION_FACTORY = Symbol.for('nestjs-pg:connection-factory');

/** The token of the pool with this name; without one, {@link PG_POOL}. */
export function getPoolToken(name?: string): symbol {
  return isDefault(name) ? PG_POOL : Symbol.for(`nestjs-pg:pool:${name}`);
}

/** The token of the connection factory of the pool with this name; without one, {@link PG_CONNECTION_FACTORY}. */
export function getConnectionFactoryToken(name?: string): symbol {
  return isDefault(name) ? PG_CONNECTION_FACTORY : Symbol.for(`nestjs-pg:connection-factory:${name}`);
}

/** The token of the notifications of the pool with this name; without one, the class {@link PgNotifications}. */
export function getNotificationsToken(name?: string): symbol | typeof PgNotifications {
  return isDefault(name) ? PgNotifications : Symbol.for(`nestjs-pg:notifications:${name}`);
}

function isDefault(name: string | undefined): boolean {
  return name === undefined || name === DEFAULT_POOL_NAME;
}
