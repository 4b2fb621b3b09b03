import type { Duplex } from 'node:stream';
import pg from 'pg';
import { PgModuleError } from '../errors/pg-module.error.js';

/**
 * The parts of pg's Connection that its types do not name. They are used in this folder only, and
 * test/unit/client/pg-internals.test.ts fails with the part's name when a version of pg moves one.
 */
interface ConnectionInternals {
  _connecting: boolean;
  _ending: boolean;
  attachListeners(stream: Duplex): void;
}

const ConnectionBase = pg.Connection as unknown as new (config: {
  stream: Duplex;
  ssl: false;
}) => pg.Connection & ConnectionInternals;

/** pg's protocol connection over a byte stream that is connected already, and encrypted where it has to be. */
export class ReadyConnection extends ConnectionBase {
  #refused = false;

  constructor(stream: Duplex) {
    super({ stream, ssl: false });
  }

  /** What pg's `connect` does once its socket is open. */
  connect(): void {
    this._connecting = true;
    this.stream.on('error', (error: NodeJS.ErrnoException) => {
      // A peer that hangs up first while we say goodbye is no failure.
      if (this._ending && (error.code === 'ECONNRESET' || error.code === 'EPIPE')) return;
      this.emit('error', error);
    });
    this.stream.on('close', () => this.emit('end'));
    this.attachListeners(this.stream);
    // The negotiation of TLS may have paused it.
    this.stream.resume();
    process.nextTick(() => this.emit('connect'));
  }

  /** Ends the session for a reason of ours. What the server has sent behind it in the same packet counts no more. */
  refuse(reason: Error): void {
    this.#refused = true;
    this.stream.destroy(reason);
  }

  override emit(event: string | symbol, ...args: unknown[]): boolean {
    if (this.#refused && event !== 'error' && event !== 'end') return false;
    try {
      return super.emit(event, ...args);
    } catch (error) {
      // An application's listener or callback threw. That is its own uncaught exception, as everywhere in Node, and not
      // the parser's, which has more messages to read.
      process.nextTick(() => {
        throw error;
      });
      return true;
    }
  }

  /**
   * pg's parser throws at bytes that it does not understand, such as a request for Kerberos, out of the stream's event
   * and so past everyone: that would end the process.
   */
  override attachListeners(stream: Duplex): void {
    const before = stream.listeners('data');
    super.attachListeners(stream);
    for (const listener of stream.listeners('data')) {
      if (before.includes(listener)) continue;
      const parse = listener as (chunk: Buffer) => void;
      stream.off('data', parse);
      stream.on('data', (chunk: Buffer) => {
        try {
          parse.call(stream, chunk);
        } catch (cause) {
          this.refuse(notUnderstood(cause));
        }
      });
    }
  }
}

function notUnderstood(cause: unknown): PgModuleError {
  const what = cause instanceof Error ? cause.message : String(cause);
  if (what.startsWith('Unknown authentication')) {
    return new PgModuleError(
      'PG_AUTH_REFUSED',
      `the server asks for what node-postgres does not know (${what}): let it ask for scram-sha-256, a certificate or ` +
        'another method that node-postgres has.',
      { cause },
    );
  }
  return new PgModuleError('PG_CONNECTION_LOST', `the server sent what is no message of the protocol (${what}).`, {
    cause,
  });
}
