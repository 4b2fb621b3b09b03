import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import pg from 'pg';
import type { CustomTypesConfig } from 'pg';
import { PgModuleError } from '../errors/pg-module.error.js';
import { AuthenticationGuard, type AuthenticationPolicy } from './authentication-guard.js';
import { sendCancelRequest } from './cancel-request.js';
import { FastPath } from './fast-path.js';
import type { FlightCallback } from './flight.js';
import type { PlainQuery } from './plain-query.js';
import type { Portal, PortalRequest } from './portal.js';
import type { QueryCallback } from './protocol-query.js';
import { isConnectionFault } from './connection-fault.js';
import { warnOfMissing } from './missing-part.js';
import { ReadyConnection } from './ready-connection.js';
import { ScramExchange } from './scram-exchange.js';
import type { ScramKeys } from './scram-keys.js';
import type { StatementCatalog } from './statement-catalog.js';
import { SESSION_RESETS, type SessionReset } from './session-reset.js';

/** What TLS gives a connection, in the terms of libpq's sslmodes. */
export interface ConnectionSecurity {
  readonly encrypted: boolean;
  /** `TLSv1.3`, ...; `undefined` when the connection is not encrypted. */
  readonly tlsVersion: string | undefined;
  /** `ca`: the certificate leads to a trusted root; `full`: and it is this host's. */
  readonly verified: 'none' | 'ca' | 'full';
}

export interface PgClientOptions {
  /** A connected stream, on which TLS has been negotiated where it had to be. */
  readonly stream: Duplex;
  readonly security: ConnectionSecurity;
  /** The host as written, or the directory of the Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
  /** Called when the server asks for a password, and not before. */
  readonly password: () => string | Promise<string>;
  readonly authentication: AuthenticationPolicy;
  /** Shared by all connections of the same role; `undefined` = derived for each. */
  readonly scramKeys?: ScramKeys | undefined;
  /** Startup parameters besides user and database. */
  readonly session: Readonly<Record<string, string>>;
  readonly queryTimeoutMillis: number;
  readonly types: CustomTypesConfig | undefined;
  /** The settings ask for a server that takes writes. */
  readonly wantsWrites: boolean;
  /** Shared by all connections that run the same texts. */
  readonly statements: StatementCatalog;
  /** Opens a second stream to the same server, encrypted like the first: for CancelRequests. */
  readonly dialAgain: (signal: AbortSignal) => Promise<Duplex>;
}

/**
 * The parts of pg's Client that its types do not name; see {@link ReadyConnection} for the rule.
 */
interface ClientInternals {
  processID: number | null;
  secretKey: number | null;
  readyForQuery: boolean | undefined;
  _queryable: boolean;
  pipeline: boolean;
  _ending: boolean;
  _ended: boolean;
  _activeQuery: object | null | undefined;
  _queryQueue: readonly object[];
  _sentQueryQueue: readonly object[];
}

type Method = (...args: unknown[]) => unknown;

interface Submittable {
  submit: Method;
  handleError?: (error: Error, connection: pg.Connection) => void;
}

/** What pg is given for a plain query where there is no shorter way. */
function stockConfig(
  { statement, values, isArrayMode, queryTimeoutMillis }: PlainQuery,
  callback: QueryCallback,
): object {
  const rowMode = isArrayMode ? 'array' : undefined;
  return { text: statement.text, values, rowMode, query_timeout: queryTimeoutMillis, callback };
}

function isSubmittable(config: unknown): config is Submittable {
  return typeof (config as Partial<Submittable> | null | undefined)?.submit === 'function';
}

/** pg's own, looked up at each call: instrumentation replaces it. */
const STOCK = pg.Client.prototype as unknown as { query: Method };

/** How long a CancelRequest may take. */
const CANCEL_MILLIS = 1_000;
/** How long a polite goodbye may take before the socket is cut. */
const GOODBYE_MILLIS = 2_000;

/**
 * A connection to PostgreSQL: `pg.Client` over a stream that the connection factory has opened. It is connected when
 * you get it. Close it with {@link PgClient.close}, `end()` or `await using`.
 */
export class PgClient extends pg.Client {
  /** Whether the connection is encrypted, and what is known of the server's identity. */
  readonly security: ConnectionSecurity;
  readonly #options: PgClientOptions;
  readonly #connection: ReadyConnection;
  readonly #fastPath: FastPath | undefined;
  readonly #parameters = new Map<string, string>();
  #fault: string | undefined;
  /** The socket keeps the process alive. To ask the socket again costs a call out of JavaScript for each lease. */
  #isHeld = true;
  #closing: Promise<void> | undefined;

  /** @internal Connections are opened by a connection factory. */
  constructor(options: PgClientOptions) {
    const connection = new ReadyConnection(options.stream);
    super({
      user: options.user,
      database: options.database,
      host: options.host,
      port: options.port,
      password: options.password,
      // Encryption is the stream's business; `false` keeps pg from reading PGSSLMODE.
      ssl: false,
      enableChannelBinding: options.security.encrypted && options.authentication.channelBinding !== 'disable',
      query_timeout: options.queryTimeoutMillis,
      types: options.types,
      connection,
    } as pg.ClientConfig);
    this.#options = options;
    this.#connection = connection;
    this.security = options.security;
    this.#fastPath = this.#openFastPath(connection, options.statements);
    // A lost connection shows at its next use, and by its end. It must not end the process as an unheard event would.
    this.on('error', () => undefined);
    this.#guardAuthentication(connection);
    if (options.scramKeys) ScramExchange.attach(this, connection, options.scramKeys);
    this.connection.on('parameterStatus', (message: { parameterName: string; parameterValue: string }) =>
      this.#parameters.set(message.parameterName, message.parameterValue),
    );
    this.connection.on('errorMessage', ({ code }: { code?: string }) => {
      if (isConnectionFault(code, options.wantsWrites)) this.#fault = code;
    });
  }

  /** The backend's process id: what pg_stat_activity calls `pid`. */
  get processId(): number | undefined {
    return this.#internals().processID ?? undefined;
  }

  /** A parameter that the server reports, e.g. `server_version`, `in_hot_standby`. */
  parameter(name: string): string | undefined {
    return this.#parameters.get(name);
  }

  /** No answer is awaited, and a statement sent now is the server's next. */
  get isReady(): boolean {
    return this.#internals().readyForQuery === true && this.#isQuiet();
  }

  /** The last statement failed and only the server's ReadyForQuery is still to come. */
  get isSettling(): boolean {
    return this.#internals().readyForQuery !== true && this.#isQuiet();
  }

  #isQuiet(): boolean {
    const { _activeQuery, _queryQueue, _sentQueryQueue } = this.#internals();
    return !_activeQuery && _queryQueue.length === 0 && _sentQueryQueue.length === 0;
  }

  /** The session is gone, or going. */
  get isClosed(): boolean {
    const internals = this.#internals();
    return internals._ended || internals._ending || !internals._queryable || this.#options.stream.destroyed;
  }

  /** Requests are kept until the end of this tick: one more leaves in the same write. */
  get isCorked(): boolean {
    return this.#connection.isCorked;
  }

  /** The SQLSTATE of an error that made the whole connection useless, if there was one. A pool does not lend it again. */
  get fault(): string | undefined {
    return this.#fault;
  }

  /**
   * @internal Has the server forget what the last user did to the session. Nobody need wait for that: what is sent next
   * travels behind it in the same flight. Only while the connection {@link PgClient.isReady}.
   */
  resetSession(reset: SessionReset): void {
    // The one under way has not been followed by anything yet: the connection would not be ready.
    if (this.#connection.isAhead) return;
    if (reset === 'discard-all') this.#connection.forgetStatements();
    this.#connection.sendAhead(SESSION_RESETS[reset]);
  }

  /** @internal Whether statements are sent without waiting for the answers to those before them. */
  setPipelining(isOn: boolean): void {
    this.#internals().pipeline = isOn;
  }

  /** @internal Runs a plain query the short way. */
  run(plain: PlainQuery, callback: QueryCallback): void {
    // Through the prototype, where instrumentation may have taken the method's place.
    STOCK.query.call(this, this.#fastPath?.query(plain, callback) ?? stockConfig(plain, callback));
  }

  /** @internal Runs statements in one flight: what follows one that fails is not run. */
  fly(plains: readonly PlainQuery[], callback: FlightCallback): void {
    const flight = this.#fastPath?.flight(plains, callback);
    if (flight) STOCK.query.call(this, flight);
    else this.#oneByOne(plains, [], callback);
  }

  #oneByOne(plains: readonly PlainQuery[], results: unknown[], callback: FlightCallback): void {
    const plain = plains[results.length];
    const outcome = { results, failedAt: results.length, isSent: true };
    if (!plain) {
      callback(null, outcome);
      return;
    }
    let isDone = false;
    const next = (error: Error | null, result?: unknown): void => {
      // pg calls again for a statement whose value could not be converted.
      if (isDone) return;
      isDone = true;
      if (error) callback(error, outcome);
      else this.#oneByOne(plains, [...results, result], callback);
    };
    STOCK.query.call(this, stockConfig(plain, next));
  }

  /** @internal A statement whose rows are asked for in batches; `undefined` where there is no short way. */
  portal(request: PortalRequest): Portal | undefined {
    return this.#fastPath?.portal(request, {
      timeoutMillis: request.queryTimeoutMillis ?? this.#options.queryTimeoutMillis,
      submit: (portal) => void this.#withoutTimer(() => STOCK.query.call(this, portal)),
      giveUp: (portal) => this.#giveUp(portal),
    });
  }

  /** @internal pg asks this for the startup message; ours holds the resolved settings and nothing of the environment. */
  getStartupConf(): Record<string, string> {
    const { user, database, session } = this.#options;
    return { user, database, ...session };
  }

  /**
   * Asks the server to cancel the running statement. Resolves when the server has passed the request on; rejects if it
   * cannot be reached in time, which is a second if nothing else is said.
   */
  async cancelRunning(withinMillis = CANCEL_MILLIS): Promise<void> {
    const { processID, secretKey } = this.#internals();
    if (processID === null || secretKey === null) {
      throw new PgModuleError(
        'PG_CONNECTION_LOST',
        'The server gave no cancellation key, so its statement cannot be cancelled; close the connection instead.',
      );
    }
    const signal = AbortSignal.timeout(withinMillis);
    const stream = await this.#options.dialAgain(signal);
    const abort = (): void => void stream.destroy();
    signal.addEventListener('abort', abort, { once: true });
    try {
      await sendCancelRequest(stream, processID, secretKey);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  /** Says goodbye to the server and resolves when the socket is closed: never rejects, never hangs. */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    const stream = this.#options.stream;
    if (stream.closed) return;
    const closed = new Promise<void>((resolve) => stream.once('close', resolve));
    const deadline = setTimeout(() => stream.destroy(), GOODBYE_MILLIS);
    super.end().catch(() => undefined);
    await closed;
    clearTimeout(deadline);
  }

  /** Cuts the socket at once. The server notices when it next reads or writes. */
  destroy(): void {
    this.#internals()._ending = true;
    this.#options.stream.destroy();
  }

  /** pg's spelling of {@link PgClient.close}. */
  override end(): Promise<void>;
  override end(callback: (error: Error) => void): void;
  override end(callback?: (error: Error) => void): Promise<void> | undefined {
    const done = this.close();
    if (!callback) return done;
    void done.then(() => {
      (callback as () => void)();
    });
    return undefined;
  }

  /** The socket keeps the process alive: the default. */
  ref(): void {
    if (this.#isHeld) return;
    this.#isHeld = true;
    (this.#options.stream as Partial<Socket>).ref?.();
  }

  /** The socket does not keep the process alive. */
  unref(): void {
    this.#isHeld = false;
    (this.#options.stream as Partial<Socket>).unref?.();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  static {
    // pg's signatures, with plain statements taken the short way.
    const query = function (this: PgClient, ...args: unknown[]): unknown {
      const [config, values, callback] = args;
      if (isSubmittable(config)) return this.#submit(config, args);
      const tell = (typeof values === 'function' ? values : callback) as QueryCallback | undefined;
      const parameters = typeof values === 'function' ? undefined : values;
      const plain = tell && typeof tell !== 'function' ? undefined : this.#fastPath?.plain(config, parameters);
      if (!plain) return STOCK.query.apply(this, args);
      if (tell) {
        this.run(plain, tell);
        return undefined;
      }
      return new Promise((resolve, reject) => {
        this.run(plain, (error, result) => (error ? reject(error) : resolve(result)));
      }).catch((error: unknown) => {
        // Where the application asked, instead of where the socket was read; as pg does.
        if (error instanceof Error) Error.captureStackTrace(error);
        throw error;
      });
    };
    Object.defineProperty(this.prototype, 'query', { value: query, writable: true, configurable: true });
  }

  /**
   * pg's timer for an answer is cleared by a callback that cursors and streams do not call, and then sends into whatever the
   * connection does next. So theirs is kept here; where it runs out, the connection ends.
   */
  #submit(submittable: Submittable, args: unknown[]): unknown {
    const millis = this.#options.queryTimeoutMillis;
    if (millis === 0 || this.isClosed) return STOCK.query.apply(this, args);
    try {
      return this.#withoutTimer(() => STOCK.query.apply(this, args));
    } finally {
      const timer = setTimeout(() => this.#giveUp(submittable), millis);
      const done = (): void => {
        clearTimeout(timer);
        this.off('drain', done).off('end', done);
      };
      this.once('drain', done).once('end', done);
    }
  }

  /** Has pg take a query without keeping its time. */
  #withoutTimer<T>(work: () => T): T {
    const parameters = (this as unknown as { connectionParameters: { query_timeout: number } }).connectionParameters;
    const millis = parameters.query_timeout;
    parameters.query_timeout = 0;
    try {
      return work();
    } finally {
      parameters.query_timeout = millis;
    }
  }

  /** Ends the connection of a Submittable that is not done by its deadline. */
  #giveUp(submittable: Submittable): void {
    const internals = this.#internals();
    const isQueued = internals._queryQueue.includes(submittable);
    if (internals._activeQuery !== submittable && !isQueued) return;
    this.destroy();
    // It is told once, and not again by the end of the connection.
    if (isQueued) internals._queryQueue = internals._queryQueue.filter((query) => query !== submittable);
    else internals._activeQuery = null;
    submittable.handleError?.(new Error('Query read timeout'), this.connection);
    this.cancelRunning().catch(() => undefined);
  }

  /** Falls back to stock pg's way where pg is not as we know it. */
  #openFastPath(connection: ReadyConnection, statements: StatementCatalog): FastPath | undefined {
    const obstacle = FastPath.obstacle(this);
    if (obstacle === undefined) return new FastPath(this, connection, statements);
    warnOfMissing(obstacle, 'runs statements the way of stock pg');
    return undefined;
  }

  #internals(): ClientInternals {
    return this as unknown as ClientInternals;
  }

  /**
   * These listeners stand before pg's own. A refusal destroys the stream, and pg writes nothing to a destroyed stream:
   * so no password leaves after a refusal.
   */
  #guardAuthentication(connection: ReadyConnection): void {
    const guard = new AuthenticationGuard(this.#options.authentication);
    const on = (event: string, verdict: (message: { mechanisms: string[] }) => void): void => {
      connection.on(event, (message: { mechanisms: string[] }) => {
        try {
          verdict(message);
        } catch (error) {
          connection.refuse(error as Error);
        }
      });
    };
    on('authenticationCleartextPassword', () => guard.onPasswordRequest('password'));
    on('authenticationMD5Password', () => guard.onPasswordRequest('md5'));
    on('authenticationSASL', ({ mechanisms }) => guard.onSaslRequest(mechanisms));
    on('authenticationSASLFinal', () => guard.onSaslFinal());
    on('authenticationOk', () => guard.onOk());
  }
}
