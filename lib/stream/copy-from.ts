import { setImmediate } from 'node:timers/promises';
import type { PgClient } from '../client/pg-client.js';
import { untilReady } from '../client/until-ready.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import type { BorrowedConnection, ConnectionSource } from '../pool/connection-source.js';
import { cancelPolitely } from '../pool/recycle.js';
import { systemClock } from '../util/clock.js';
import { deferred } from '../util/deferred.js';
import { ByteJoiner, type CopyBytes } from './copy-bytes.js';
import { copyColumns, type CopyColumn } from './copy-columns.js';
import { copyOptionError, copyRowError } from './copy-error.js';
import { openFeed, type CopyFeed, type CopySource } from './copy-feed.js';
import {
  copyFromPlan,
  type CopyBytesFromOptions,
  type CopyFromPlan,
  type CopyRowsFromOptions,
} from './copy-from-options.js';
import { CopyIn } from './copy-in.js';
import { BinaryRows, TextRows, type CopyRow, type CopyRowWriter } from './copy-rows.js';

export interface CopyResult {
  /** How many rows the server has stored. */
  readonly rows: number;
}

/** So many bytes are sent at a time. */
const CHUNK_BYTES = 65_536;
/** For the server's answer to the end of a COPY. Then it is cancelled: it waits for a lock. */
const PATIENCE_MILLIS = 100;

/**
 * Stores rows by COPY, all or none of them: the fastest way into a table. Each value means what it means as a parameter of
 * `pool.query()`; `undefined` is NULL. Inside of a transaction it runs there, and outside it is one of its own.
 *
 * The source is asked for more when the server takes more, and is ended (`return()`, `destroy()`, `unsubscribe()`) when the COPY
 * ends before it.
 *
 * @throws pg.DatabaseError, whose `where` names line and column; what the source throws; PgModuleError `PG_COPY_INVALID` for a
 *   row that cannot be sent, `PG_ABORTED`, `PG_COMMIT_UNKNOWN`, `PG_CONFIG_INVALID`, and those of `pool.connect()`
 */
export function copyFrom(
  pool: ConnectionSource,
  options: CopyRowsFromOptions,
  rows: CopySource<CopyRow>,
): Promise<CopyResult>;
/** Stores rows that are written as bytes already: as csv, or in one of PostgreSQL's own formats. */
export function copyFrom(
  pool: ConnectionSource,
  options: CopyBytesFromOptions,
  bytes: CopySource<CopyBytes> | CopyBytes,
): Promise<CopyResult>;
export async function copyFrom(
  pool: ConnectionSource,
  options: CopyRowsFromOptions | CopyBytesFromOptions,
  source: unknown,
): Promise<CopyResult> {
  const plan = copyFromPlan(options);
  const isWhole = typeof source === 'string' || source instanceof Uint8Array;
  if (isWhole && plan.clause === undefined) throw copyOptionError('for bytes, give a format');
  const feed = openFeed(isWhole ? [source] : source, plan.maxBuffered);
  try {
    const borrowed = await pool.borrow(plan.signal);
    return await new CopyFromRun(plan, feed, borrowed).run();
  } finally {
    feed.end();
  }
}

/** One call of copyFrom(), from its connection's arrival to its return. */
class CopyFromRun {
  readonly #plan: CopyFromPlan;
  readonly #feed: CopyFeed;
  readonly #borrowed: BorrowedConnection;
  /** What ends it from outside: the signal, the server, the end of the connection. */
  readonly #broken = deferred<never>();
  #copy: CopyIn | undefined;
  #isOver = false;
  #rows = 0;
  #bytes = 0;

  constructor(plan: CopyFromPlan, feed: CopyFeed, borrowed: BorrowedConnection) {
    this.#plan = plan;
    this.#feed = feed;
    this.#borrowed = borrowed;
  }

  async run(): Promise<CopyResult> {
    const { signal } = this.#plan;
    const { client } = this.#borrowed;
    const abort = (): void => this.#broken.reject(aborted(signal));
    const lost = (): void => this.#broken.reject(connectionLost());
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort, { once: true });
    client.once('end', lost);
    try {
      const work =
        this.#plan.clause === undefined ? this.#copyRows(client) : this.#copyBytes(client, this.#plan.clause);
      const rows = await Promise.race([this.#broken.promise, work]);
      this.#borrowed.release();
      return { rows };
    } catch (error) {
      this.#isOver = true;
      this.#feed.end();
      return await this.#giveUp(error);
    } finally {
      signal?.removeEventListener('abort', abort);
      // Of a transaction whose lease may be over.
      if (!isDead(client)) client.off('end', lost);
    }
  }

  /** A method, for it may have become true with every `await`. */
  #hasEnded(): boolean {
    return this.#isOver;
  }

  async #copyBytes(client: PgClient, clause: string): Promise<number> {
    const joiner = new ByteJoiner(this.#plan.takesTexts);
    this.#begin(client, clause);
    for (;;) {
      const pending = this.#feed.next();
      const { done, value } = 'then' in pending ? await pending : pending;
      if (this.#hasEnded() || done) break;
      joiner.add(value);
      if (joiner.size >= CHUNK_BYTES) await this.#send(joiner.take(false), undefined);
      if (this.#hasEnded()) break;
    }
    return this.#end(joiner.take(true), undefined);
  }

  async #copyRows(client: PgClient): Promise<number> {
    const columns = await copyColumns(client, this.#plan.table, this.#plan.columns ?? []);
    let writer = this.#firstWriter(columns);
    // The same as text, until the command is sent: it may have to be that.
    let text = writer instanceof BinaryRows && !this.#plan.rowFormat ? new TextRows(columns) : undefined;
    let isSent = false;
    for (;;) {
      const pending = this.#feed.next();
      const { done, value } = 'then' in pending ? await pending : pending;
      if (this.#hasEnded() || done) break;
      const number = ++this.#rows;
      const misfit = writer.write(value as CopyRow, number);
      if (text && !writtenTo(text, value as CopyRow, number)) text = undefined;
      if (misfit !== undefined) {
        if (!text) throw noBinaryForm(number, columns[misfit]?.name, isSent);
        writer = text;
        text = undefined;
      }
      if (writer.size < CHUNK_BYTES) continue;
      if (!isSent) this.#begin(client, clauseFor(writer));
      isSent = true;
      text = undefined;
      await this.#send(writer.take(), number);
      if (this.#hasEnded()) break;
    }
    if (!isSent && !this.#isOver) this.#begin(client, clauseFor(writer));
    return this.#end(Buffer.concat([writer.take(), writer.trailer]), this.#rows);
  }

  #firstWriter(columns: readonly CopyColumn[]): CopyRowWriter {
    const { rowFormat } = this.#plan;
    if (rowFormat === 'text') return new TextRows(columns);
    const binary = BinaryRows.of(columns);
    if (binary instanceof BinaryRows) return binary;
    if (rowFormat !== 'binary') return new TextRows(columns);
    throw copyOptionError(`rowFormat cannot be binary: it is not known for the type of the column "${binary.name}"`);
  }

  #begin(client: PgClient, clause: string): void {
    this.#copy = new CopyIn(client, `${this.#plan.command} ${clause}`);
    this.#copy.outcome.catch((error: unknown) => this.#broken.reject(error));
  }

  async #send(chunk: Buffer, rows: number | undefined): Promise<void> {
    if (chunk.length === 0) return;
    await this.#copy?.write(chunk);
    this.#bytes += chunk.length;
    // A source that never waits leaves the server's answer, and everybody else, no turn.
    await setImmediate();
    if (!this.#isOver) this.#plan.onProgress?.({ rows, bytes: this.#bytes });
  }

  async #end(rest: Buffer, rows: number | undefined): Promise<number> {
    if (!this.#isOver) await this.#send(rest, rows);
    if (!this.#isOver) this.#copy?.end();
    return this.#copy?.outcome ?? this.#broken.promise;
  }

  /** Has the server forget it and gives the connection back; says what has become of it. */
  async #giveUp(error: unknown): Promise<CopyResult> {
    const { client, isInTransaction } = this.#borrowed;
    const copy = this.#copy;
    copy?.fail();
    let isConfirmed = true;
    if (!isDead(client)) {
      if (!client.isReady) await untilReady(client, AbortSignal.timeout(PATIENCE_MILLIS));
      // A transaction may have ended meanwhile, and its lease with it.
      isConfirmed = await cancelPolitely(client, systemClock).catch(() => false);
    }
    this.#borrowed.release(!isConfirmed);
    if (!copy?.isEnding) throw error;
    // The server had everything: it has the last word, if it has been heard.
    const verdict = await Promise.race([
      copy.outcome.then(
        (rows) => ({ rows }),
        (reason: unknown) => reason,
      ),
      setImmediate(undefined),
    ]);
    if (isStored(verdict)) return verdict;
    if (isInTransaction || isRefusal(verdict)) throw error;
    throw commitUnknown(error);
  }
}

function clauseFor(writer: CopyRowWriter): string {
  return writer instanceof BinaryRows ? '(FORMAT binary)' : '(FORMAT text)';
}

/** False for a row that can be sent in binary only. */
function writtenTo(text: TextRows, row: CopyRow, number: number): boolean {
  try {
    text.write(row, number);
    return true;
  } catch {
    return false;
  }
}

function noBinaryForm(row: number, column: string | undefined, isLate: boolean): PgModuleError {
  const reason = isLate
    ? 'its value is in a form that only the server can read, and the rows before it have been sent in binary'
    : 'its value has no exact form in binary';
  return copyRowError(row, column, `${reason}. Pass rowFormat: 'text'`);
}

function isDead(client: PgClient): boolean {
  return (client as Partial<{ isReleased: boolean }>).isReleased === true;
}

function isStored(verdict: unknown): verdict is CopyResult {
  return typeof verdict === 'object' && verdict !== null && 'rows' in verdict;
}

/** An error that leaves the session alive: nothing was stored. */
function isRefusal(verdict: unknown): boolean {
  return (verdict as { severity?: string } | undefined)?.severity === 'ERROR';
}

function aborted(signal: AbortSignal | undefined): PgModuleError {
  return new PgModuleError('PG_ABORTED', 'copyFrom() was ended, since its signal fired. Nothing has been stored.', {
    cause: signal?.reason,
  });
}

function connectionLost(): PgModuleError {
  return new PgModuleError('PG_CONNECTION_LOST', 'copyFrom(): the connection was lost. Nothing has been stored.');
}

function commitUnknown(cause: unknown): PgModuleError {
  return new PgModuleError(
    'PG_COMMIT_UNKNOWN',
    'copyFrom(): all rows had been sent when the connection was lost, before the server said that it had stored them. Look ' +
      'whether they are there.',
    { cause },
  );
}
