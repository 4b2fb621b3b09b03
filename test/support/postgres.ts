import pg from 'pg';
import { afterAll, beforeAll } from 'vitest';
import { startPostgres, type PostgresOptions, type PostgresServer } from 'nestjs-pg/testing';

export { waitFor, type WaitOptions } from './wait-for.js';

/** First line of a `hba` option that wants the helpers of this file to keep working. */
export const ADMIN_HBA = 'local all postgres trust';

const ADMIN_NAME = 'nestjs-pg-admin';

export interface Session {
  readonly pid: number;
  readonly application_name: string;
  readonly usename: string;
  readonly datname: string;
  readonly state: string | null;
  readonly query: string;
  readonly ssl: boolean;
  readonly wait_event: string | null;
}

/** A server for all tests of a file (or of a `describe`): started before them, closed after them. */
export function useServer(
  options: PostgresOptions | (() => PostgresOptions | Promise<PostgresOptions>) = {},
): () => PostgresServer {
  let server: PostgresServer | undefined;
  beforeAll(async () => {
    server = await startPostgres(typeof options === 'function' ? await options() : options);
  });
  afterAll(async () => {
    await server?.close();
  });
  return () => {
    if (!server) throw new Error('the server of useServer() runs only inside of tests and hooks');
    return server;
  };
}

/** A query as superuser on a connection of its own, over the Unix socket: no proxy, TLS or password is in the way. */
export async function adminQuery<Row extends pg.QueryResultRow = Record<string, unknown>>(
  server: PostgresServer,
  sql: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const { socketDir: host, port, user, database } = server;
  const client = new pg.Client({ host, port, user, database, application_name: ADMIN_NAME });
  client.on('error', () => undefined);
  await client.connect();
  try {
    const { rows } = values.length > 0 ? await client.query<Row>(sql, values) : await client.query<Row>(sql);
    return rows;
  } finally {
    await client.end();
  }
}

/** The client sessions that the server has, the helpers' own not counted. */
export async function sessionsOf(server: PostgresServer, applicationName?: string): Promise<Session[]> {
  return adminQuery<Session & Record<string, unknown>>(
    server,
    `SELECT a.pid, a.application_name, a.usename, a.datname, a.state, a.query, coalesce(s.ssl, false) AS ssl, a.wait_event
     FROM pg_stat_activity a LEFT JOIN pg_stat_ssl s USING (pid)
     WHERE a.backend_type = 'client backend' AND a.application_name <> $1
       AND ($2::text IS NULL OR a.application_name = $2)
     ORDER BY a.backend_start`,
    [ADMIN_NAME, applicationName ?? null],
  );
}

/** Ends sessions from the server's side and returns how many, when they are gone. */
export async function terminateBackends(server: PostgresServer, applicationName?: string): Promise<number> {
  const sessions = await sessionsOf(server, applicationName);
  const pids = sessions.map(({ pid }) => pid);
  await adminQuery(server, 'SELECT pg_terminate_backend(pid, 5000) FROM unnest($1::int[]) AS pid', [pids]);
  return pids.length;
}
