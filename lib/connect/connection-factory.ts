import type { Duplex } from 'node:stream';
import { PgClient } from '../client/pg-client.js';
import { ScramKeys } from '../client/scram-keys.js';
import type { StatementCatalog } from '../client/statement-catalog.js';
import type { TargetSessionAttrs } from '../config/resolved-config.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import { Deadline } from '../util/deadline.js';
import { CallSite } from '../util/call-site.js';
import { openConnection } from './open-connection.js';
import type { Opener } from './opener.js';

export interface ConnectOptions {
  /** Stops the attempt in any phase; rejects with `PG_ABORTED`. */
  signal?: AbortSignal;
  /** Overrides `application_name` for this connection. */
  applicationName?: string;
  /**
   * Another way to the server (a tunnel, a cloud connector): a connected byte stream. TLS is spoken over it as the
   * settings say; set `ssl: false` if the stream is encrypted already.
   */
  stream?: () => Duplex | Promise<Duplex>;
  /** @internal Overrides `target_session_attrs` for this connection. */
  targetSessionAttrs?: TargetSessionAttrs;
}

/**
 * Opens a new, fully set-up connection that belongs to the caller: same hosts, TLS, credentials and session settings as
 * the pool's. Close it with `close()` or `await using`; one that is still open at shutdown is closed and named.
 *
 * @throws PgConnectError `PG_CONNECT_FAILED` with every attempt; PgModuleError `PG_ABORTED`, `PG_POOL_CLOSED`
 */
export type ConnectionFactory = (options?: ConnectOptions) => Promise<PgClient>;

/** Wraps or replaces how connections are opened; it is given the way they are opened without it. */
export type ConnectionFactoryHook = (connect: ConnectionFactory, options: ConnectOptions) => Promise<PgClient>;

/**
 * @internal
 * @param source who has made it, for the message
 * @throws PgModuleError `PG_CONFIG_INVALID`
 */
export function assertConnection(client: unknown, source: string): asserts client is PgClient {
  if (client instanceof PgClient) return;
  throw new PgModuleError(
    'PG_CONFIG_INVALID',
    `${source} did not resolve to a connection: return what the connect function of nestjs-pg resolves to.`,
  );
}

/** A connection that a caller of the factory has not closed. */
export interface OpenConnection {
  readonly client: PgClient;
  /** Milliseconds since the epoch. */
  readonly since: number;
  readonly callSite: CallSite;
}

/**
 * The factory behind both the pool and the public token. It knows which of its connections have an owner outside, so
 * that none is forgotten at shutdown.
 */
export class Connector {
  readonly #opener: Opener;
  readonly #hook: ConnectionFactoryHook | undefined;
  readonly #open = new Map<PgClient, OpenConnection>();
  readonly #attempts = new Set<Deadline>();
  #closed: PgModuleError | undefined;

  constructor(opener: Opener, hook: ConnectionFactoryHook | undefined) {
    this.#opener = { ...opener, scramKeys: new ScramKeys() };
    this.#hook = hook;
  }

  /** What is known of the texts that its connections run. */
  get statements(): StatementCatalog | undefined {
    return this.#opener.statements;
  }

  /** The public factory. */
  readonly connect: ConnectionFactory = (options = {}) => this.#connect(options, new CallSite());

  /** Connections handed out and not closed yet, longest first. */
  get openConnections(): readonly OpenConnection[] {
    return [...this.#open.values()];
  }

  /** The pool takes a connection over: from now on it is the pool's to close. */
  adopt(client: PgClient): void {
    this.#open.delete(client);
  }

  /** Refuses new work, stops attempts under way, and closes what callers left open. Returns what that was. */
  async close(): Promise<readonly OpenConnection[]> {
    this.#closed ??= new PgModuleError(
      'PG_POOL_CLOSED',
      'The connection factory is closed: the application is shutting down.',
    );
    for (const attempt of this.#attempts) attempt.abort(this.#closed);
    const left = this.openConnections;
    await Promise.all(left.map(({ client }) => endSession(client)));
    return left;
  }

  async #connect(options: ConnectOptions, callSite: CallSite): Promise<PgClient> {
    if (this.#closed) throw this.#closed;
    const { targetSessionAttrs } = options;
    // A hook need not pass on what it does not know.
    const open: ConnectionFactory = (own) => this.#openOne({ targetSessionAttrs, ...own });
    const client = await (this.#hook ? this.#hook(open, options) : this.#openOne(options));
    assertConnection(client, 'connectionFactory');
    // It may have come up while close() was running.
    const closed = this.#closed as PgModuleError | undefined;
    if (closed) {
      await client.close();
      throw closed;
    }
    this.#open.set(client, { client, since: Date.now(), callSite });
    client.once('end', () => this.#open.delete(client));
    return client;
  }

  async #openOne({ targetSessionAttrs, ...options }: ConnectOptions): Promise<PgClient> {
    const never = (): Error => new Error('unreachable');
    const attempt = new Deadline(0, never, this.#opener.clock, options.signal);
    this.#attempts.add(attempt);
    try {
      if (this.#closed) throw this.#closed;
      return await openConnection(this.#openerFor(targetSessionAttrs), {
        signal: attempt.signal,
        applicationName: options.applicationName,
        stream: options.stream,
      });
    } finally {
      this.#attempts.delete(attempt);
      attempt.clear();
    }
  }

  #openerFor(targetSessionAttrs: TargetSessionAttrs | undefined): Opener {
    if (targetSessionAttrs === undefined) return this.#opener;
    return { ...this.#opener, config: { ...this.#opener.config, targetSessionAttrs } };
  }
}

/** The server would finish a running statement before it notices that the socket is closed: so it is cancelled first. */
async function endSession(client: PgClient): Promise<void> {
  if (!client.isReady && !client.isClosed) await client.cancelRunning().catch(() => undefined);
  await client.close();
}
