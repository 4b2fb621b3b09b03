import type { Portal, PortalBatch } from '../client/portal.js';
import { untilReady } from '../client/until-ready.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import type { BorrowedConnection, ConnectionSource } from '../pool/connection-source.js';
import { cancelPolitely } from '../pool/recycle.js';
import { systemClock } from '../util/clock.js';
import type { RowStatement } from './row-statement.js';

/** For a batch that is under way to arrive when nobody wants it any more. Then the statement is cancelled. */
const PATIENCE_MILLIS = 100;
const NOTHING: PortalBatch = { rows: [], hasMore: false, error: undefined };

/**
 * The rows of one run of a statement, batch by batch, and its connection: taken with the first batch, given back when the
 * rows have come to their end, whatever end that is. One batch is fetched ahead, but not in a transaction, where the
 * connection belongs to others meanwhile.
 */
export class RowFeed {
  readonly #source: ConnectionSource;
  readonly #statement: RowStatement;
  readonly #aborted: () => void;
  #borrowed: BorrowedConnection | undefined;
  #portal: Portal | undefined;
  #ahead: Promise<PortalBatch> | undefined;
  /** What the portal was asked last. */
  #reading: Promise<PortalBatch> | undefined;
  #tell: ((batch: PortalBatch) => void) | undefined;
  #isBegun = false;
  /** What there is to tell after the end: the reason of an abort, once. */
  #last: PortalBatch | undefined;
  #ending: Promise<void> | undefined;

  /** `aborted` is called at once when the signal fires: rows that have not been handed out are not wanted any more. */
  constructor(source: ConnectionSource, statement: RowStatement, aborted: () => void) {
    this.#source = source;
    this.#statement = statement;
    this.#aborted = aborted;
  }

  /** Nothing more is read. */
  get isEnded(): boolean {
    return this.#last !== undefined;
  }

  /** The next rows. One call at a time; never rejects. */
  next(): Promise<PortalBatch> {
    if (!this.#isBegun) this.#begin();
    if (this.#last) {
      const last = this.#last;
      this.#last = NOTHING;
      return Promise.resolve(last);
    }
    const reading = this.#ahead ?? this.#read();
    this.#ahead = undefined;
    return new Promise((resolve) => {
      this.#tell = resolve;
      void reading.then((batch) => {
        if (this.#last) return;
        if (!batch.hasMore) this.#finish();
        else if (this.#borrowed) this.#ahead = this.#read();
        this.#told(batch);
      });
    });
  }

  /** Ends it from the consumer's side; resolves when the connection has been given back. Never rejects. */
  end(): Promise<void> {
    if (!this.#last) {
      this.#finish();
      this.#ending = this.#leave(false);
      this.#told(NOTHING);
    }
    return this.#ending ?? Promise.resolve();
  }

  #begin(): void {
    this.#isBegun = true;
    const { signal } = this.#statement;
    if (signal?.aborted) this.#abort();
    else signal?.addEventListener('abort', this.#abort, { once: true });
  }

  /** Nothing more comes. */
  #finish(): void {
    this.#last = NOTHING;
    this.#statement.signal?.removeEventListener('abort', this.#abort);
  }

  readonly #abort = (): void => {
    const { signal } = this.#statement;
    const error = new PgModuleError('PG_ABORTED', 'The stream was ended, since its signal fired.', {
      cause: signal?.reason,
    });
    const told = { ...NOTHING, error };
    this.#finish();
    if (this.#tell) this.#told(told);
    else this.#last = told;
    this.#aborted();
    this.#ending = this.#leave(true);
  };

  #told(batch: PortalBatch): void {
    const tell = this.#tell;
    this.#tell = undefined;
    tell?.(batch);
  }

  async #read(): Promise<PortalBatch> {
    try {
      this.#borrowed ??= await this.#source.borrow(this.#statement.signal);
    } catch (error) {
      return { ...NOTHING, error: error as Error };
    }
    if (this.isEnded) {
      this.#release(false);
      return NOTHING;
    }
    const { client, isInTransaction } = this.#borrowed;
    this.#portal ??= client.portal({ ...this.#statement.request, isShared: isInTransaction });
    if (!this.#portal) {
      this.#release(false);
      return { ...NOTHING, error: noPortal() };
    }
    this.#reading = this.#portal.read();
    const batch = await this.#reading;
    // Who ends it looks after the connection.
    if (this.#ending) return NOTHING;
    if (!batch.hasMore) await this.#leave(false);
    else if (isInTransaction) this.#release(false);
    return batch;
  }

  /** Brings the portal to its end and gives the connection back, if it is here. */
  async #leave(isUrgent: boolean): Promise<void> {
    const portal = this.#portal;
    const isAsked = portal?.isAsked === true;
    portal?.close();
    if (!this.#borrowed || !portal) return;
    const { client, isInTransaction } = this.#borrowed;
    let isConfirmed = true;
    if (!(isUrgent && isAsked)) {
      // To cancel is to fail a transaction.
      if (isInTransaction) await this.#reading;
      else if (!client.isReady) await untilReady(client, AbortSignal.timeout(PATIENCE_MILLIS));
    }
    if (!isInTransaction || (isUrgent && isAsked)) {
      // A transaction may have ended meanwhile, and its lease with it.
      isConfirmed = await cancelPolitely(client, systemClock).catch(() => false);
    }
    this.#release(!isConfirmed);
  }

  #release(retire: boolean): void {
    const borrowed = this.#borrowed;
    this.#borrowed = undefined;
    borrowed?.release(retire);
  }
}

function noPortal(): PgModuleError {
  return new PgModuleError(
    'PG_CONFIG_INVALID',
    'stream() reads rows with the decoder of nestjs-pg, which this connection goes without: leave client.binary false, and ' +
      'use a version of pg within the peer range of nestjs-pg.',
  );
}
