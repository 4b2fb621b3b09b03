import type { PgClient } from '../client/pg-client.js';
import { assertKnownKeys } from '../config/unknown-option.js';
import { PgModuleError } from '../errors/pg-module.error.js';

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
  /** A connection that nobody has used for so long is closed, down to `min`; 0 = never. Default 300 000. */
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
  /** Sets up every new connection; part of connecting, and under its deadline. */
  onConnect?: (client: PgClient) => void | Promise<void>;
}

/** Pool options with every default filled in. */
export interface ResolvedPoolOptions {
  readonly min: number;
  readonly max: number;
  readonly acquireTimeoutMillis: number;
  readonly connectTimeoutMillis: number;
  readonly maxWaiting: number;
  readonly idleTimeoutMillis: number;
  readonly maxLifetimeSeconds: number;
  readonly lifetimeJitter: number;
  readonly maxUses: number;
  readonly validateAfterIdleMillis: number;
  readonly validateTimeoutMillis: number;
  readonly keepaliveMillis: number;
  readonly leakThresholdMillis: number;
  readonly drainTimeoutMillis: number;
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

const RANGES: { readonly [K in keyof ResolvedPoolOptions]: Range } = {
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
};

export const POOL_OPTION_NAMES = [...Object.keys(RANGES), 'onConnect'] as readonly string[];

/** What a user of another pool may write, and what to write instead. */
const FOREIGN_NAMES: Record<string, string> = {
  connectionTimeoutMillis:
    'write acquireTimeoutMillis (waiting for a connection) or connectTimeoutMillis (opening one).',
  poolSize: 'write max.',
  minconn: 'write min.',
  maxconn: 'write max.',
  minimumIdle: 'write min.',
  maximumPoolSize: 'write max.',
  allowExitOnIdle: 'leave it out; idle connections never keep the process alive.',
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
  const value = (name: keyof ResolvedPoolOptions): number => {
    const { byDefault } = RANGES[name];
    const given: unknown = options[name] ?? undefined;
    return given === undefined ? byDefault : checkRange(name, given, where);
  };
  if (options.onConnect !== undefined && typeof options.onConnect !== 'function') {
    throw invalid(`${where}.onConnect must be a function; it is ${shown(options.onConnect)}.`);
  }
  const resolved: ResolvedPoolOptions = {
    min: value('min'),
    max: value('max'),
    acquireTimeoutMillis: value('acquireTimeoutMillis'),
    connectTimeoutMillis:
      options.connectTimeoutMillis === undefined && connectTimeoutMillis !== undefined
        ? connectTimeoutMillis
        : value('connectTimeoutMillis'),
    maxWaiting: value('maxWaiting'),
    idleTimeoutMillis: value('idleTimeoutMillis'),
    maxLifetimeSeconds: value('maxLifetimeSeconds'),
    lifetimeJitter: value('lifetimeJitter'),
    maxUses: value('maxUses'),
    validateAfterIdleMillis: value('validateAfterIdleMillis'),
    validateTimeoutMillis: value('validateTimeoutMillis'),
    keepaliveMillis: value('keepaliveMillis'),
    leakThresholdMillis: value('leakThresholdMillis'),
    drainTimeoutMillis: value('drainTimeoutMillis'),
  };
  checkBounds(resolved.min, resolved.max, where);
  return Object.freeze(resolved);
}

/**
 * The value of an option, if it is one.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID` naming option, value and range
 */
function checkRange(name: keyof ResolvedPoolOptions, given: unknown, where: string): number {
  const { min, max, fraction } = RANGES[name];
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
