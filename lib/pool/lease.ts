import pg from 'pg';
import type { PgClient } from '../client/pg-client.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import { CallSite } from '../util/call-site.js';
import type { Leased } from './pooled-connection.js';

type Listener = (...args: unknown[]) => void;
type Method = (...args: unknown[]) => unknown;

/** Takes the connection of a lease back. */
export type GiveBack = (leased: Leased<PgClient>, retire: boolean, error: Error | undefined) => void;

/** Methods of a client that a lease passes on as they are. */
const METHODS = [
  ...['emit', 'eventNames', 'getMaxListeners', 'listenerCount', 'listeners', 'rawListeners', 'setMaxListeners'],
  ...['cancel', 'cancelRunning', 'close', 'connect', 'destroy', 'end', 'escapeIdentifier', 'escapeLiteral'],
  ...[
    'getStartupConf',
    'getTransactionStatus',
    'getTypeParser',
    'fly',
    'parameter',
    'portal',
    'ref',
    'resetSession',
    'run',
    'setPipelining',
    'unref',
  ],
] as const;

/** Data of a client that a lease shows. */
const PROPERTIES = [
  ...['binary', 'connection', 'connectionParameters', 'database', 'enableChannelBinding', 'hasExecuted', 'host'],
  ...['password', 'pipeline', 'port', 'processID', 'readyForQuery', 'replication', 'saslSession', 'scramMaxIterations'],
  ...['secretKey', 'ssl', 'sslNegotiation', 'user', 'activeQuery', 'queryQueue'],
  ...['fault', 'isClosed', 'isCorked', 'isReady', 'isSettling', 'processId', 'security'],
] as const;

const ADDERS = ['addListener', 'on', 'once', 'prependListener', 'prependOnceListener'] as const;

/** Listeners taken note of before those that have gone by themselves (`once`) are forgotten. */
const NOTED_LISTENERS = 32;

/** A prototype chain of pg.Client's without the work of its constructor: a lease is a view of a client that exists. */
function Inert(): void {
  return undefined;
}
Inert.prototype = pg.Client.prototype;
const LeaseBase = Inert as unknown as new () => PgClient;

/**
 * A connection lent to a borrower: what `pool.connect()` gives. It is a `pg.Client` in every respect, and it has an end:
 * after {@link PgLease.release} it is dead, while the connection behind it serves others. Listeners that were added
 * through it go with it.
 */
export class PgLease extends LeaseBase implements pg.PoolClient {
  readonly #client: PgClient;
  readonly #leased: Leased<PgClient>;
  readonly #giveBack: GiveBack;
  readonly #callSite: CallSite | undefined;
  #listeners: [event: string | symbol, listener: Listener][] | undefined;
  #released = false;
  #releasedAt: CallSite | undefined;
  /** Something was set on the connection that the next borrower must not inherit. */
  #tainted = false;

  /** @internal */
  constructor(leased: Leased<PgClient>, giveBack: GiveBack) {
    super();
    this.#client = leased.client;
    this.#leased = leased;
    this.#giveBack = giveBack;
    this.#callSite = leased.callSite;
  }

  static {
    const define = (name: string, value: Method): void => {
      Object.defineProperty(this.prototype, name, { value, writable: true, configurable: true });
    };
    for (const name of METHODS) {
      define(name, function (this: PgLease, ...args) {
        const client = this.#alive();
        return (client as unknown as Record<string, Method>)[name]?.apply(client, args);
      });
    }
    for (const name of PROPERTIES) {
      Object.defineProperty(this.prototype, name, {
        get(this: PgLease): unknown {
          return Reflect.get(this.#alive(), name);
        },
        set(this: PgLease, value: unknown) {
          this.#tainted = true;
          Object.assign(this.#alive(), { [name]: value });
        },
        configurable: true,
      });
    }
    for (const name of ADDERS) {
      define(name, function (this: PgLease, event, listener) {
        const client = this.#alive();
        (client[name] as Method).call(client, event, listener);
        this.#note(event as string, listener as Listener);
        return this;
      });
    }
    const off = function (this: PgLease, event: unknown, listener: unknown): PgLease {
      this.#forget(event as string, listener as Listener);
      return this;
    };
    define('off', off);
    define('removeListener', off);
    define('removeAllListeners', function (this: PgLease, event) {
      this.#forget(event as string | undefined, undefined);
      return this;
    });
    define('setTypeParser', function (this: PgLease, ...args) {
      this.#tainted = true;
      return (this.#alive().setTypeParser as Method).apply(this.#client, args);
    });
    define('query', function (this: PgLease, ...args) {
      if (this.#released) return this.#refuseQuery(args[0], args[1], args[2]);
      // As many as there are: instrumentation looks for a callback at the end.
      return (this.#client.query as Method).apply(this.#client, args);
    });
  }

  /**
   * Gives the connection back. `true` or an error closes it instead of lending it again.
   *
   * @throws PgModuleError `PG_LEASE_RELEASED` if it has been given back before
   */
  release(error?: Error | boolean | null): void {
    if (this.#released) throw this.#deadError();
    // Whoever has a call site for the acquire was within the budget.
    if (this.#callSite) this.#releasedAt = new CallSite();
    this.#end(error);
  }

  /** @internal {@link PgLease.release} by the library itself, of what nobody else holds: no stack will be asked for. */
  handBack(retire: boolean): void {
    this.#end(retire);
  }

  #end(error: Error | boolean | null | undefined): void {
    this.#forget(undefined, undefined);
    this.#released = true;
    this.#giveBack(this.#leased, Boolean(error) || this.#tainted, error instanceof Error ? error : undefined);
  }

  get isReleased(): boolean {
    return this.#released;
  }

  [Symbol.dispose](): void {
    if (!this.#released) this.release();
  }

  override [Symbol.asyncDispose](): Promise<void> {
    this[Symbol.dispose]();
    return Promise.resolve();
  }

  #alive(): PgClient {
    if (this.#released) throw this.#deadError();
    return this.#client;
  }

  #note(event: string | symbol, listener: Listener): void {
    this.#listeners ??= [];
    if (this.#listeners.length >= NOTED_LISTENERS) {
      this.#listeners = this.#listeners.filter(([name, known]) => this.#client.listeners(name).includes(known));
    }
    this.#listeners.push([event, listener]);
  }

  /** Takes back listeners of this lease's: one, all of an event, or all. */
  #forget(event: string | symbol | undefined, listener: Listener | undefined): void {
    if (!this.#listeners) return;
    this.#listeners = this.#listeners.filter(([name, known]) => {
      const meant = (event === undefined || name === event) && (listener === undefined || known === listener);
      if (meant) this.#client.off(name, known);
      return !meant;
    });
  }

  /** pg's ways to tell of an error: the callback, the submitted object, or a promise. */
  #refuseQuery(config: unknown, values: unknown, callback: unknown): unknown {
    const error = this.#deadError();
    const tell = [callback, values].find((argument) => typeof argument === 'function') as Method | undefined;
    if (tell) {
      process.nextTick(tell, error);
      return undefined;
    }
    const { handleError } = (config ?? {}) as { handleError?: Method };
    if (typeof handleError === 'function') {
      process.nextTick(() => handleError.call(config, error, undefined));
      return config;
    }
    return Promise.reject(error);
  }

  #deadError(): PgModuleError {
    const stacks =
      this.#callSite && this.#releasedAt
        ? `\nTaken:\n${this.#callSite.trace()}\nReleased:\n${this.#releasedAt.trace()}\nUsed again:`
        : '';
    return new PgModuleError(
      'PG_LEASE_RELEASED',
      `This connection has been released: it may be serving somebody else already, and cannot be used or released again.${stacks}`,
    );
  }
}
