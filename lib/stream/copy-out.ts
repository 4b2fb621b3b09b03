import { Readable } from 'node:stream';
import { to } from 'pg-copy-streams';
import type { PgClient } from '../client/pg-client.js';
import { untilReady } from '../client/until-ready.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import type { BorrowedConnection } from '../pool/connection-source.js';
import { cancelPolitely } from '../pool/recycle.js';
import { systemClock } from '../util/clock.js';

const NEVER = new AbortController().signal;

/** One COPY TO STDOUT, and its connection: from the first read to the end, whatever end that is. */
export class CopyOut extends Readable {
  readonly #borrow: () => Promise<BorrowedConnection>;
  readonly #text: string;
  readonly #signal: AbortSignal | undefined;
  #borrowing: Promise<BorrowedConnection> | undefined;
  /** Of pg-copy-streams. It is never destroyed: it would leave the connection with what it has not read. */
  #rows: Readable | undefined;
  #isReleased = false;

  constructor(borrow: () => Promise<BorrowedConnection>, text: string, signal: AbortSignal | undefined) {
    super();
    this.#borrow = borrow;
    this.#text = text;
    this.#signal = signal;
    if (signal?.aborted) this.#abort();
    else signal?.addEventListener('abort', this.#abort, { once: true });
  }

  override _read(): void {
    if (this.#rows) this.#rows.resume();
    else if (!this.#borrowing) void this.#begin();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#signal?.removeEventListener('abort', this.#abort);
    void this.#leave().then(() => callback(error));
  }

  readonly #abort = (): void => {
    const cause: unknown = this.#signal?.reason;
    this.destroy(new PgModuleError('PG_ABORTED', 'copyTo() was ended, since its signal fired.', { cause }));
  };

  async #begin(): Promise<void> {
    try {
      this.#borrowing = this.#borrow();
      const borrowed = await this.#borrowing;
      if (this.destroyed) return;
      this.#copy(borrowed);
    } catch (error) {
      this.destroy(error as Error);
    }
  }

  #copy(borrowed: BorrowedConnection): void {
    const { client } = borrowed;
    const rows = to(this.#text);
    this.#rows = rows;
    rows.on('data', (chunk) => {
      if (!this.destroyed && !this.push(chunk)) rows.pause();
    });
    rows.on('error', (error) => this.destroy(error));
    // Its last bytes come before the server's last word.
    rows.on('end', () => void this.#finish(client));
    client.query(rows);
  }

  async #finish(client: PgClient): Promise<void> {
    if (!isDead(client) && !client.isReady) await untilReady(client, NEVER);
    if (this.destroyed) return;
    await this.#leave();
    this.push(null);
  }

  /** Has the server stop, if it has not, and gives the connection back. Never rejects. */
  async #leave(): Promise<void> {
    const borrowed = await this.#borrowing?.catch(() => undefined);
    if (!borrowed || this.#isReleased) return;
    this.#isReleased = true;
    // What comes on is read, and goes nowhere.
    this.#rows?.resume();
    const { client } = borrowed;
    // A transaction may have ended meanwhile, and its lease with it.
    const isConfirmed = isDead(client) || (await this.#stop(client).catch(() => false));
    borrowed.release(!isConfirmed);
  }

  async #stop(client: PgClient): Promise<boolean> {
    if (client.isSettling) await untilReady(client, AbortSignal.timeout(1_000));
    return cancelPolitely(client, systemClock);
  }
}

function isDead(client: PgClient): boolean {
  return (client as Partial<{ isReleased: boolean }>).isReleased === true;
}
