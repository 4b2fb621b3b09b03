import type { FieldDef } from 'pg';
import { FastQuery, type FastConnection } from './fast-query.js';
import type { PlainQuery } from './plain-query.js';
import { callBack, outOfOrder, ProtocolQuery, type QueryCallback } from './protocol-query.js';
import { requests } from './request-writer.js';

/** How far the statements of a flight have come. */
export interface FlightOutcome {
  /** Of those that were done. */
  readonly results: readonly unknown[];
  /** The first that was not, or whose rows could not be read. */
  readonly failedAt: number;
  /** The server may have seen them. */
  readonly isSent: boolean;
  /** They were sent in one request. Otherwise each was sent after the answer to the one before it. */
  readonly isTogether?: boolean;
}

export type FlightCallback = (error: Error | null, outcome: FlightOutcome) => void;

const nobody = (): void => undefined;

/**
 * Statements that are sent in one request with one Sync at its end: they take one round trip, and the server passes over
 * all that follow one that fails (protocol, "Pipelining"). So what follows a BEGIN that failed never runs outside of the
 * transaction.
 *
 * @see https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-PIPELINING
 */
export class Flight extends ProtocolQuery {
  readonly text: string;
  readonly query_timeout: number | undefined;
  callback: QueryCallback;
  readonly #connection: FastConnection;
  readonly #parts: readonly FastQuery[];
  /** Which of them is being answered, or prepared. */
  #turn = 0;
  #isSent = false;

  /** The last statement is the one that instrumentation is shown. */
  constructor(connection: FastConnection, plains: readonly PlainQuery[], callback: FlightCallback) {
    super();
    this.#connection = connection;
    this.#parts = plains.map((plain) => new FastQuery(connection, plain, nobody));
    const last = plains.at(-1);
    this.text = last?.statement.text ?? '';
    this.query_timeout = last?.queryTimeoutMillis;
    this.callback = (error) =>
      callback(error, { results: this.#results(), failedAt: this.#turn, isSent: this.#isSent, isTogether: true });
  }

  submit(): Error | null {
    try {
      for (const [index, part] of this.#parts.entries()) {
        this.#turn = index;
        part.prepare();
      }
    } catch (error) {
      return error instanceof Error ? error : new Error(`A parameter could not be converted: ${String(error)}`);
    }
    this.#turn = 0;
    this.#isSent = true;
    const writer = requests.begin();
    for (const part of this.#parts) part.write(writer);
    this.#connection.send(writer.sync().end());
    return null;
  }

  onParsed(): void {
    this.#part('ParseComplete').onParsed();
  }

  onBound(): void {
    this.#part('BindComplete').onBound();
  }

  onNoData(): void {
    this.#part('NoData').onNoData();
  }

  onDescription(bytes: Buffer, start: number, end: number): boolean {
    return this.#part('RowDescription').onDescription(bytes, start, end);
  }

  handleRowDescription(message: { fields: FieldDef[] }): void {
    this.#part('RowDescription').handleRowDescription(message);
  }

  onRow(bytes: Buffer, start: number, end: number): void {
    this.#part('DataRow').onRow(bytes, start, end);
  }

  onComplete(tag: string): void {
    this.#part('CommandComplete').onComplete(tag);
    this.#turn++;
  }

  onReady(): void {
    if (this.#turn < this.#parts.length) throw outOfOrder('ReadyForQuery');
  }

  handleReadyForQuery(): void {
    const unread = this.#parts.findIndex(({ rowError }) => rowError !== undefined);
    if (unread !== -1) this.#turn = unread;
    callBack(() => this.callback(this.#parts[unread]?.rowError ?? null));
  }

  handleError(error: Error): void {
    for (const [index, part] of this.#parts.entries()) {
      if (index >= this.#turn) part.giveUp(index === this.#turn ? error : undefined);
    }
    this.callback(error);
  }

  #part(message: string): FastQuery {
    const part = this.#parts[this.#turn];
    if (!part) throw outOfOrder(message);
    return part;
  }

  #results(): unknown[] {
    return this.#parts.filter(({ isComplete }) => isComplete).map(({ result }) => result);
  }
}
