import type { PgClient } from '../client/pg-client.js';
import type { SessionReset } from '../client/session-reset.js';
import { assertKnownKeys } from '../config/unknown-option.js';
import { PgModuleError } from '../errors/pg-module.error.js';

/**
 * What is done to a session between two leases, besides rolling back a transaction that was left open:
 *
 * - `rollback`: nothing else.
 * - `clean`: settings, role, cursors, LISTEN, advisory locks, temporary tables and sequences' caches are forgotten.
 * - `discard-all`: `DISCARD ALL`; prepared statements go as well.
 * - `{ sql }`: statements of your own. If they fail or leave a transaction open, the connection is closed.
 *
 * The first three cost no round trip: the reset is sent at release, and who comes before its answer sends behind it. Your
 * own SQL is awaited before the connection is lent again, for it may fail.
 */
export type PoolReset = 'rollback' | SessionReset | { readonly sql: string };

export interface PoolOptions {
  /** Connections opened ahead and kept. Default 0. */
  min?: number;
  /** The most connections the pool ever has. Default 10. */
  max?: number;
  /** How long a borrower waits for a connection, in milliseconds; 0 = without limit. Default 30 000. */
  acquireTimeoutMillis?: number;
  /**
   * Deadline of one attempt to open a connection, from the name look-up to the end of `onConnect`, in milliseconds;
   * 0 = none. Default: connect_timeout of the settings, else 10 000.
   */
  connectTimeoutMillis?: number;
  /**
   * The most borrowers that may wait for others to give back; one more is refused with `PG_QUEUE_FULL`. Those for whom
   * `max` still has room do not count. Default: no limit.
   */
  maxWaiting?: number;
  /**
   * A connection that nobody has used for so long is closed, down to `min` and one a second; 0 = never. Default 300 000.
   */
  idleTimeoutMillis?: number;
  /** A connection is retired at this age; 0 = never. Default 3 600. */
  maxLifetimeSeconds?: number;
  /** By what part a lifetime may be shorter, by chance, so that not all end at once; 0 to 1. Default 0.1. */
  lifetimeJitter?: number;
  /** A connection is retired after so many leases; 0 = no limit. Default 0. */
  maxUses?: number;
  /**
   * A connection that has rested so long is validated before it is lent, in milliseconds; 0 = never. Default 30 000.
   */
  validateAfterIdleMillis?: number;
  /** How long a validation may take before the connection is replaced, in milliseconds. Default 2 000. */
  validateTimeoutMillis?: number;
  /**
   * Connections that rest are validated this often, in milliseconds, so that firewalls do not forget them and dead ones
   * are found; 0 = never. Default 0.
   */
  keepaliveMillis?: number;
  /** Warns of connections that a borrower holds longer than this, with its line, in milliseconds; 0 = never. Default 0. */
  leakThresholdMillis?: number;
  /** How long shutdown waits for leases to come back, in milliseconds. Default 10 000. */
  drainTimeoutMillis?: number;
  /**
   * Named statements that one connection may have: a text that comes back is prepared by the server once, and what has not
   * been used for longest makes room. Each costs the server some 10 to 100 KB per connection. `false` or 0 = none.
   * Default 100.
   */
  statementCache?: number | false;
  /**
   * `auto`: when all connections are busy, fast reads of `pool.query()` join others of their kind on a connection that is
   * working, instead of waiting for it. `off`: each waits for a connection of its own. Default `auto`.
   */
  pipeline?: 'auto' | 'off';
  /** What is done to a session between two leases. Default `rollback`. */
  reset?: PoolReset;
  /** Connections that rest do not keep the process alive. Default true. */
  allowExitOnIdle?: boolean;
  /** Sets up every new connection; part of connecting, and under its deadline. */
  onConnect?: (client: PgClient) => void | Promise<void>;
}

interface Range {
  /** Not only whole numbers. */
  readonly fraction?: true;
  readonly byDefault: number;
  readonly min: number;
  readonly max: number;
}

/** setTimeout takes no more. */
const MAX_MILLIS = 2 ** 31 - 1;

const RANGES = {
  min: { byDefault: 0, min: 0, max: 100_000 },
  max: { byDefault: 10, min: 1, max: 100_000 },
  acquireTimeoutMillis: { byDefault: 30_000, min: 0, max: MAX_MILLIS },
  connectTimeoutMillis: { byDefault: 10_000, min: 0, max: MAX_MILLIS },
  maxWaiting: { byDefault: Infinity, min: 0, max: Infinity },
  idleTimeoutMillis: { byDefault: 300_000, min: 0, max: MAX_MILLIS },
  maxLifetimeSeconds: { byDefault: 3_600, min: 0, max: Math.floor(MAX_MILLIS / 1000) },
  lifetimeJitter: { byDefault: 0.1, min: 0, max: 1, fraction: true },
  maxUses: { byDefault: 0, min: 0, max: Infinity },
  validateAfterIdleMillis: { byDefault: 30_000, min: 0, max: MAX_MILLIS },
  validateTimeoutMillis: { byDefault: 2_000, min: 1, max: MAX_MILLIS },
  keepaliveMillis: { byDefault: 0, min: 0, max: MAX_MILLIS },
  leakThresholdMillis: { byDefault: 0, min: 0, max: MAX_MILLIS },
  drainTimeoutMillis: { byDefault: 10_000, min: 0, max: MAX_MILLIS },
  statementCache: { byDefault: 100, min: 0, max: 10_000 },
} as const satisfies Record<string, Range>;

type NumberOption = keyof typeof RANGES;

/** Pool options with every default filled in. */
export interface ResolvedPoolOptions extends Readonly<Record<NumberOption, number>> {
  readonly pipeline: 'auto' | 'off';
  readonly reset: PoolReset;
  readonly allowExitOnIdle: boolean;
}

export const POOL_OPTION_NAMES: readonly string[] = [
  ...Object.keys(RANGES),
  'pipeline',
  'reset',
  'allowExitOnIdle',
  'onConnect',
];

const PIPELINES: readonly unknown[] = ['auto', 'off'];
const RESETS: readonly unknown[] = ['rollback', 'clean', 'discard-all'];

/** What a user of another pool may write, and what to write instead. */
const FOREIGN_NAMES: Record<string, string> = {
  connectionTimeoutMillis:
    'write acquireTimeoutMillis (waiting for a connection) or connectTimeoutMillis (opening one).',
  poolSize: 'write max.',
  minconn: 'write min.',
  maxconn: 'write max.',
  minimumIdle: 'write min.',
  maximumPoolSize: 'write max.',
  Client: 'use the option connectionFactory.',
  verify: 'write onConnect.',
  log: 'listen to the events of the pool.',
};

/**
 * Checks once and fills in defaults; `connectTimeoutMillis` falls back to what the connection settings say.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID` naming option, value and range
 */
export function resolvePoolOptions(
  options: PoolOptions,
  connectTimeoutMillis: number | undefined,
  where = 'pool',
): ResolvedPoolOptions {
  assertKnownKeys(options, POOL_OPTION_NAMES, where, FOREIGN_NAMES);
  const { onConnect, pipeline = 'auto', reset = 'rollback', allowExitOnIdle = true } = options;
  if (onConnect !== undefined && typeof onConnect !== 'function') {
    throw invalid(`${where}.onConnect must be a function; it is ${shown(onConnect)}.`);
  }
  if (typeof allowExitOnIdle !== 'boolean') {
    throw invalid(`${where}.allowExitOnIdle must be true or false; it is ${shown(allowExitOnIdle)}.`);
  }
  if (!PIPELINES.includes(pipeline)) {
    throw invalid(`${where}.pipeline must be 'auto' or 'off'; it is ${shown(pipeline)}.`);
  }
  const numbers = Object.fromEntries(
    Object.entries<Range>(RANGES).map(([name, { byDefault }]) => {
      const option = options[name as NumberOption] ?? undefined;
      const given = name === 'statementCache' && option === false ? 0 : option;
      return [name, given === undefined ? byDefault : checkRange(name as NumberOption, given, where)];
    }),
  ) as Record<NumberOption, number>;
  if (options.connectTimeoutMillis === undefined && connectTimeoutMillis !== undefined) {
    numbers.connectTimeoutMillis = connectTimeoutMillis;
  }
  const resolved = { ...numbers, pipeline, reset: checkReset(reset, where), allowExitOnIdle };
  checkBounds(resolved.min, resolved.max, where);
  return Object.freeze(resolved);
}

function checkReset(reset: unknown, where: string): PoolReset {
  if (RESETS.includes(reset)) return reset as PoolReset;
  if (typeof reset !== 'object' || reset === null) {
    throw invalid(`${where}.reset must be 'rollback', 'clean', 'discard-all' or { sql }; it is ${shown(reset)}.`);
  }
  assertKnownKeys(reset, ['sql'], `${where}.reset`);
  const { sql } = reset as { sql?: unknown };
  if (typeof sql === 'string' && sql.trim() !== '') return Object.freeze({ sql });
  throw invalid(`${where}.reset.sql must be one or more statements; it is ${shown(sql)}.`);
}

/**
 * The value of an option, if it is one.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID` naming option, value and range
 */
function checkRange(name: NumberOption, given: unknown, where: string): number {
  const { min, max, fraction }: Range = RANGES[name];
  const isWhole = Number.isInteger(given) || given === max || fraction;
  if (typeof given === 'number' && isWhole && given >= min && given <= max) return given;
  const range = max === Infinity ? `at least ${min}` : `from ${min} to ${max}`;
  throw invalid(`${where}.${name} must be a ${fraction ? 'number' : 'whole number'} ${range}; it is ${shown(given)}.`);
}

/** Checks new bounds for a pool; what is not given stays as it is. */
export function resolveBounds(
  given: { min?: number; max?: number },
  present: { readonly min: number; readonly max: number },
): { min: number; max: number } {
  const min = given.min === undefined ? present.min : checkRange('min', given.min, 'resize');
  const max = given.max === undefined ? present.max : checkRange('max', given.max, 'resize');
  checkBounds(min, max, 'resize');
  return { min, max };
}

function checkBounds(min: number, max: number, where: string): void {
  if (min > max) throw invalid(`${where}.min (${min}) is greater than ${where}.max (${max}).`);
}

function shown(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value) : typeof value === 'function' ? 'a function' : String(value);
}

function invalid(message: string): PgModuleError {
  return new PgModuleError('PG_CONFIG_INVALID', message);
}
