import type { FieldDef } from 'pg';
import pg from 'pg';
import { ProtocolViolation } from './protocol-violation.js';

/** What a statement calls when it is done. pg itself passes `null` where there is no error. */
export type QueryCallback = (error: Error | null, result?: unknown) => void;

/** A query has no portal that pg would have to look after, so it may be pipelined: pg asks by instanceof. */
function Inert(): void {
  return undefined;
}
Inert.prototype = pg.Query.prototype;
const QueryBase = Inert as unknown as new () => object;

/**
 * What stands in the queue of pg's client and is told of the messages that answer it one by one, past pg's parser and
 * events. Each message must follow from the one before.
 */
export abstract class ProtocolQuery extends QueryBase {
  abstract readonly text: string;
  /** pg's name for it, in milliseconds. */
  abstract readonly query_timeout: number | undefined;
  abstract callback: QueryCallback;

  /** pg calls this when it is the query's turn; an error is one of the application's values. */
  abstract submit(): Error | null;
  abstract onParsed(): void;
  abstract onBound(): void;
  /** There are no rows. */
  abstract onNoData(): void;
  /** @returns whether the RowDescription is known; if not, pg reads it and calls `handleRowDescription` */
  abstract onDescription(bytes: Buffer, start: number, end: number): boolean;
  abstract handleRowDescription(message: { fields: FieldDef[] }): void;
  abstract onRow(bytes: Buffer, start: number, end: number): void;
  abstract onComplete(tag: string): void;
  /** ReadyForQuery, before pg hears of it. */
  abstract onReady(): void;
  abstract handleReadyForQuery(): void;
  /** The server's error, or the end of the connection. */
  abstract handleError(error: Error): void;

  /** The portal has more rows than were asked for. */
  onSuspended(): void {
    throw outOfOrder('PortalSuspended');
  }

  /** There is no statement in the text. */
  onEmpty(): void {
    throw outOfOrder('EmptyQueryResponse');
  }
}

export function outOfOrder(message: string): ProtocolViolation {
  return new ProtocolViolation(`${message} where it does not belong`);
}

/** What the application's callback throws is its own uncaught exception, and not the parser's. */
export function callBack(call: () => void): void {
  try {
    call();
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}
