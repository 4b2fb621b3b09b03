import { expect, it } from 'vitest';
import { createPool, type PgOptions, type PgPool } from 'nestjs-pg';
import { useServer } from '../../support/postgres.js';

const server = useServer();

function openPool(name: string, options: PgOptions = {}): PgPool {
  return createPool({
    connectionString: server().connectionString,
    application_name: name,
    pool: { max: 1 },
    ...options,
  });
}

const raise = (sqlState: string): string => `DO $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = '${sqlState}'; END $$`;

it.each(['08006', '57P01', '57P02', '57P03', '57P05', '25P03'])(
  '%s of a statement retires its connection',
  async (code) => {
    await using pool = openPool('fatal');
    await expect(pool.query(raise(code))).rejects.toMatchObject({ code });
    await pool.query('SELECT 1');
    expect(pool.stats()).toMatchObject({ connects: 2, retired: { fatal: 1 } });
  },
);

it.each(['22012', '23505', '25006', '40001', '40P01', '42601', '53200', '57014', '0A000', '26000', 'XX000', 'P0001'])(
  '%s of a statement costs no connection',
  async (code) => {
    await using pool = openPool('harmless');
    await expect(pool.query(raise(code))).rejects.toMatchObject({ code });
    const lease = await pool.connect();
    await expect(lease.query(raise(code))).rejects.toMatchObject({ code });
    lease.release();
    await pool.query('SELECT 1');
    expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
  },
);

it.each(['read-write', 'primary'] as const)(
  'a server that takes no writes any more is left by a pool that asks for %s',
  async (target_session_attrs) => {
    await using pool = openPool('writes', { target_session_attrs });
    const lease = await pool.connect();
    await lease.query('BEGIN READ ONLY');
    await expect(lease.query('CREATE TABLE never (id int)')).rejects.toMatchObject({ code: '25006' });
    await lease.query('ROLLBACK');
    lease.release();
    await pool.query('SELECT 1');
    expect(pool.stats()).toMatchObject({ connects: 2, retired: { fatal: 1 } });
  },
);
