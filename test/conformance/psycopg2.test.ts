import { describe, expect, it } from 'vitest';
import { createConnectionFactory, createPool, type PgOptions, type PgPool } from 'nestjs-pg';
import { adminQuery, sessionsOf, useServer, waitFor } from '../support/postgres.js';

/** docs/from-psycopg2.md, line by line. */
const server = useServer();
const dsn = (): string => server().connectionString;
const open = (pool: PgOptions['pool'] = {}): PgPool => createPool({ connectionString: dsn(), pool });

describe('psycopg2.connect', () => {
  it('is a connection factory, by DSN and by words', async () => {
    const { host, port, user, password, database } = server();
    const inWords = `host=${host} port=${port} user=${user} password=${password} dbname=${database}`;
    for (const settings of [{ connectionString: inWords }, { host, port, user, password, database }]) {
      await using connection = await createConnectionFactory(settings)();
      expect((await connection.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    }
  });

  it('takes the same words for TLS', async () => {
    const settings = { connectionString: `${dsn()}?sslmode=disable` };
    await using connection = await createConnectionFactory(settings)();
    expect(connection.security.encrypted).toBe(false);
    const refused = createConnectionFactory({ connectionString: `${dsn()}?sslmode=require` })();
    await expect(refused).rejects.toThrow('does not support TLS');
    const inOptions = createConnectionFactory({ connectionString: dsn(), ssl: { mode: 'require' } })();
    await expect(inOptions).rejects.toThrow('does not support TLS');
  });

  it('has connection_factory as a function around the opening', async () => {
    const opened: (number | undefined)[] = [];
    await using pool = createPool({
      connectionString: dsn(),
      connectionFactory: async (connect) => {
        const connection = await connect();
        opened.push(connection.processId);
        return connection;
      },
    });
    await using connection = await pool.connect();
    expect(opened).toEqual([connection.processId]);
  });

  it('opens connections that are set up', async () => {
    const settings: PgOptions = {
      connectionString: dsn(),
      pool: { onConnect: async (client) => void (await client.query("SET search_path TO 'shop'")) },
    };
    await using connection = await createConnectionFactory(settings)();
    expect((await connection.query('SHOW search_path')).rows).toEqual([{ search_path: 'shop' }]);
  });
});

describe('a connection pool', () => {
  it('has minconn and maxconn', async () => {
    await using pool = open({ min: 2, max: 3 });
    await pool.open();
    expect(pool.stats()).toMatchObject({ idle: 2, min: 2, max: 3 });
  });

  it('getconn and putconn: what is open is rolled back', async () => {
    await using pool = open({ max: 1 });
    await adminQuery(server(), 'CREATE TABLE shop (id int)');
    pool.on('warning', () => undefined);
    const connection = await pool.connect();
    await connection.query('BEGIN');
    await connection.query('INSERT INTO shop VALUES (1)');
    connection.release();
    expect((await pool.query('SELECT * FROM shop')).rowCount).toBe(0);
  });

  it('putconn(close=True) closes', async () => {
    await using pool = open({ max: 1 });
    const connection = await pool.connect();
    const { processId } = connection;
    connection.release(true);
    await using next = await pool.connect();
    expect(next.processId).not.toBe(processId);
  });

  it('exhausted: waits, or refuses at once with maxWaiting 0', async () => {
    await using patient = open({ max: 1 });
    const held = await patient.connect();
    const waiting = patient.connect();
    held.release();
    (await waiting).release();
    await using strict = open({ max: 1, maxWaiting: 0 });
    await using only = await strict.connect();
    await expect(strict.connect()).rejects.toMatchObject({ code: 'PG_QUEUE_FULL' });
    expect(only.isReleased).toBe(false);
  });

  it('closed, and returned twice', async () => {
    const pool = open();
    const connection = await pool.connect();
    connection.release();
    expect(() => connection.release()).toThrow(expect.objectContaining({ code: 'PG_LEASE_RELEASED' }));
    await pool.end();
    await expect(pool.connect()).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
  });

  it('closeall closes what is borrowed, too', async () => {
    const pool = createPool({ connectionString: dsn(), application_name: 'closeall' });
    await pool.connect();
    const { holders } = await pool.drain(0);
    expect(holders).toHaveLength(1);
    await waitFor(async () => (await sessionsOf(server(), 'closeall')).length === 0, { message: 'no session' });
  });
});

describe('a connection', () => {
  it('executes with $1, and knows its state', async () => {
    await using pool = open();
    await using connection = await pool.connect();
    expect((await connection.query('SELECT $1::int AS n', [7])).rows).toEqual([{ n: 7 }]);
    expect(connection.isClosed).toBe(false);
    const states = [connection.getTransactionStatus()];
    await connection.query('BEGIN');
    states.push(connection.getTransactionStatus());
    await expect(connection.query('SELECT 1/0')).rejects.toThrow();
    // The server tells of the error first, and of the state behind it.
    await waitFor(() => connection.isReady, { message: 'the server to be ready' });
    states.push(connection.getTransactionStatus());
    await connection.query('ROLLBACK');
    expect(states).toEqual(['I', 'T', 'E']);
    const { rows } = await connection.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    expect(connection.processId).toBe(rows[0]?.pid);
  });

  it('cancel', async () => {
    await using pool = open();
    await using connection = await pool.connect();
    const running = connection.query('SELECT pg_sleep(60)');
    const told = expect(running).rejects.toMatchObject({ code: '57014' });
    await waitFor(async () => (await sessionsOf(server())).some(({ query }) => query.includes('pg_sleep')), {
      message: 'the statement to run',
    });
    await connection.cancelRunning();
    await told;
  });
});
