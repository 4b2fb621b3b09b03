import { channel } from 'node:diagnostics_channel';
import type { PgClient } from '../client/pg-client.js';
import type { RetireCause } from './pooled-connection.js';

/** The messages on the `node:diagnostics_channel` channels `nestjs-pg:<name>`; `pool` is the pool's name. */
export interface PoolMessages {
  /** A connection has been opened. */
  connect: { pool: string; client: PgClient; millis: number };
  /** A connection has been lent; `waitedMillis` is 0 for a borrower that did not have to queue. */
  acquire: { pool: string; client: PgClient; waitedMillis: number };
  release: { pool: string; client: PgClient; error: Error | undefined };
  /** A connection has been closed. */
  retire: { pool: string; client: PgClient; cause: RetireCause };
  /** A statement of `pool.query()`, or of a transaction, has ended; `millis` includes the waiting for a connection. */
  query: { pool: string; text: string | undefined; millis: number; error: Error | undefined };
}

/** Made once: whether anybody listens is then a look at a property. */
export const channels = {
  connect: channel('nestjs-pg:connect'),
  acquire: channel('nestjs-pg:acquire'),
  release: channel('nestjs-pg:release'),
  retire: channel('nestjs-pg:retire'),
  query: channel('nestjs-pg:query'),
} as const satisfies Record<keyof PoolMessages, unknown>;
