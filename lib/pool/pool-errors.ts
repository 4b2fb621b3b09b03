import { PgModuleError } from '../errors/pg-module.error.js';
import type { CallSite } from '../util/call-site.js';
import { formatMillis } from '../util/duration.js';

/** One who has a connection. */
export interface Holder {
  readonly heldMillis: number;
  /** Undefined for pool.query(), and when more connections are borrowed than call sites are taken. */
  readonly callSite: CallSite | undefined;
}

/** A pool at the moment at which it refuses a borrower. */
export interface PoolState {
  readonly name: string;
  readonly max: number;
  readonly established: number;
  readonly dialling: number;
  readonly waiting: number;
  /** Longest first. */
  readonly holders: readonly Holder[];
  readonly failures: number;
  readonly lastFailure: Error | undefined;
}

export function poolClosed(name: string): PgModuleError {
  return new PgModuleError('PG_POOL_CLOSED', `Pool "${name}" is closed: no connection can be taken from it any more.`);
}

export function acquireAborted(name: string, signal: AbortSignal | undefined): PgModuleError {
  return new PgModuleError('PG_ABORTED', `Pool "${name}": the signal fired before there was a connection.`, {
    cause: signal?.reason,
  });
}

export function queueFull(state: PoolState, maxWaiting: number): PgModuleError {
  return new PgModuleError(
    'PG_QUEUE_FULL',
    `Pool "${state.name}": ${state.waiting} borrowers already wait for its ${state.max} connections, and ` +
      `pool.maxWaiting is ${maxWaiting}. ${describeHolders(state)}`,
  );
}

/** Says whether the pool is full, and who has it, or the server is down, and why. */
export function acquireTimeout(state: PoolState, waitedMillis: number): PgModuleError {
  const { name, max, dialling, waiting, holders, failures, lastFailure } = state;
  const head = `Pool "${name}": no connection within ${formatMillis(waitedMillis)} (pool.acquireTimeoutMillis)`;
  const options = lastFailure ? { cause: lastFailure } : undefined;
  if (lastFailure && state.established === 0) {
    const text = `${head}, since none can be opened: ${failures} attempts in a row have failed. The last one: ${lastFailure.message}`;
    return new PgModuleError('PG_ACQUIRE_TIMEOUT', text, options);
  }
  const numbers = `${holders.length} of ${max} are lent, ${dialling} are being opened, ${waiting} more borrowers wait`;
  const refused = lastFailure
    ? ` The last ${failures} attempts to open another have failed, at last with: ${lastFailure.message}`
    : '';
  return new PgModuleError('PG_ACQUIRE_TIMEOUT', `${head}: ${numbers}. ${describeHolders(state)}${refused}`, options);
}

function describeHolders({ holders }: PoolState): string {
  const longest = holders
    .slice(0, 3)
    .map(({ heldMillis, callSite }) => `${formatMillis(heldMillis)} by ${callSite?.toString() ?? 'a pool.query()'}`);
  if (longest.length === 0) return 'Raise pool.max, or ask for less at once.';
  return `Held longest: ${longest.join('; ')}. Release sooner, or raise pool.max.`;
}
