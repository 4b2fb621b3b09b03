import { PgModuleError } from '../errors/pg-module.error.js';
import type { PgLease } from '../pool/lease.js';
import { backoffMillis } from '../util/backoff.js';
import type { Clock } from '../util/clock.js';
import { within } from './ambient.js';
import { conduct } from './conduct.js';
import { opening } from './control.js';
import { aborted } from './transaction-errors.js';
import { TransactionHooks } from './transaction-hooks.js';
import { TransactionLimits } from './transaction-limits.js';
import { resolveTransactionOptions, type ResolvedRetry, type TransactionOptions } from './transaction-options.js';
import { TransactionSession, type SessionContext } from './transaction-session.js';
import { PgTransaction } from './transaction.js';

/** What transactions need of their pool. */
export interface TransactionPool extends SessionContext {
  /** Whose ambient transaction it is. */
  readonly pool: object;
  connect(signal: AbortSignal | undefined): Promise<PgLease>;
  /** Never throws. */
  warn(message: string): void;
}

/** The function of a transaction. Whatever it throws rolls everything back. */
export type TransactionWork<T> = (transaction: PgTransaction) => Promise<T> | T;

/** Serialization failure and deadlock: to do it again is what the server advises. */
const WORTH_ANOTHER_TRY: ReadonlySet<unknown> = new Set(['40001', '40P01']);
/** Ours, around the server's reason. */
const WRAPPERS: ReadonlySet<unknown> = new Set(['PG_TRANSACTION_ABORTED', 'PG_BATCH_FAILED']);

/** Runs `work` in a transaction of its own, again on a fresh one where that is worth it. */
export async function runTransaction<T>(
  pool: TransactionPool,
  work: TransactionWork<T>,
  options: TransactionOptions | undefined,
): Promise<T> {
  const resolved = resolveTransactionOptions(options);
  const limits = new TransactionLimits(pool.name, resolved, pool.clock);
  const { signal } = limits;
  try {
    return await retrying(resolved.retry, pool, signal, async (attempt) => {
      const client = await take(pool, signal);
      const begin = opening(resolved, pool.statements, client.parameter('server_version'));
      const session = new TransactionSession(pool, client, begin);
      const transaction = new PgTransaction({
        ...{ pool: pool.pool, context: pool, session, options: resolved, attempt, signal },
      });
      const { hooks } = transaction;
      let result: T;
      try {
        result = await conduct(transaction, () => within(pool.pool, transaction, () => work(transaction)), signal, {
          complete: async () => {
            try {
              if (session.hasTrouble && (await session.isFailed(signal))) throw aborted(pool.name, session.failure);
              await session.commit(signal);
            } finally {
              limits.clear();
            }
          },
          rollBack: () => session.rollBack(),
          over: () => session.release(),
        });
      } catch (error) {
        await runHooks(pool, hooks.rolledBack);
        throw error;
      }
      if (hooks.committed.length > 0) await runHooks(pool, hooks.committed);
      return result;
    });
  } finally {
    limits.clear();
  }
}

/** A connection; if the transaction's own limits end the waiting, that is what it ends with. */
export async function take(pool: TransactionPool, signal: AbortSignal | undefined): Promise<PgLease> {
  try {
    return await pool.connect(signal);
  } catch (error) {
    throw signal?.aborted ? (signal.reason as Error) : error;
  }
}

/** Runs what was asked to be run afterwards, in the context of the caller. */
function runHooks(pool: TransactionPool, hooks: readonly (() => unknown)[]): Promise<void> {
  return TransactionHooks.run(hooks, (error) =>
    pool.warn(`Pool "${pool.name}": a hook that runs after a transaction threw: ${String(error)}`),
  );
}

/** Tries again for as long, and as often, as `retry` says. */
export async function retrying<T>(
  retry: ResolvedRetry,
  { clock }: Pick<SessionContext, 'clock'>,
  signal: AbortSignal | undefined,
  run: (attempt: number) => Promise<T>,
): Promise<T> {
  const began = clock.now();
  for (let attempt = 1; ; attempt++) {
    try {
      return await run(attempt);
    } catch (error) {
      if (attempt >= retry.attempts || signal?.aborted || !isWorthAnotherTry(error, attempt, retry)) throw error;
      const pause = backoffMillis(attempt, retry, clock);
      if (clock.now() + pause - began > retry.timeoutMillis) throw error;
      await rest(pause, clock, signal);
      if (signal?.aborted) throw signal.reason as Error;
    }
  }
}

/** At most so long. */
function rest(millis: number, clock: Clock, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const over = (): void => {
      clock.clearTimeout(timer);
      signal?.removeEventListener('abort', over);
      resolve();
    };
    const timer = clock.setTimeout(over, millis);
    signal?.addEventListener('abort', over, { once: true });
  });
}

function isWorthAnotherTry(error: unknown, attempt: number, { when }: ResolvedRetry): boolean {
  if (error instanceof PgModuleError && error.code === 'PG_COMMIT_UNKNOWN') return false;
  if (when) return when(error, attempt);
  // Anything can be thrown.
  const { code, cause } = (error ?? {}) as { code?: unknown; cause?: { code?: unknown } };
  return WORTH_ANOTHER_TRY.has(WRAPPERS.has(code) ? cause?.code : code);
}
