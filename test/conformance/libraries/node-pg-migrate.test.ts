import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PG_MIGRATE_LOCK_ID, runner, type RunnerOption } from 'node-pg-migrate';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PgLease, PgPool } from 'nestjs-pg';
import { adminQuery } from '../../support/postgres.js';
import { waitFor } from '../../support/wait-for.js';
import { kill, openPoolOfOne, pidOf } from './one-connection.js';
import { expectNothingLeft, openPool, server, warningsOf } from './pool-under-test.js';

const say = (): void => undefined;
const logger = { debug: say, info: say, warn: say, error: say };

/** Folders of migrations by what they are. */
const folders = { good: '', failing: '' };

beforeAll(async () => {
  const good = {
    '1_item.sql': '-- Up Migration\nCREATE TABLE item (id int PRIMARY KEY);\n-- Down Migration\nDROP TABLE item;\n',
    '2_name.js': `exports.up = (pgm) => pgm.addColumns('item', { name: { type: 'text', notNull: true, default: '' } });
      exports.down = (pgm) => pgm.dropColumns('item', ['name']);`,
    '3_rows.js': `exports.up = async (pgm) => {
        const [{ one }] = await pgm.db.select('SELECT 1 AS one');
        pgm.sql("INSERT INTO item VALUES (" + one + ", 'first')");
      };
      exports.down = (pgm) => pgm.sql('DELETE FROM item');`,
  };
  folders.good = await folderOf(good);
  folders.failing = await folderOf({ ...good, '4_wrong.sql': 'CREATE TABLE half (id int);\nSELECT 1/0;\n' });
});

afterAll(async () => {
  await Promise.all(Object.values(folders).map((folder) => rm(folder, { recursive: true, force: true })));
});

async function folderOf(files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nestjs-pg-migrations-'));
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  return folder;
}

/** The names of the migrations that have been run on this connection, in a schema that is the pool's. */
async function migrate(lease: PgLease, pool: PgPool, options: Partial<RunnerOption> = {}): Promise<string[]> {
  const run = await runner({
    dbClient: lease,
    dir: folders.good,
    direction: 'up',
    migrationsTable: 'migration',
    schema: schemaOf(pool),
    createSchema: true,
    migrationsSchema: schemaOf(pool),
    logger,
    ...options,
  });
  return run.map(({ name }) => name);
}

/** The same, on a connection that is borrowed for it, as its README says. */
function migrateOn(pool: PgPool, options?: Partial<RunnerOption>): Promise<string[]> {
  return pool.withConnection((lease) => migrate(lease, pool, options));
}

const schemaOf = (pool: PgPool): string => pool.name.replace(/-/g, '_');

async function tablesOf(pool: PgPool): Promise<unknown[]> {
  const rows = await adminQuery(
    server(),
    'SELECT table_name AS name FROM information_schema.tables WHERE table_schema = $1 ORDER BY 1',
    [schemaOf(pool)],
  );
  return rows.map(({ name }) => name);
}

/** Sessions that hold, or wait for, the lock which keeps two migrations apart. */
async function lockHolders(): Promise<number> {
  return (await adminQuery(server(), "SELECT FROM pg_locks WHERE locktype = 'advisory'")).length;
}

describe('node-pg-migrate', () => {
  it('goes up and down on a borrowed connection, which is good for others afterwards', async () => {
    const { pool, pid } = await openPoolOfOne('migrate');
    expect(await migrateOn(pool)).toEqual(['1_item', '2_name', '3_rows']);
    expect(await migrateOn(pool)).toEqual([]);
    const { rows } = await pool.query(`SELECT * FROM ${schemaOf(pool)}.item`);
    expect(rows).toEqual([{ id: 1, name: 'first' }]);
    expect(await migrateOn(pool, { direction: 'down', count: 2 })).toEqual(['3_rows', '2_name']);
    expect(await migrateOn(pool, { direction: 'down' })).toEqual(['1_item']);
    expect(await tablesOf(pool)).toEqual(['migration']);
    expect(await pidOf(pool)).toBe(pid);
    expect(await lockHolders()).toBe(0);
    expect(warningsOf(pool)).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('undoes everything when one migration fails, all being in one transaction', async () => {
    const { pool, pid } = await openPoolOfOne('migrate-fails');
    const failing = migrateOn(pool, { dir: folders.failing, singleTransaction: true });
    await expect(failing).rejects.toMatchObject({ code: '22012' });
    expect(await tablesOf(pool)).toEqual(['migration']);
    expect(await lockHolders()).toBe(0);
    expect(await migrateOn(pool, { singleTransaction: true })).toEqual(['1_item', '2_name', '3_rows']);
    expect(await pidOf(pool)).toBe(pid);
    expect(warningsOf(pool)).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('leaves its transaction open when one of several fails: it is rolled back, and told of', async () => {
    const { pool, pid } = await openPoolOfOne('migrate-breaks');
    const failing = migrateOn(pool, { dir: folders.failing });
    await expect(failing).rejects.toMatchObject({ code: '22012' });
    expect(await tablesOf(pool)).toEqual(['item', 'migration']);
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(await pidOf(pool)).toBe(pid);
    expect(warningsOf(pool)).toEqual([expect.stringContaining('rolled back')]);
    await expectNothingLeft(pool);
    expect(await lockHolders()).toBe(0);
  });

  // Its unlock fails inside of that transaction, and a lock of the session outlives a ROLLBACK.
  it.each([
    { reset: 'rollback', isLeft: true },
    { reset: 'clean', isLeft: false },
    { reset: 'discard-all', isLeft: false },
  ] as const)('loses or leaves the lock of a run that has failed so, with reset: $reset', async ({ reset, isLeft }) => {
    const { pool } = await openPoolOfOne('migrate-lock', { pool: { max: 1, reset } });
    await expect(migrateOn(pool, { dir: folders.failing })).rejects.toMatchObject({ code: '22012' });
    await pidOf(pool);
    expect(await lockHolders()).toBe(isLeft ? 1 : 0);
    const other = openPool('migrate-other');
    if (isLeft) await expect(migrateOn(other)).rejects.toThrow('Another migration is already running');
    else expect(await migrateOn(other)).toHaveLength(3);
    await expectNothingLeft(other);
    await expectNothingLeft(pool);
    expect(await lockHolders()).toBe(0);
  });

  it('loses the lock with its connection when the borrower releases with the error', async () => {
    const { pool, pid } = await openPoolOfOne('migrate-error');
    const lease = await pool.connect();
    await expect(
      migrate(lease, pool, { dir: folders.failing }).catch((error: unknown) => {
        lease.release(error as Error);
        throw error;
      }),
    ).rejects.toMatchObject({ code: '22012' });
    expect(await pidOf(pool)).not.toBe(pid);
    expect(await lockHolders()).toBe(0);
    expect(await migrateOn(pool)).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('is refused while another one runs, or waits for it', async () => {
    const pool = openPool('migrate-both');
    expect(await migrateOn(pool, { count: 1 })).toEqual(['1_item']);
    const holder = await pool.connect();
    await holder.query('SELECT pg_advisory_lock($1)', [PG_MIGRATE_LOCK_ID]);
    await expect(migrateOn(pool)).rejects.toThrow('Another migration is already running');
    const waiting = migrateOn(pool, { advisoryLockMode: 'wait' });
    await waitFor(async () => (await lockHolders()) === 2, { message: 'the second run to wait for the lock' });
    await holder.query('SELECT pg_advisory_unlock($1)', [PG_MIGRATE_LOCK_ID]);
    expect(await waiting).toEqual(['2_name', '3_rows']);
    holder.release();
    await expectNothingLeft(pool);
    expect(await lockHolders()).toBe(0);
  });

  it('fails when its backend is killed, and the next run finishes the work', async () => {
    const { pool, pid } = await openPoolOfOne('migrate-killed');
    const lease = await pool.connect();
    const query = lease.query.bind(lease) as (...args: unknown[]) => unknown;
    // Killed in front of the statement that records the second migration.
    Object.assign(lease, {
      query: async (...args: unknown[]) => {
        if (String(args[0]).includes("'2_name'")) await kill(pid);
        return query(...args);
      },
    });
    await expect(migrate(lease, pool)).rejects.toThrow();
    lease.release();
    expect(await pidOf(pool)).not.toBe(pid);
    expect(await lockHolders()).toBe(0);
    expect(await migrateOn(pool)).toEqual(['2_name', '3_rows']);
    await expectNothingLeft(pool);
  });
});
