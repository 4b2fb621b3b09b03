import { setImmediate as tick } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, expect } from 'vitest';
import type { PgOptions, PgPool } from 'nestjs-pg';
import { openPool, server } from '../../conformance/libraries/pool-under-test.js';
import { recordMessages, type ClientMessages } from '../../support/client-messages.js';
import { adminQuery } from '../../support/postgres.js';
import { startProxy, type FaultProxy } from '../../support/proxy.js';

export {
  expectAllIdle,
  expectNothingLeft,
  killBackend,
  openPool,
  server,
  warningsOf,
} from '../../conformance/libraries/pool-under-test.js';

const unhandled: unknown[] = [];
const note = (reason: unknown): void => void unhandled.push(reason);

beforeAll(() => adminQuery(server(), 'CREATE TABLE item (id int PRIMARY KEY, name text)'));
beforeEach(async () => {
  process.on('unhandledRejection', note);
  await adminQuery(server(), 'TRUNCATE item');
});
afterEach(async () => {
  await tick();
  await tick();
  process.off('unhandledRejection', note);
  expect(unhandled.splice(0)).toEqual([]);
});

/** What the table holds, as everybody sees it. */
export async function items(): Promise<number[]> {
  const rows = await adminQuery<{ id: number }>(server(), 'SELECT id FROM item ORDER BY id');
  return rows.map(({ id }) => id);
}

/** A statement that leaves a mark. */
export function insert(id: number): { text: string; values: unknown[] } {
  return { text: 'INSERT INTO item (id) VALUES ($1)', values: [id] };
}

/** What an operation rejects with. */
export async function failureOf(work: PromiseLike<unknown>): Promise<Error & { code?: string; cause?: unknown }> {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  throw new Error('it was to fail, and succeeded');
}

export interface Watched extends AsyncDisposable {
  readonly pool: PgPool;
  readonly proxy: FaultProxy;
  readonly messages: ClientMessages;
}

/** A pool of one connection behind a proxy that writes down what it says. It is open, and has been silent since. */
export async function watchPool(name: string, options: PgOptions = {}): Promise<Watched> {
  const proxy = await startProxy({ host: '127.0.0.1', port: server().port });
  const messages = recordMessages(proxy);
  const url = new URL(server().connectionString);
  url.host = `${proxy.host}:${proxy.port}`;
  const connectionString = url.href;
  const pool = openPool(name, { connectionString, ...options, pool: { max: 1, ...options.pool } });
  await pool.open();
  messages.take();
  return {
    pool,
    proxy,
    messages,
    [Symbol.asyncDispose]: async () => {
      proxy.heal();
      await pool.drain(1);
      await proxy.close();
    },
  };
}

/** How often the client has waited for the server: each Sync and each simple query ends with an answer that is awaited. */
export function roundTrips(words: readonly string[]): number {
  return words.filter((word) => word === 'Sync' || word.startsWith('Query')).length;
}
