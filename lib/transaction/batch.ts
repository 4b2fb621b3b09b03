import type { QueryConfig, QueryResult, QueryResultRow } from 'pg';
import { configError } from '../config/config-error.js';
import { kindOf } from '../config/unknown-option.js';
import { plainQuery, type PlainQuery } from '../client/plain-query.js';
import { prepareValues } from '../client/request-writer.js';
import { COMMIT, opening, transactionControl } from './control.js';
import { retrying, take, type TransactionPool } from './run-transaction.js';
import { commitUnknown, PgBatchError, shortened } from './transaction-errors.js';
import { TransactionLimits } from './transaction-limits.js';
import { resolveTransactionOptions, type TransactionOptions } from './transaction-options.js';
import { isVerdict, TransactionSession, type SessionOutcome } from './transaction-session.js';
import type { PgTransaction } from './transaction.js';

/** A text, or a config of pg's with `text`, `values` and `rowMode`. */
export type BatchStatement = string | QueryConfig<unknown[]>;
export type BatchResults = QueryResult<QueryResultRow>[];

/** All of them in one flight, as one transaction. */
export async function runBatch(
  pool: TransactionPool,
  statements: readonly BatchStatement[],
  options: TransactionOptions | undefined,
): Promise<BatchResults> {
  const resolved = resolveTransactionOptions(options);
  const plains = plainStatements(pool, statements);
  if (plains.length === 0) return [];
  const limits = new TransactionLimits(pool.name, resolved, pool.clock);
  const { signal } = limits;
  try {
    return await retrying(resolved.retry, pool, signal, async () => {
      const client = await take(pool, signal);
      const begin = opening(resolved, pool.statements, client.parameter('server_version'));
      const session = new TransactionSession(pool, client, begin);
      const stop = (): void => void session.stop();
      signal?.addEventListener('abort', stop, { once: true });
      try {
        const [error, outcome] = await flown(session, [...plains, COMMIT]);
        if (!error) return outcome.results.slice(0, -1) as BatchResults;
        // The rows of a result could not be read, and everything has been done.
        if (outcome.results.length > plains.length && !outcome.isLost) throw error;
        if (signal?.aborted && isVerdict(error)) throw signal.reason as Error;
        const isCommitSent = outcome.isTogether ? outcome.isSent : outcome.failedAt === plains.length;
        if (isCommitSent && (await isUnknown(session, error, outcome, plains.length))) {
          throw commitUnknown(pool.name, signal?.aborted ? signal.reason : error);
        }
        throw outcome.isLost ? error : failureOf(pool.name, plains, error, outcome.failedAt);
      } finally {
        signal?.removeEventListener('abort', stop);
        await session.rollBack();
        session.release();
      }
    });
  } finally {
    limits.clear();
  }
}

/** The same inside of a transaction that is open: all or nothing by a savepoint. */
export function runInnerBatch(
  pool: TransactionPool,
  outer: Pick<PgTransaction, 'transaction'>,
  statements: readonly BatchStatement[],
  options: TransactionOptions | undefined,
): Promise<BatchResults> {
  let plains: PlainQuery[];
  try {
    plains = plainStatements(pool, statements);
  } catch (error) {
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- an error of ours
    return Promise.reject(error);
  }
  if (plains.length === 0) return Promise.resolve([]);
  return outer.transaction(async (inner) => {
    let results: readonly unknown[] = [];
    let failure: Error | undefined;
    await inner.fly(plains, (error, outcome) => {
      if (error) failure = outcome.isLost ? error : failureOf(pool.name, plains, error, outcome.failedAt);
      ({ results } = outcome);
    });
    if (failure) throw failure;
    return results as BatchResults;
  }, options);
}

/** Nobody has said what became of the COMMIT. */
async function isUnknown(
  session: TransactionSession,
  error: Error,
  { isLost, failedAt }: SessionOutcome,
  commit: number,
): Promise<boolean> {
  return isLost || (failedAt === commit && !isVerdict(error) && !(await session.survives()));
}

function flown(session: TransactionSession, plains: readonly PlainQuery[]): Promise<[Error | null, SessionOutcome]> {
  return new Promise((resolve) => session.fly(plains, (error, outcome) => resolve([error, outcome])));
}

/** Says which statement failed, and leaves alone what is about the transaction as a whole. */
function failureOf(pool: string, plains: readonly PlainQuery[], error: Error, failedAt: number): Error {
  const failed = plains[failedAt];
  if (!failed) return error;
  return new PgBatchError(pool, failedAt, plains.length, failed.statement.text, error);
}

/**
 * Checked, and with their values as they are sent.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID`; PgBatchError around what a value's conversion throws
 */
function plainStatements(
  { name, statements: catalog }: TransactionPool,
  statements: readonly BatchStatement[],
): PlainQuery[] {
  if (!Array.isArray(statements)) {
    throw configError(`pool.batch() takes an array of statements; it was given ${kindOf(statements)}.`);
  }
  return statements.map((statement: unknown, index) => {
    const plain = plainQuery(catalog, statement, undefined, true);
    const place = `statement ${index + 1} of ${statements.length}`;
    if (!plain) {
      throw configError(
        `${place} cannot be part of a batch: it takes a text with one statement that is not COPY, or { text, values, rowMode }.`,
      );
    }
    const { text } = plain.statement;
    const word = transactionControl(text);
    if (word !== undefined) {
      throw configError(`${place}, ${shortened(text)}, would end the batch's own transaction: leave ${word} out.`);
    }
    try {
      return { ...plain, values: plain.values && prepareValues(plain.values) };
    } catch (error) {
      throw new PgBatchError(name, index, statements.length, text, error);
    }
  });
}
