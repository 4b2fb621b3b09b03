import type pg from 'pg';
import { untilReady } from '../client/until-ready.js';
import type { BorrowedConnection } from './connection-source.js';

type Method = (...args: unknown[]) => unknown;

/** A cursor, a stream, COPY: what is given to pg to be submitted. */
export interface Submittable {
  submit: Method;
  handleError?: (error: Error, connection: pg.Connection | undefined) => void;
  /** Of a cursor. */
  close?: Method;
  /** Of a stream. */
  readonly destroyed?: boolean;
  readonly readableEnded?: boolean;
  once?: (event: 'close', listener: () => void) => unknown;
}

/** For what was abandoned half-way to come to its end by itself. */
const PATIENCE_MILLIS = 1_000;

export function isSubmittable(config: unknown): config is Submittable {
  return typeof (config as Partial<Submittable> | null | undefined)?.submit === 'function';
}

/**
 * Runs a Submittable on a connection, which is its own until the server is ready for the next statement. One that has been
 * ended before its turn is not sent: nobody would ever end it on the connection.
 *
 * @param toBorrowed makes a connection of what was acquired, in the turn in which it is there
 */
export function runSubmittable<T>(
  acquiring: Promise<T>,
  toBorrowed: (acquired: T) => BorrowedConnection,
  submittable: Submittable,
  args: unknown[],
): void {
  const isOver = watchUnsent(submittable);
  acquiring.then(
    (acquired) => {
      const borrowed = toBorrowed(acquired);
      if (isOver()) borrowed.release();
      else send(borrowed, submittable, args);
    },
    (error: unknown) => submittable.handleError?.(error as Error, undefined),
  );
}

function send(borrowed: BorrowedConnection, submittable: Submittable, args: unknown[]): void {
  const { client } = borrowed;
  let isDone = false;
  const giveBack = (retire: boolean): void => {
    if (isDone) return;
    isDone = true;
    client.off('drain', done).off('end', done);
    borrowed.release(retire);
  };
  const done = (): void => giveBack(false);
  client.once('drain', done).once('end', done);
  // A stream that nobody reads to its end may leave its rows, and its connection, where they are.
  submittable.once?.('close', () => {
    if (isDone || submittable.readableEnded !== false) return;
    void untilReady(client, AbortSignal.timeout(PATIENCE_MILLIS)).then(() => giveBack(!client.isReady));
  });
  try {
    (client.query as Method).call(client, submittable, ...args);
  } catch (error) {
    done();
    submittable.handleError?.(error as Error, client.connection);
  }
}

/** Watches for the end of what waits for its turn; the answer is to be asked for once. */
function watchUnsent(submittable: Submittable): () => boolean {
  const { close } = submittable;
  // A stream says so by itself.
  if (typeof close !== 'function' || submittable.destroyed !== undefined) return () => submittable.destroyed === true;
  let isClosed = false;
  const own = Object.getOwnPropertyDescriptor(submittable, 'close');
  submittable.close = (...args) => {
    isClosed = true;
    return close.apply(submittable, args);
  };
  return () => {
    if (own) Object.defineProperty(submittable, 'close', own);
    else delete submittable.close;
    return isClosed;
  };
}
