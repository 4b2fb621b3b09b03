import { setTimeout as delay } from 'node:timers/promises';
import { createPool, type PgClient, type PgPool, type PoolOptions } from 'nestjs-pg';
import type { PostgresServer } from 'nestjs-pg/testing';
import { adminQuery, sessionsOf } from '../support/postgres.js';
import type { Doing } from './steps.js';
import type { Statement, World } from './world.js';

const NAME = 'model';

const TEXTS: Readonly<Record<Doing, string>> = {
  fast: 'SELECT $1::int AS number',
  slow: 'SELECT $1::int AS number, pg_sleep(0.005)',
  fail: 'SELECT $1::int / 0 AS number',
  hang: 'SELECT $1::int AS number, pg_sleep(60)',
};

/** A pool on a real PostgreSQL. */
export class RealServer implements World {
  readonly isExact = false;
  readonly pool: PgPool;
  readonly #server: PostgresServer;
  /** Sessions to which a signal is on its way. */
  readonly #signalled = new Set<number>();

  constructor(server: PostgresServer, pool: PoolOptions) {
    this.#server = server;
    this.pool = createPool({ connectionString: server.connectionString, application_name: NAME, pool }, NAME);
  }

  now(): number {
    return performance.now();
  }

  async pass(millis: number): Promise<void> {
    if (millis > 0) await delay(millis);
    await new Promise((resolve) => setImmediate(resolve));
  }

  statement(doing: Doing, number: number): Statement {
    return { text: TEXTS[doing], values: [number] };
  }

  /** Cannot be seen from here. */
  sent(): number[] {
    return [];
  }

  async sessions(): Promise<readonly number[]> {
    return (await sessionsOf(this.#server, NAME)).map(({ pid }) => pid);
  }

  kill(client: PgClient): void {
    this.#signal('pg_terminate_backend', client);
  }

  cancel(client: PgClient): void {
    this.#signal('pg_cancel_backend', client);
  }

  /** Of the whole server: {@link PostgresServer.restart}, between two steps. */
  fault(): void {
    return undefined;
  }

  /** Not awaited: the steps that follow meet it on its way. It fails while the server is down, and so has its end. */
  #signal(how: string, { processId = 0 }: PgClient): void {
    if (this.#signalled.has(processId)) return;
    this.#signalled.add(processId);
    adminQuery(this.#server, `SELECT ${how}($1::int)`, [processId])
      .catch(() => undefined)
      .finally(() => this.#signalled.delete(processId));
  }
}
