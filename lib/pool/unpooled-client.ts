import { EventEmitter } from 'node:events';
import type { PgClient } from '../client/pg-client.js';

type Method = (...args: unknown[]) => unknown;

/** What libraries use of a client that they make themselves. */
export interface UnpooledClient extends EventEmitter {
  readonly processID: number | null;
  connect(): Promise<void>;
  connect(callback: (error?: Error) => void): void;
  query: PgClient['query'];
  end(): Promise<void>;
  end(callback: () => void): void;
}

/**
 * The class for a pool's `Client`: libraries (Kysely, for one) make connections of their own by
 * `new pool.Client(pool.options)`. Such a connection is opened as the pool's are, whatever the options say: the same
 * hosts, TLS and credentials, which a stock client could not be told in full.
 */
export function unpooledClient(open: () => Promise<PgClient>): new (options?: unknown) => UnpooledClient {
  return class extends EventEmitter {
    #opening: Promise<PgClient> | undefined;
    #client: PgClient | undefined;

    /** pg's options count for nothing here. */
    constructor(_options?: unknown) {
      super();
    }

    get processID(): number | null {
      return this.#client?.processId ?? null;
    }

    connect(): Promise<void>;
    connect(callback: (error?: Error) => void): void;
    connect(callback?: (error?: Error) => void): Promise<void> | undefined {
      const connected = this.#connect();
      if (!callback) return connected;
      connected.then(() => callback(), callback);
      return undefined;
    }

    readonly query: PgClient['query'] = ((...args: unknown[]) => {
      if (!this.#client) throw new Error('connect() this client before its first query()');
      return (this.#client.query as Method).apply(this.#client, args);
    }) as PgClient['query'];

    end(): Promise<void>;
    end(callback: () => void): void;
    end(callback?: () => void): Promise<void> | undefined {
      const opened = this.#opening?.catch(() => undefined) ?? Promise.resolve(undefined);
      const ended = opened.then((client) => client?.close());
      if (!callback) return ended;
      void ended.then(callback);
      return undefined;
    }

    async #connect(): Promise<void> {
      this.#opening ??= open();
      this.#client = await this.#opening;
      this.#client.on('notice', (notice) => this.emit('notice', notice));
      this.#client.on('notification', (notification) => this.emit('notification', notification));
      this.#client.once('end', () => this.emit('end'));
    }
  };
}
