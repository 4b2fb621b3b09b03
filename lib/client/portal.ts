import type { FieldDef } from 'pg';
import type { FastConnection } from './fast-query.js';
import { callBack, outOfOrder, ProtocolQuery, type QueryCallback } from './protocol-query.js';
import { ProtocolViolation } from './protocol-violation.js';
import { prepareValues, requests } from './request-writer.js';
import { RowDecoder, type TypeParsers } from './row-decoder.js';

/** A statement whose rows are asked for in batches. */
export interface PortalRequest {
  readonly text: string;
  readonly values: readonly unknown[] | undefined;
  readonly isArrayMode: boolean;
  /** In place of the connection's. */
  readonly types: TypeParsers | undefined;
  /** For the answer to each request, in milliseconds; `undefined` = the connection's. */
  readonly queryTimeoutMillis: number | undefined;
  /** The most rows of a batch. */
  readonly batchSize: number;
  /** A transaction is open, and between the batches the connection is free for other statements. */
  readonly isShared: boolean;
}

/** What a portal has answered. */
export interface PortalBatch {
  readonly rows: unknown[];
  /** There may be more rows, or an error: ask again. */
  readonly hasMore: boolean;
  /** What ended it behind these rows: the server's error, the end of the connection, what a parser threw. */
  readonly error: Error | undefined;
}

/** Who looks after a portal's turn and time. */
export interface PortalKeeper {
  /** For each answer; 0 = for ever. */
  readonly timeoutMillis: number;
  /** Puts it in pg's queue. */
  submit(portal: Portal): void;
  /** The time for an answer is over: ends the connection, and tells the portal. */
  giveUp(portal: Portal): void;
}

/** What a portal needs of its connection. */
export interface PortalConnection extends FastConnection {
  /** Past the queue of what is sent with the tick: a consumer may keep this one for itself for long. */
  sendNow(request: Buffer): void;
}

/** How far the answers have come: each message must follow from the one before. */
enum Step {
  New,
  Sent,
  Parsed,
  Bound,
  /** Its rows come. */
  Running,
  Suspended,
  Complete,
  Over,
}

const nobody = (): void => undefined;
let portals = 0;

/**
 * A statement that runs as far as its rows are asked for (protocol, "Extended Query"). Outside of a transaction it is the
 * connection's active query from its first batch to the Sync that ends it. In a transaction each batch is a query of its own,
 * and a name keeps the portal meanwhile.
 *
 * @see https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
 */
export class Portal extends ProtocolQuery {
  readonly text: string;
  /** The keeper's business, and not pg's. */
  readonly query_timeout = undefined;
  /** Of whoever instruments pg. */
  callback: QueryCallback = nobody;
  readonly #connection: PortalConnection;
  readonly #request: PortalRequest;
  readonly #keeper: PortalKeeper;
  readonly #name: string;
  #step = Step.New;
  #decoder: RowDecoder | undefined;
  #rows: unknown[] = [];
  #rowError: Error | undefined;
  /** What ended it while nobody waited for an answer. */
  #untold: Error | undefined;
  /** Who waits for an answer. */
  #tell: ((batch: PortalBatch) => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Nothing of it has left yet. */
  #isUnsent = true;
  /** The Sync has been sent behind which a ReadyForQuery comes. */
  #isSynced = false;
  #isClosed = false;

  constructor(connection: PortalConnection, request: PortalRequest, keeper: PortalKeeper) {
    super();
    this.#connection = connection;
    this.#request = request;
    this.#keeper = keeper;
    this.text = request.text;
    this.#name = request.isShared ? `nestjs_pg_rows_${++portals}` : '';
  }

  /** An answer is awaited. */
  get isAsked(): boolean {
    return this.#tell !== undefined;
  }

  /** Asks for the next rows. One at a time; never rejects. In a transaction the connection must be free. */
  read(): Promise<PortalBatch> {
    return new Promise((resolve) => {
      if (this.#step === Step.Over) {
        resolve({ rows: [], hasMore: false, error: this.#untold });
        this.#untold = undefined;
        return;
      }
      this.#tell = resolve;
      const { timeoutMillis } = this.#keeper;
      if (timeoutMillis > 0) this.#timer = setTimeout(() => this.#expire(), timeoutMillis);
      // Behind its end only the ReadyForQuery is to come.
      if (this.#isSynced) return;
      if (this.#isUnsent || this.#request.isShared) this.#keeper.submit(this);
      else {
        this.#step = Step.Running;
        this.#connection.sendNow(requests.begin().execute('', this.#request.batchSize).flush().end());
      }
    });
  }

  /** Has it end: the connection is ready soon, or in a transaction the portal goes with the next statement. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#isUnsent) return;
    if (this.#request.isShared) this.#connection.prepared.dropPortal(this.#name);
    else this.#sync();
  }

  submit(): Error | null {
    const { text, values, batchSize, isShared } = this.#request;
    const name = this.#name;
    const { prepared } = this.#connection;
    let request: Buffer;
    try {
      const parameters = this.#isUnsent ? prepareValues(values ?? []) : [];
      const writer = requests.begin();
      prepared.writeCloses(writer);
      if (this.#isUnsent) writer.parse('', text).bind('', parameters, name).describePortal(name);
      writer.execute(name, batchSize);
      request = (isShared ? writer.sync() : writer.flush()).end();
    } catch (error) {
      return error instanceof Error ? error : new Error(`A parameter could not be converted: ${String(error)}`);
    }
    this.#step = this.#isUnsent ? Step.Sent : Step.Running;
    this.#isUnsent = false;
    this.#connection.sendNow(request);
    return null;
  }

  onParsed(): void {
    this.#follow(Step.Sent, Step.Parsed, 'ParseComplete');
  }

  onBound(): void {
    this.#follow(Step.Parsed, Step.Bound, 'BindComplete');
  }

  onNoData(): void {
    this.#follow(Step.Bound, Step.Running, 'NoData');
  }

  onDescription(): boolean {
    this.#follow(Step.Bound, Step.Running, 'RowDescription');
    return false;
  }

  handleRowDescription({ fields }: { fields: FieldDef[] }): void {
    this.#decoder = new RowDecoder(fields, this.#request.types ?? this.#connection.types);
  }

  onRow(bytes: Buffer, start: number, end: number): void {
    if (!this.#decoder || this.#step !== Step.Running) throw outOfOrder('DataRow');
    if (this.#rowError || this.#isClosed) return;
    try {
      this.#rows.push(this.#decoder.decode(bytes, start, end, this.#request.isArrayMode));
    } catch (error) {
      if (error instanceof ProtocolViolation) throw error;
      this.#rowError = error as Error;
    }
  }

  override onSuspended(): void {
    this.#follow(Step.Running, Step.Suspended, 'PortalSuspended');
    if (!this.#request.isShared) this.#answer(true);
  }

  onComplete(): void {
    this.#follow(Step.Running, Step.Complete, 'CommandComplete');
    this.#ends();
  }

  override onEmpty(): void {
    this.#follow(Step.Running, Step.Complete, 'EmptyQueryResponse');
    this.#ends();
  }

  /** The last rows are there. What the Sync brings, which may be an error of the commit, is another answer. */
  #ends(): void {
    if (this.#request.isShared) return;
    this.#sync();
    this.#answer(true);
  }

  onReady(): void {
    const isDue = this.#step === Step.Complete || this.#step === Step.Suspended;
    if (!isDue || !(this.#isSynced || this.#request.isShared)) throw outOfOrder('ReadyForQuery');
  }

  handleReadyForQuery(): void {
    const hasMore = this.#request.isShared && this.#step === Step.Suspended;
    if (!hasMore) this.#step = Step.Over;
    if (this.#request.isShared && this.#step === Step.Over) this.close();
    this.#answer(hasMore);
    this.#callBack(null);
  }

  handleError(error: Error): void {
    // The server passes over everything up to the Sync.
    if (!this.#request.isShared && !this.#isUnsent) this.#sync();
    this.#step = Step.Over;
    this.#isClosed = true;
    if (!this.isAsked) this.#untold = error;
    this.#answer(false, error);
    this.#callBack(error);
  }

  #follow(before: Step, next: Step, message: string): void {
    if (this.#step !== before) throw outOfOrder(message);
    this.#step = next;
  }

  #sync(): void {
    if (this.#isSynced) return;
    this.#isSynced = true;
    this.#connection.sendNow(requests.begin().sync().end());
  }

  #answer(hasMore: boolean, failure?: Error): void {
    clearTimeout(this.#timer);
    const tell = this.#tell;
    const rows = this.#rows;
    const error = this.#rowError ?? failure;
    this.#tell = undefined;
    this.#rows = [];
    tell?.({ rows, hasMore: hasMore && !error, error });
  }

  #callBack(error: Error | null): void {
    const { callback } = this;
    this.callback = nobody;
    callBack(() => callback(error));
  }

  /** What has arrived while the application kept the event loop to itself is read first. */
  #expire(): void {
    const asked = this.#tell;
    setImmediate(() => {
      if (asked && this.#tell === asked) this.#keeper.giveUp(this);
    });
  }
}
