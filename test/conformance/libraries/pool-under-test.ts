import type { EventEmitter } from 'node:events';
import { afterEach, expect } from 'vitest';
import { createPool, type PgClient, type PgOptions, type PgPool } from 'nestjs-pg';
import { sessionsOf, useServer, waitFor } from '../../support/postgres.js';

/** The server of the file that imports this. */
export const server = useServer();

/** How many listeners of each event a connection has. */
type Listeners = Record<string, number>;

interface Watched {
  /** The connections that are open, with the listeners that they had when the pool had just opened them. */
  readonly connections: Map<PgClient, Listeners>;
  readonly warnings: string[];
  peak: number;
}

const watched = new WeakMap<PgPool, Watched>();
const opened: PgPool[] = [];
let count = 0;

/**
 * A pool whose `application_name`, which is `pool.name`, no other pool has. A test that fails before its end leaves
 * nothing behind: what is still open is ended after it.
 */
export function openPool(name: string, options: PgOptions = {}): PgPool {
  const unique = `${name}-${++count}`;
  const { connectionString } = server();
  const pool = createPool({ connectionString, application_name: unique, ...options }, unique);
  const { connections, warnings } = watch(pool);
  pool.on('connect', (client) => {
    const connection = client as unknown as PgClient;
    connections.set(connection, listenersOf(connection));
    watchedOf(pool).peak = Math.max(peakOf(pool), connections.size);
  });
  pool.on('remove', (client) => connections.delete(client as unknown as PgClient));
  pool.on('warning', (message) => warnings.push(message));
  opened.push(pool);
  return pool;
}

/** The most connections that the pool has had open at once. */
export function peakOf(pool: PgPool): number {
  return watchedOf(pool).peak;
}

/** What the pool has warned of. */
export function warningsOf(pool: PgPool): readonly string[] {
  return watchedOf(pool).warnings;
}

/** Resolves when every lease has come back and every connection rests. */
export async function expectAllIdle(pool: PgPool): Promise<void> {
  const atRest = (): boolean => {
    const { idle, total, waiting } = pool.stats();
    return idle === total && waiting === 0;
  };
  await waitFor(atRest, { message: `the connections of ${pool.name} to rest`, deadline: 20_000 }).catch(() => {
    // The comparison below says more than the deadline.
  });
  const { idle, total, leased, resetting, validating, dialling, waiting } = pool.stats();
  expect({ idle, leased, resetting, validating, dialling, waiting }).toEqual({
    idle: total,
    leased: 0,
    resetting: 0,
    validating: 0,
    dialling: 0,
    waiting: 0,
  });
}

/**
 * The pool is as if nobody had used it: every connection rests, outside of a transaction, with no listeners but its
 * own; it ends without having to take a lease away; the server has no session of it any more.
 */
export async function expectNothingLeft(pool: PgPool): Promise<void> {
  await expectAllIdle(pool);
  for (const [connection, before] of watchedOf(pool).connections) {
    // Those that are being closed serve nobody any more.
    if (connection.isClosed) continue;
    expect(listenersOf(connection)).toEqual(before);
    expect(connection.isReady).toBe(true);
    expect(connection.getTransactionStatus()).toBe('I');
  }
  await pool.end();
  expect((await pool.drain()).holders).toEqual([]);
  expect(pool.totalCount).toBe(0);
  await expectNoSessions(pool);
}

/** The server has no session of the pool, or will soon have none. */
export async function expectNoSessions(pool: PgPool): Promise<void> {
  await waitFor(async () => (await sessionsOf(server(), pool.name)).length === 0, {
    message: `the sessions of ${pool.name} to end`,
    deadline: 20_000,
  });
}

/** Runs `count` operations at once: all succeed, on no more connections than the pool may have. */
export async function expectWithinMax(
  pool: PgPool,
  count: number,
  operation: (index: number) => Promise<unknown>,
): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, index) => operation(index)));
  const { max, acquires, connects } = pool.stats();
  expect(acquires).toBeGreaterThanOrEqual(count);
  expect(connects).toBe(peakOf(pool));
  expect(peakOf(pool)).toBeLessThanOrEqual(max);
}

/** Ten statements that the server refuses cost no connection: the first one serves them all, and lives on. */
export async function expectNoReconnects(pool: PgPool, fail: () => PromiseLike<unknown>, error: object): Promise<void> {
  for (let round = 0; round < 10; round++) {
    await expect(Promise.resolve(fail())).rejects.toMatchObject(error);
  }
  const { connects, retired } = pool.stats();
  expect({ connects, retired }).toEqual({ connects: 1, retired: {} });
}

/** The next lease is of a connection whose server process dies before the borrower's first statement arrives. */
export function killNextBorrowed(pool: PgPool): void {
  pool.once('acquire', killBackend);
}

/** Ends the server process of a client as pg_terminate_backend() does, without waiting for it. */
export function killBackend(client: object): void {
  const { processID } = client as { processID?: number | null };
  if (processID == null) throw new Error('a connection has a server process');
  process.kill(processID, 'SIGTERM');
}

afterEach(async () => {
  await Promise.all(opened.splice(0).map((pool) => pool.drain(1)));
});

function watch(pool: PgPool): Watched {
  const state: Watched = { connections: new Map(), warnings: [], peak: 0 };
  watched.set(pool, state);
  return state;
}

function watchedOf(pool: PgPool): Watched {
  const state = watched.get(pool);
  if (!state) throw new Error(`${pool.name} was not opened with openPool()`);
  return state;
}

/** Those of the client, and those of the protocol below it, where cursors listen. */
function listenersOf(client: PgClient): Listeners {
  const counts = (emitter: EventEmitter, prefix: string): [string, number][] =>
    emitter.eventNames().map((event) => [prefix + String(event), emitter.listenerCount(event)]);
  return Object.fromEntries([...counts(client, ''), ...counts(client.connection, 'connection.')]);
}
