import type { Buffer } from 'node:buffer';
import { from } from 'pg-copy-streams';
import type { PgClient } from '../client/pg-client.js';
import { deferred } from '../util/deferred.js';

/** No message of the protocol is longer: the server reads each into memory as a whole. */
const MOST_BYTES = 1_048_576;
/** What the server says in its own log of an end from this side. */
const REASON = 'the source of the rows has ended it';

/** One COPY FROM STDIN on a connection, from the command to the server's verdict. */
export class CopyIn {
  readonly #stream: ReturnType<typeof from>;
  readonly #outcome = deferred<number>();
  #isEnding = false;
  #isOver = false;
  /** Whoever waits for a write. */
  #written: () => void = () => undefined;

  /** Sends the command. The connection must be free. */
  constructor(client: PgClient, text: string) {
    this.#stream = from(text);
    this.#stream.on('error', (error) => {
      this.#isOver = true;
      this.#outcome.reject(error);
      this.#written();
    });
    this.#stream.on('finish', () => {
      this.#isOver = true;
      this.#outcome.resolve(this.#stream.rowCount);
    });
    this.#outcome.promise.catch(() => undefined);
    client.query(this.#stream);
  }

  /** How many rows the server has stored; rejects with its error, or the end of the connection. */
  get outcome(): Promise<number> {
    return this.#outcome.promise;
  }

  /** All bytes have been sent, and the server may have stored them. */
  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** Resolves when the socket takes more. Never rejects: see {@link CopyIn.outcome}. One call at a time. */
  async write(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length && !this.#isOver; at += MOST_BYTES) {
      const piece = bytes.subarray(at, at + MOST_BYTES);
      await new Promise<void>((resolve) => {
        // Behind an error nobody calls back.
        this.#written = resolve;
        this.#stream.write(piece, () => resolve());
      });
    }
  }

  /** Nothing more comes. */
  end(): void {
    if (this.#isOver) return;
    this.#isEnding = true;
    this.#stream.end();
  }

  /** Has the server forget it, unless everything has been sent. */
  fail(): void {
    if (this.#isOver || this.#isEnding) return;
    this.#stream.destroy(new Error(REASON));
  }
}
