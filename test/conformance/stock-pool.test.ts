import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPool } from '../../lib/create-pool.js';
import type { PgPool } from 'nestjs-pg';
import { startPostgres, type PostgresServer } from '../../lib/testing/index.js';
import { settle } from '../support/manual-clock.js';

/**
 * What stock pg.Pool does where this package differs on purpose: the table in the README. A version of pg that mends
 * one of these makes its test fail, and the line can go.
 */
let server: PostgresServer;
let admin: pg.Client;

beforeAll(async () => {
  server = await startPostgres();
  admin = new pg.Client({ connectionString: server.connectionString });
  admin.on('error', () => undefined);
  await admin.connect();
  await admin.query('CREATE TABLE item (id int PRIMARY KEY)');
});

afterAll(async () => {
  await admin.end();
  await server.close();
});

interface Limits {
  min?: number;
  max?: number;
}

const stockPool = (limits: Limits = {}): pg.Pool =>
  new pg.Pool({ connectionString: server.connectionString, application_name: 'stock', ...limits });
const ourPool = (limits: Limits = {}, drainTimeoutMillis = 5_000): PgPool =>
  createPool({
    connectionString: server.connectionString,
    application_name: 'ours',
    pool: { ...limits, drainTimeoutMillis },
  });

/** Whether a promise settles while others do as much as they can. */
async function settles(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  promise.then(
    () => (settled = true),
    () => (settled = true),
  );
  // A round trip to the server is more than a pool needs to tell its waiters.
  for (let round = 0; round < 5; round++) await admin.query('SELECT 1');
  await settle();
  return settled;
}

function countConnects(pool: pg.Pool): () => number {
  let connects = 0;
  pool.on('connect', () => connects++);
  return () => connects;
}

describe('10 statements that fail', () => {
  async function failTenTimes(pool: pg.Pool): Promise<number> {
    const connects = countConnects(pool);
    for (let round = 0; round < 10; round++) {
      await expect(pool.query('SELECT 1/0')).rejects.toMatchObject({ code: '22012' });
    }
    await pool.end();
    return connects();
  }

  it('cost stock pg.Pool 10 connections', async () => expect(await failTenTimes(stockPool())).toBe(10));
  it('cost ours none: the first one serves them all', async () => expect(await failTenTimes(ourPool())).toBe(1));
});

describe('a connection released inside a transaction', () => {
  async function forgetCommit(pool: pg.Pool): Promise<{ status: string | null; samePid: boolean }> {
    const first = await pool.connect();
    const { rows } = await first.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    await first.query('BEGIN');
    first.release();
    const second = await pool.connect();
    const again = await second.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const status = second.getTransactionStatus();
    second.release(true);
    await pool.end();
    return { status, samePid: again.rows[0]?.pid === rows[0]?.pid };
  }

  it('is handed on inside it by stock pg.Pool', async () => {
    expect(await forgetCommit(stockPool({ max: 1 }))).toEqual({ status: 'T', samePid: true });
  });

  it('is rolled back by ours, once warned of with the line, and kept', async () => {
    const pool = ourPool({ max: 1 });
    const warnings: string[] = [];
    pool.on('warning', (message) => warnings.push(message));
    expect(await forgetCommit(pool)).toEqual({ status: 'I', samePid: true });
    expect(warnings).toEqual([expect.stringMatching(/stock-pool\.test\.ts:\d+:\d+.* rolled back/)]);
  });
});

describe('a late second release', () => {
  async function releaseTwice(pool: pg.Pool): Promise<{ thrown: boolean; idle: number }> {
    const first = await pool.connect();
    first.release();
    const second = await pool.connect();
    let thrown = false;
    try {
      first.release();
    } catch {
      thrown = true;
    }
    const { idleCount: idle } = pool;
    if (idle === 0) second.release();
    await pool.end();
    return { thrown, idle };
  }

  it("frees the next borrower's connection in stock pg.Pool", async () => {
    expect(await releaseTwice(stockPool({ max: 1 }))).toEqual({ thrown: false, idle: 1 });
  });

  it('throws in ours and touches nobody', async () => {
    expect(await releaseTwice(ourPool({ max: 1 }))).toEqual({ thrown: true, idle: 0 });
  });
});

describe('a checked-out connection that the server ends', () => {
  async function lose(pool: pg.Pool): Promise<{ heard: boolean; next: unknown }> {
    // Of the pool, or of the lease: who adds no listener has the process end, as with any unheard `error`.
    const client = await pool.connect();
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const heard = client.listenerCount('error') > 0;
    if (!heard) client.on('error', () => undefined);
    const ended = new Promise<void>((resolve) => client.once('end', resolve));
    await admin.query('SELECT pg_terminate_backend($1)', [rows[0]?.pid]);
    await ended;
    await expect(client.query('SELECT 1')).rejects.toThrow();
    client.release();
    const next = await pool.query('SELECT 1 AS one');
    await pool.end();
    return { heard, next: next.rows[0] };
  }

  it('ends the process with stock pg.Pool: nobody hears the error', async () => {
    expect(await lose(stockPool())).toEqual({ heard: false, next: { one: 1 } });
  });

  it('is replaced by ours', async () => {
    expect(await lose(ourPool())).toEqual({ heard: true, next: { one: 1 } });
  });
});

describe('end() with a borrower that still waits', () => {
  it('leaves the borrower waiting in stock pg.Pool', async () => {
    const pool = stockPool({ max: 1 });
    const client = await pool.connect();
    const waiter = pool.connect();
    const ended = pool.end();
    expect(await settles(waiter)).toBe(false);
    client.release();
    await ended;
    expect(await settles(waiter)).toBe(false);
  });

  it('tells the borrower in ours', async () => {
    const pool = ourPool({ max: 1 });
    const client = await pool.connect();
    const waiter = pool.connect();
    const told = expect(waiter).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
    const ended = pool.end();
    await told;
    client.release();
    await ended;
  });
});

describe('end() with a connection that never comes back', () => {
  it('does not resolve in stock pg.Pool', async () => {
    const pool = stockPool();
    const client = await pool.connect();
    const ended = pool.end();
    expect(await settles(ended)).toBe(false);
    client.release();
    await ended;
  });

  it('resolves in ours at the deadline, says who had it, and leaves no session', async () => {
    const pool = ourPool({}, 50);
    const client = await pool.connect();
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const { holders } = await pool.drain();
    expect(holders.map(({ callSite }) => callSite?.toString())).toEqual([
      expect.stringContaining('stock-pool.test.ts'),
    ]);
    await expect
      .poll(async () => (await admin.query('SELECT 1 FROM pg_stat_activity WHERE pid = $1', [rows[0]?.pid])).rowCount)
      .toBe(0);
  });
});

describe('min: 3', () => {
  it('opens nothing in stock pg.Pool', async () => {
    const pool = stockPool({ min: 3 });
    await admin.query('SELECT 1');
    expect(pool.totalCount).toBe(0);
    await pool.end();
  });

  it('has three open in ours', async () => {
    const pool = ourPool({ min: 3 });
    await pool.open();
    expect(pool.idleCount).toBe(3);
    await pool.end();
  });
});

describe('sslmode=prefer against a server without TLS', () => {
  it('does not connect with stock pg.Pool', async () => {
    const pool = new pg.Pool({ connectionString: `${server.connectionString}?sslmode=prefer` });
    await expect(pool.query('SELECT 1')).rejects.toThrow('The server does not support SSL connections');
    await pool.end();
  });

  it('connects with ours, unencrypted', async () => {
    const pool = createPool({ connectionString: `${server.connectionString}?sslmode=prefer` });
    const lease = await pool.connect();
    expect(lease.security).toEqual({ encrypted: false, tlsVersion: undefined, verified: 'none' });
    lease.release();
    await pool.end();
  });
});

describe('what is not understood', () => {
  it('is ignored by stock pg.Pool', async () => {
    const pool = new pg.Pool({ connectionString: `${server.connectionString}?sslcrl=/x`, maxx: 3 } as pg.PoolConfig);
    await pool.query('SELECT 1');
    await pool.end();
  });

  it('is an error in ours that names the nearest known option', () => {
    expect(() => createPool({ pool: { maxx: 3 } as object })).toThrow(/"maxx".*did you mean "max"/);
    expect(() => createPool({ connectionString: 'postgresql://h/db?sslmodus=require' })).toThrow(
      /did you mean "sslmode"/,
    );
  });
});
