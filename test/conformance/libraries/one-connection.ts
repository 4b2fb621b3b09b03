import type { EventEmitter } from 'node:events';
import type pg from 'pg';
import { expect } from 'vitest';
import type { PgOptions, PgPool } from 'nestjs-pg';
import { adminQuery } from '../../support/postgres.js';
import { waitFor } from '../../support/wait-for.js';
import { expectNothingLeft, openPool, server } from './pool-under-test.js';

/** 10 000 rows. */
export const COUNT_UP = 'SELECT n FROM generate_series(1, 10000) AS n';
/** 4 999 rows, and a division by zero. */
export const FAILS_AT_5000 = 'SELECT 100 / (5000 - n) AS quotient FROM generate_series(1, 10000) AS n';
export const DIVISION_BY_ZERO = { code: '22012' };

interface Submitted<T> {
  readonly submitted: T;
  /** What the borrower does at the end. */
  readonly giveBack: () => void;
}

/** A way for what can be submitted (a cursor, a stream, a COPY) to get a connection. */
export interface Way {
  readonly name: string;
  readonly submit: <T extends pg.Submittable>(pool: PgPool, submittable: T) => Promise<Submitted<T>>;
}

/** The pool knows by itself when it has the connection back. */
export const BY_POOL: Way = {
  name: 'through pool.query()',
  submit: async (pool, submittable) => ({ submitted: pool.query(submittable), giveBack: () => undefined }),
};

export const BY_LEASE: Way = {
  name: 'on a lease',
  submit: async (pool, submittable) => {
    const lease = await pool.connect();
    return { submitted: lease.query(submittable), giveBack: () => lease.release() };
  },
};

export const WAYS = [BY_POOL, BY_LEASE];

export interface OneConnection {
  readonly pool: PgPool;
  /** The backend behind the pool's only connection. */
  readonly pid: number;
}

/** A pool that has one connection, and can have no more. Who cannot get it within ten seconds is told so. */
export async function openPoolOfOne(name: string, options: PgOptions = {}): Promise<OneConnection> {
  const pool = openPool(name, { pool: { max: 1, acquireTimeoutMillis: 10_000 }, ...options });
  await pool.open();
  return { pool, pid: await pidOf(pool) };
}

export async function pidOf(pool: PgPool): Promise<number> {
  const { rows } = await pool.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return rows[0]?.pid ?? 0;
}

/** The server as it is reached through a proxy. */
export function through({ host, port }: { host: string; port: number }): PgOptions {
  const { user, password, database } = server();
  return { connectionString: undefined, host, port, user, password, database };
}

/** Ends a backend from the server's side; it is gone when this resolves. */
export async function kill(pid: number): Promise<void> {
  await adminQuery(server(), 'SELECT pg_terminate_backend($1, 5000)', [pid]);
}

/**
 * Submits to a pool of one connection, and sees to it that the pool is as good as before when `work` is done and the
 * borrower, if there is one, has given back: who waits meanwhile is served, what is asked then is answered, no listener
 * is left on connection and socket, and the pool ends.
 *
 * @returns whether the connection was `kept`, or `replaced` by another
 */
export async function onOneConnection<T extends pg.Submittable>(
  way: Way,
  submittable: T,
  work: (submitted: T, one: OneConnection) => Promise<void>,
  options: PgOptions = {},
): Promise<'kept' | 'replaced'> {
  const one = await openPoolOfOne('one', options);
  const { pool, pid } = one;
  const before = await socketListenersOf(pool);
  let left = 0;
  pool.on('remove', () => left++);
  const { submitted, giveBack } = await way.submit(pool, submittable);
  const waiter = pidOf(pool);
  waiter.catch(() => undefined);
  await work(submitted, one);
  giveBack();
  const next = await waiter;
  expect(await pidOf(pool)).toBe(next);
  expect((await pool.query('SELECT $1::text AS said', ['hello'])).rows).toEqual([{ said: 'hello' }]);
  expect(await socketListenersOf(pool)).toEqual(before);
  await waitFor(() => left === (next === pid ? 0 : 1), { message: 'the replaced connection to be gone' });
  await expectNothingLeft(pool);
  return next === pid ? 'kept' : 'replaced';
}

/** The listeners on a connection's socket. */
async function socketListenersOf(pool: PgPool): Promise<unknown> {
  const lease = await pool.connect();
  const { stream } = (lease as unknown as { connection: { stream: EventEmitter } }).connection;
  const listeners = stream.eventNames().map((event) => [event, stream.listenerCount(event)]);
  lease.release();
  return listeners;
}
