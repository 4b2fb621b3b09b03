import { PgModuleError } from '../errors/pg-module.error.js';
import { formatMillis } from '../util/duration.js';

/** Names a statement without its parameters. */
export function shortened(text: string | undefined): string {
  const line = (text ?? 'a stream').trim().replace(/\s+/g, ' ');
  return line.length > 60 ? `"${line.slice(0, 57)}..."` : `"${line}"`;
}

export function ended(pool: string, how: string, cause?: unknown): PgModuleError {
  return new PgModuleError(
    'PG_TRANSACTION_ENDED',
    `Pool "${pool}": this transaction is over (${how}), and what still runs in its context gets no other connection. ` +
      'Await everything inside of the transaction, or start what is to outlive it in pool.outside().',
    { cause },
  );
}

export function busy(pool: string, what: string): PgModuleError {
  return new PgModuleError(
    'PG_TRANSACTION_BUSY',
    `Pool "${pool}": ${what} beside an inner transaction that is open on the same connection would become part of it. ` +
      'Await the inner transaction first, or use the one that its function is given.',
  );
}

export function endsItself(pool: string, word: string): PgModuleError {
  return new PgModuleError(
    'PG_TRANSACTION_BUSY',
    `Pool "${pool}": ${word} is not for a statement inside of a transaction: return from its function to commit, throw ` +
      'to roll back. For a transaction of your own use pool.connect().',
  );
}

export function unawaited(pool: string, texts: readonly string[]): PgModuleError {
  return new PgModuleError(
    'PG_TRANSACTION_UNAWAITED',
    `Pool "${pool}": the transaction's function returned while ${texts.length} of its statements had not ended: ` +
      `${texts.slice(0, 3).join(', ')}${texts.length > 3 ? ', ...' : ''}. Rolled back; await every statement.`,
  );
}

export function aborted(pool: string, cause: unknown): PgModuleError {
  const why = cause instanceof Error ? `: ${cause.message}` : '';
  return new PgModuleError(
    'PG_TRANSACTION_ABORTED',
    `Pool "${pool}": the transaction's function returned although a statement had failed${why}. The server can only ` +
      'roll back then. Let the error pass, or catch it around an inner transaction().',
    { cause },
  );
}

export function timedOut(pool: string, millis: number): PgModuleError {
  return new PgModuleError(
    'PG_TRANSACTION_TIMEOUT',
    `Pool "${pool}": the transaction was not over within ${formatMillis(millis)} (timeoutMillis), so it was rolled back.`,
  );
}

export function signalled(pool: string, reason: unknown): PgModuleError {
  return new PgModuleError('PG_ABORTED', `Pool "${pool}": the transaction was rolled back, since its signal fired.`, {
    cause: reason,
  });
}

export function lost(pool: string): PgModuleError {
  return new PgModuleError(
    'PG_CONNECTION_LOST',
    `Pool "${pool}": the connection of the transaction was lost before its COMMIT, so nothing was committed.`,
  );
}

export function commitUnknown(pool: string, cause: unknown): PgModuleError {
  const why = cause instanceof Error ? ` (${cause.message})` : '';
  return new PgModuleError(
    'PG_COMMIT_UNKNOWN',
    `Pool "${pool}": the connection was lost while COMMIT was under way${why}: the transaction has been committed, or ` +
      'rolled back. Look for its effects before you do it again.',
    { cause },
  );
}

/** A statement of a batch failed, and with it all of them. */
export class PgBatchError extends PgModuleError {
  override readonly name = 'PgBatchError';
  /** Which one, counted from 0. */
  readonly index: number;

  constructor(pool: string, index: number, count: number, text: string, cause: unknown) {
    const why = cause instanceof Error ? cause.message : String(cause);
    super(
      'PG_BATCH_FAILED',
      `Pool "${pool}": statement ${index + 1} of ${count} failed, ${shortened(text)}: ${why}. None has had an effect.`,
      { cause },
    );
    this.index = index;
  }
}
