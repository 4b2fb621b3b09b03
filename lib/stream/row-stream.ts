import type { PortalBatch } from '../client/portal.js';
import type { ConnectionSource } from '../pool/connection-source.js';
import { deferred, type Deferred } from '../util/deferred.js';
import { RowFeed } from './row-feed.js';
import type { RowStatement } from './row-statement.js';

type Result<T> = IteratorResult<T, undefined>;

const DONE: Result<never> = { done: true, value: undefined };

/**
 * The rows of a statement, one after the other: for `for await`. The statement runs, and takes a connection, when the first
 * row is asked for, and once. The connection goes back when the rows are at their end, and when the loop is left.
 */
export class PgRowStream<Row> implements AsyncIterableIterator<Row, undefined>, AsyncDisposable {
  readonly #feed: RowFeed;
  #rows: unknown[] = [];
  #at = 0;
  #failure: Error | undefined;
  #hasMore = true;
  #isReading = false;
  /** Calls of next() that are ahead of the rows. */
  readonly #waiting: Deferred<Result<Row>>[] = [];

  /** @internal Use `pool.stream()`. */
  constructor(source: ConnectionSource, statement: RowStatement) {
    this.#feed = new RowFeed(source, statement, () => this.#drop());
  }

  /** @throws pg.DatabaseError; what a type parser throws; PgModuleError `PG_ABORTED`, and those of `pool.connect()` */
  next(): Promise<Result<Row>> {
    if (this.#at < this.#rows.length) {
      return Promise.resolve({ done: false, value: this.#rows[this.#at++] as Row });
    }
    const waiting = deferred<Result<Row>>();
    this.#waiting.push(waiting);
    this.#serve();
    return waiting.promise.catch(fromHere);
  }

  /** Ends it early: the statement ends, and the connection goes back. */
  async return(): Promise<Result<never>> {
    this.#drop();
    this.#failure = undefined;
    this.#hasMore = false;
    await this.#feed.end();
    return DONE;
  }

  async throw(error: unknown): Promise<Result<Row>> {
    await this.return();
    throw error;
  }

  /** Up to `count` rows, fewer only at the end or before an error: for consumers that ask for them. */
  async read(count: number): Promise<Row[]> {
    const rows: Row[] = [];
    while (rows.length < count) {
      const next = await this.next().catch((error: unknown) => {
        if (rows.length === 0) throw error;
        this.#failure = error as Error;
        return DONE;
      });
      if (next.done) break;
      rows.push(next.value);
    }
    return rows;
  }

  /** {@link PgRowStream.return}, as cursors call it. */
  async close(): Promise<void> {
    await this.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** The same rows in arrays as they arrive, none of them empty: for consumers that work on many rows at a time. */
  async *batches(): AsyncGenerator<Row[], undefined, undefined> {
    try {
      for (;;) {
        const { rows, hasMore, error } = await this.#feed.next();
        if (rows.length > 0) yield rows as Row[];
        if (error) return await Promise.reject(error).catch(fromHere);
        if (!hasMore) return undefined;
      }
    } finally {
      await this.#feed.end();
    }
  }

  #drop(): void {
    this.#rows = [];
    this.#at = 0;
  }

  /** Gives those who wait what there is, and fetches more if that is not enough. */
  #serve(): void {
    while (this.#waiting.length > 0) {
      if (this.#at < this.#rows.length) {
        this.#waiting.shift()?.resolve({ done: false, value: this.#rows[this.#at++] as Row });
      } else if (this.#failure) {
        const failure = this.#failure;
        this.#failure = undefined;
        this.#waiting.shift()?.reject(failure);
      } else if (this.#hasMore) {
        if (!this.#isReading) this.#read();
        return;
      } else this.#waiting.shift()?.resolve(DONE);
    }
  }

  #read(): void {
    this.#isReading = true;
    void this.#feed.next().then(({ rows, hasMore, error }: PortalBatch) => {
      this.#isReading = false;
      this.#rows = rows;
      this.#at = 0;
      this.#hasMore = hasMore;
      this.#failure = error;
      this.#serve();
    });
  }
}

/** The stack leads to where the application asked, instead of where the socket was read; as pool.query() does it. */
function fromHere(error: unknown): never {
  if (error instanceof Error) Error.captureStackTrace(error);
  throw error;
}
