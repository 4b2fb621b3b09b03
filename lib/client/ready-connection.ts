import { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import pg from 'pg';
import { PgModuleError } from '../errors/pg-module.error.js';
import { MessageReader, type MessageHandler } from './message-reader.js';

/**
 * The parts of pg's Connection that its types do not name. They are used in this folder only, and
 * test/unit/client/pg-internals.test.ts fails with the part's name when a version of pg moves one.
 */
interface ConnectionInternals {
  _connecting: boolean;
  _ending: boolean;
  parsedStatements: Record<string, string>;
  submittedNamedStatements: Record<string, string>;
  query(text: string): void;
  attachListeners(stream: Duplex): void;
}

const ConnectionBase = pg.Connection as unknown as new (config: {
  stream: Duplex;
  ssl: false;
}) => pg.Connection & ConnectionInternals;

/** For a connection whose messages all go to pg. */
const NOBODY: MessageHandler = { takes: () => false, take: () => undefined };

/** What a simple statement is answered with, besides an error and the ReadyForQuery at the end. */
const ANSWERS: ReadonlySet<string | symbol> = new Set(['commandComplete', 'rowDescription', 'dataRow', 'emptyQuery']);

/** pg's protocol connection over a byte stream that is connected already, and encrypted where it has to be. */
export class ReadyConnection extends ConnectionBase {
  #refused = false;
  #handler: MessageHandler = NOBODY;
  #isCorked = false;
  /** A statement that was sent ahead has not been answered yet. */
  #isAhead = false;

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

  /**
   * Sends a statement whose answer pg's client never sees, so that what pg sends next travels behind it in the same
   * flight. Only while nothing else is under way. If the statement fails or leaves a transaction open, the session ends,
   * and what was sent behind it fails with the reason.
   */
  sendAhead(text: string): void {
    this.#isAhead = true;
    this.query(text);
  }

  get isCorked(): boolean {
    return this.#isCorked;
  }

  get isAhead(): boolean {
    return this.#isAhead;
  }

  /** The server has no prepared statements of this session any more: event `deallocated`. */
  forgetStatements(): void {
    this.parsedStatements = {};
    this.submittedNamedStatements = {};
    this.emit('deallocated');
  }

  override emit(event: string | symbol, ...args: unknown[]): boolean {
    if (this.#refused && event !== 'error' && event !== 'end') return false;
    if (this.#isAhead && this.#keep(event, args[0])) return true;
    try {
      const heard = super.emit(event, ...args);
      if (event === 'commandComplete' && deallocatesAll(args[0] as { text: string })) this.forgetStatements();
      return heard;
    } catch (error) {
      // An application's listener or callback threw. That is its own uncaught exception, as everywhere in Node, and not
      // the parser's, which has more messages to read.
      process.nextTick(() => {
        throw error;
      });
      return true;
    }
  }

  /** Keeps the answer of a statement that was sent ahead from pg's client. */
  #keep(event: string | symbol, message: unknown): boolean {
    if (event === 'errorMessage') {
      this.refuse(resetFailed((message as Error).message, message));
      return true;
    }
    if (event !== 'readyForQuery') return ANSWERS.has(event);
    this.#isAhead = false;
    const { status } = message as { status: string };
    if (status !== 'I') this.refuse(resetFailed(`it left the session in a transaction (status ${status})`));
    return true;
  }

  /** Has messages dealt with that pg need not see. Before {@link ReadyConnection.connect}. */
  handleBy(handler: MessageHandler): void {
    this.#handler = handler;
  }

  /** Sends a request, in one write with all others of the same tick. */
  sendSoon(request: Buffer): void {
    const { stream } = this;
    if (!stream.writable) return;
    if (!this.#isCorked) {
      this.#isCorked = true;
      stream.cork();
      process.nextTick(this.#uncork);
    }
    stream.write(request);
  }

  readonly #uncork = (): void => {
    this.#isCorked = false;
    this.stream.uncork();
  };

  /**
   * pg's parser is given what the handler leaves. It throws at bytes that it does not understand, such as a request for
   * Kerberos, out of the stream's event and so past everyone: that would end the process.
   */
  override attachListeners(stream: Duplex): void {
    const forPg = new EventEmitter();
    super.attachListeners(forPg as Duplex);
    const reader = new MessageReader(this.#handler, (messages) => forPg.emit('data', messages));
    stream.on('data', (chunk: Buffer) => {
      try {
        if (!this.#refused) reader.read(chunk);
      } catch (cause) {
        this.refuse(notUnderstood(cause));
      }
    });
  }
}

function deallocatesAll({ text }: { text: string }): boolean {
  return text === 'DISCARD ALL' || text === 'DEALLOCATE ALL';
}

function resetFailed(reason: string, cause?: unknown): PgModuleError {
  return new PgModuleError(
    'PG_CONNECTION_LOST',
    `the session could not be reset (pool.reset), so its connection was closed: ${reason}. A statement sent behind the ` +
      'reset may have run; its result is not given away.',
    { cause },
  );
}

function notUnderstood(cause: unknown): PgModuleError {
  if (cause instanceof PgModuleError) return cause;
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
