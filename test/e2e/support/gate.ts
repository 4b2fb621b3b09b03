import type { PostgresServer } from 'nestjs-pg/testing';
import pg from 'pg';
import { adminQuery, waitFor } from '../../support/postgres.js';

/**
 * A lock that queries wait for, so that they run for exactly as long as a test wants: `gate.sql` is such a query, and
 * {@link Gate.open} lets it end.
 */
export class Gate implements AsyncDisposable {
  /** Gives one row, `{ passed: true }`. */
  static readonly sql = 'SELECT true AS passed FROM pg_advisory_xact_lock_shared(1)';
  readonly #server: PostgresServer;
  readonly #keeper: pg.Client;

  private constructor(server: PostgresServer, keeper: pg.Client) {
    this.#server = server;
    this.#keeper = keeper;
  }

  static async shut(server: PostgresServer): Promise<Gate> {
    const { socketDir: host, port, user, database } = server;
    // Under the name of the helpers' own sessions, which are not counted.
    const keeper = new pg.Client({ host, port, user, database, application_name: 'nestjs-pg-admin' });
    await keeper.connect();
    await keeper.query('SELECT pg_advisory_lock(1)');
    return new Gate(server, keeper);
  }

  /** Resolves when so many queries stand before it. */
  async reached(count = 1): Promise<void> {
    const sql = `SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`;
    const isReached = async (): Promise<boolean> => (await adminQuery(this.#server, sql)).length === count;
    await waitFor(isReached, { message: `${count} queries at the gate` });
  }

  async open(): Promise<void> {
    await this.#keeper.query('SELECT pg_advisory_unlock_all()');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#keeper.end();
  }
}
