import { configError } from '../config/config-error.js';
import { assertKnownKeys, kindOf } from '../config/unknown-option.js';

const ISOLATIONS = ['read uncommitted', 'read committed', 'repeatable read', 'serializable'] as const;

/** https://www.postgresql.org/docs/current/transaction-iso.html */
export type TransactionIsolation = (typeof ISOLATIONS)[number];

/** Which failures run the whole function again, on a fresh transaction, and how often. */
export interface TransactionRetry {
  /** Runs in all, the first included. Default 5. */
  attempts?: number;
  /** No run begins later than this after the first, in milliseconds. Default 10 000. */
  timeoutMillis?: number;
  /** The pause before the second run, at most, in milliseconds; twice as long before each further one. Default 20. */
  baseMillis?: number;
  /** No pause is longer, in milliseconds. Default 1 000. */
  maxMillis?: number;
  /** Default: SQLSTATE 40001 (serialization failure) and 40P01 (deadlock). `PG_COMMIT_UNKNOWN` is never asked about. */
  when?: (error: unknown, attempt: number) => boolean;
}

export interface TransactionOptions {
  /** Default: the server's (`default_transaction_isolation`). */
  isolation?: TransactionIsolation;
  /** Default: the server's. */
  readOnly?: boolean;
  /** Waits for a snapshot that cannot fail; only with `serializable` and `readOnly`. */
  deferrable?: boolean;
  /** Set for this transaction alone (`set_config(name, value, true)`): `statement_timeout`, a tenant for row-level security. */
  settings?: Readonly<Record<string, string | number | boolean>>;
  /** `SET LOCAL ROLE`, after the settings. */
  role?: string;
  /**
   * For the whole transaction, in milliseconds: then its statement is cancelled and everything is rolled back. From
   * PostgreSQL 17 on the server keeps the limit as well, a second later, for a client that is gone. Default: none.
   */
  timeoutMillis?: number;
  /** Cancels the running statement and rolls back; rejects with `PG_ABORTED`. */
  signal?: AbortSignal;
  /** `false` = never again. */
  retry?: TransactionRetry | false;
}

/** Checked once, with defaults. */
export interface ResolvedTransactionOptions {
  readonly isolation: TransactionIsolation | undefined;
  readonly readOnly: boolean | undefined;
  readonly deferrable: boolean;
  readonly settings: readonly (readonly [name: string, value: string])[];
  readonly role: string | undefined;
  /** 0 = none. */
  readonly timeoutMillis: number;
  readonly signal: AbortSignal | undefined;
  readonly retry: ResolvedRetry;
}

export interface ResolvedRetry {
  readonly attempts: number;
  readonly timeoutMillis: number;
  readonly baseMillis: number;
  readonly maxMillis: number;
  readonly when: ((error: unknown, attempt: number) => boolean) | undefined;
}

const KEYS = ['isolation', 'readOnly', 'deferrable', 'settings', 'role', 'timeoutMillis', 'signal', 'retry'];
const RETRY_KEYS = ['attempts', 'timeoutMillis', 'baseMillis', 'maxMillis', 'when'];
const HINTS = { isolationLevel: 'write isolation.', timeout: 'write timeoutMillis.', retries: 'write retry.attempts.' };
const MAX_MILLIS = 2 ** 31 - 1;
const DEFAULT_RETRY = { attempts: 5, timeoutMillis: 10_000, baseMillis: 20, maxMillis: 1_000, when: undefined };
const NO_RETRY = { ...DEFAULT_RETRY, attempts: 1 };
const PARAMETER_NAME = /^[a-z_][\w$]*(\.[a-z_][\w$]*)*$/i;

const DEFAULTS: ResolvedTransactionOptions = Object.freeze({
  isolation: undefined,
  readOnly: undefined,
  deferrable: false,
  settings: [],
  role: undefined,
  timeoutMillis: 0,
  signal: undefined,
  retry: DEFAULT_RETRY,
});

/** @throws PgModuleError `PG_CONFIG_INVALID` naming option, value and range */
export function resolveTransactionOptions(options: TransactionOptions | undefined): ResolvedTransactionOptions {
  if (options === undefined) return DEFAULTS;
  assertKnownKeys(options, KEYS, 'options of a transaction', HINTS);
  const { isolation, readOnly, deferrable = false, settings = {}, role, timeoutMillis, signal, retry } = options;
  if (isolation !== undefined && !ISOLATIONS.includes(isolation)) {
    throw configError(`isolation is ${JSON.stringify(isolation)}; it must be one of ${ISOLATIONS.join(', ')}.`);
  }
  assertBoolean('readOnly', readOnly);
  assertBoolean('deferrable', deferrable);
  if (deferrable && (isolation !== 'serializable' || readOnly !== true)) {
    throw configError("deferrable has an effect only with isolation: 'serializable' and readOnly: true; give both.");
  }
  if (role !== undefined && (typeof role !== 'string' || role === '')) {
    throw configError(`role must be the name of a role; it is ${kindOf(role)}.`);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw configError(`signal must be an AbortSignal; it is ${kindOf(signal)}.`);
  }
  return Object.freeze({
    isolation,
    readOnly,
    deferrable,
    settings: resolveSettings(settings),
    role,
    timeoutMillis: timeoutMillis === undefined ? 0 : whole('timeoutMillis', timeoutMillis, 1),
    signal,
    retry: retry === false ? NO_RETRY : resolveRetry(retry),
  });
}

/** Of the same meaning, or stronger: what was asked for is given in a transaction that has it. */
export function isAtLeast(given: TransactionIsolation | undefined, wanted: TransactionIsolation): boolean {
  return given !== undefined && ISOLATIONS.indexOf(given) >= ISOLATIONS.indexOf(wanted);
}

function resolveSettings(settings: unknown): (readonly [string, string])[] {
  if (typeof settings !== 'object' || settings === null || Array.isArray(settings)) {
    throw configError(`settings must be an object of names and values; it is ${kindOf(settings)}.`);
  }
  return Object.entries(settings as Record<string, unknown>).map(([name, value]) => {
    if (!PARAMETER_NAME.test(name)) {
      throw configError(`settings has ${JSON.stringify(name)}, which is no name of a configuration parameter.`);
    }
    if (!['string', 'number', 'boolean'].includes(typeof value)) {
      throw configError(`settings.${name} must be a text, a number or a boolean; it is ${kindOf(value)}.`);
    }
    return [name, String(value)] as const;
  });
}

function resolveRetry(retry: TransactionRetry | undefined): ResolvedRetry {
  if (retry === undefined) return DEFAULT_RETRY;
  assertKnownKeys(retry, RETRY_KEYS, 'retry');
  const { attempts, timeoutMillis, baseMillis, maxMillis, when } = { ...DEFAULT_RETRY, ...definedOf(retry) };
  if (when !== undefined && typeof when !== 'function') {
    throw configError(`retry.when must be a function; it is ${kindOf(when)}.`);
  }
  return {
    attempts: whole('retry.attempts', attempts, 1),
    timeoutMillis: whole('retry.timeoutMillis', timeoutMillis, 0),
    baseMillis: whole('retry.baseMillis', baseMillis, 0),
    maxMillis: whole('retry.maxMillis', maxMillis, 0),
    when,
  };
}

function definedOf(retry: TransactionRetry): TransactionRetry {
  return Object.fromEntries(Object.entries(retry).filter(([, value]) => value !== undefined));
}

function assertBoolean(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'boolean') {
    throw configError(`${name} must be true or false; it is ${kindOf(value)}.`);
  }
}

function whole(name: string, value: unknown, least: number): number {
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= MAX_MILLIS) return value as number;
  throw configError(`${name} must be a whole number from ${least} to ${MAX_MILLIS}; it is ${String(value)}.`);
}
