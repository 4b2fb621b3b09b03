import { PrismaPg } from '@prisma/adapter-pg';
import { sql as typed } from '@pgtyped/runtime';
import { sql as drizzled } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import makeKnex from 'knex';
import { Kysely, PostgresDialect, sql, type PostgresPool } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import * as zapatos from 'zapatos/db';
import { createPool, type PgPool } from 'nestjs-pg';
import { adminQuery, useServer } from '../support/postgres.js';

// What docs/transactions.md says of libraries that take the pool.

const server = useServer();
const FAILURE = new Error('undo this');

let pool: PgPool;

beforeAll(async () => {
  await adminQuery(server(), 'CREATE TABLE entry (name text NOT NULL)');
  pool = createPool({ connectionString: server().connectionString });
});

afterAll(async () => {
  await pool?.end();
});

beforeEach(async () => {
  await adminQuery(server(), 'TRUNCATE entry');
});

/** What is there after a transaction in which `add` was called, and which was rolled back. */
async function leftAfterRollback(add: () => PromiseLike<unknown>): Promise<unknown[]> {
  const failing = pool.transaction(async () => {
    await add();
    throw FAILURE;
  });
  await expect(failing).rejects.toBe(FAILURE);
  return (await adminQuery(server(), 'SELECT name FROM entry')).map(({ name }) => name);
}

/** Kysely borrows a connection for everything: this one borrows none where there is a transaction. */
function poolForKysely(of: PgPool): PostgresPool {
  return {
    connect: async () =>
      of.currentTransaction ? { query: of.query.bind(of), release: () => undefined } : of.connect(),
    end: () => of.end(),
  };
}

const insertTyped = typed<{ params: { name: string }; result: void }>`INSERT INTO entry (name) VALUES ($name!)`;

describe('take part in the ambient transaction', () => {
  it.each<[string, () => PromiseLike<unknown>]>([
    ['Drizzle', () => drizzle(pool).execute(drizzled`INSERT INTO entry VALUES ('one')`)],
    ['PgTyped', () => insertTyped.run({ name: 'one' }, pool)],
    ['Zapatos', () => zapatos.sql`INSERT INTO entry VALUES ('one')`.run(pool)],
    [
      "Prisma's adapter",
      async () => {
        const adapter = await new PrismaPg(pool).connect();
        return adapter.executeRaw({ sql: `INSERT INTO entry VALUES ('one')`, args: [], argTypes: [] });
      },
    ],
    [
      'Kysely, over a pool that borrows nothing',
      () => sql`INSERT INTO entry VALUES ('one')`.execute(kyselyOn(poolForKysely(pool))),
    ],
  ])('%s', async (_, add) => {
    expect(await leftAfterRollback(add)).toEqual([]);
    await pool.transaction(async () => void (await add()));
    expect(await adminQuery(server(), 'SELECT name FROM entry')).toEqual([{ name: 'one' }]);
  });
});

describe('take a connection of their own, and no part', () => {
  it.each<[string, () => PromiseLike<unknown>]>([
    ['Kysely, over the pool itself', () => sql`INSERT INTO entry VALUES ('one')`.execute(kyselyOn(pool))],
    [
      "Kysely's transaction()",
      () =>
        kyselyOn(pool)
          .transaction()
          .execute((trx) => sql`INSERT INTO entry VALUES ('one')`.execute(trx)),
    ],
    [
      "Drizzle's transaction()",
      () => drizzle(pool).transaction((tx) => tx.execute(drizzled`INSERT INTO entry VALUES ('one')`)),
    ],
    [
      "Zapatos' transaction()",
      () =>
        zapatos.transaction(pool, zapatos.IsolationLevel.ReadCommitted, (client) =>
          zapatos.sql`INSERT INTO entry VALUES ('one')`.run(client),
        ),
    ],
    [
      'Knex',
      async () => {
        const knex = makeKnex({ client: 'pg', connectionPool: pool } as object);
        await knex('entry').insert({ name: 'one' });
      },
    ],
  ])('%s', async (_, add) => {
    expect(await leftAfterRollback(add)).toEqual(['one']);
  });
});

it("Kysely's transaction() over a pool that borrows nothing is refused inside of one, and works outside", async () => {
  const db = kyselyOn(poolForKysely(pool));
  const add = (): Promise<unknown> =>
    db.transaction().execute((trx) => sql`INSERT INTO entry VALUES ('one')`.execute(trx));
  await expect(pool.transaction(() => add())).rejects.toMatchObject({ code: 'PG_TRANSACTION_BUSY' });
  await add();
  expect(await adminQuery(server(), 'SELECT name FROM entry')).toEqual([{ name: 'one' }]);
});

function kyselyOn(on: PostgresPool): Kysely<unknown> {
  return new Kysely({ dialect: new PostgresDialect({ pool: on }) });
}
