import { setImmediate as tick } from 'node:timers/promises';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import type { PgPool, PgTransaction } from 'nestjs-pg';
import { adminQuery } from '../../support/postgres.js';
import { expectNothingLeft, openPool, server } from './fixture.js';

const TENANTS = ['ada', 'bob', "o'hara", 'dan'];
const FATES = ['returns', 'throws', 'fails', 'dies', 'times out', 'is aborted', 'forgets', 'nests', 'batches'] as const;
type Fate = (typeof FATES)[number];

beforeAll(async () => {
  for (const sql of [
    'CREATE TABLE note (tenant text NOT NULL, text text)',
    'CREATE ROLE reader',
    'GRANT SELECT, INSERT, DELETE ON note TO reader',
    'ALTER TABLE note ENABLE ROW LEVEL SECURITY',
    `CREATE POLICY own ON note USING (tenant = current_setting('app.tenant', true))`,
  ]) {
    await adminQuery(server(), sql);
  }
  for (const tenant of TENANTS)
    await adminQuery(server(), 'INSERT INTO note VALUES ($1, $2)', [tenant, `of ${tenant}`]);
});

const NOTES = 'SELECT DISTINCT tenant FROM note';

/** What a request of a tenant's sees, and then meets its fate. */
async function visit(pool: PgPool, tenant: string, fate: Fate): Promise<string[]> {
  const controller = new AbortController();
  const seen: string[] = [];
  const look = async (queryable: Pick<PgPool, 'query'>): Promise<void> => {
    const { rows } = await queryable.query<{ tenant: string }>(NOTES);
    seen.push(...rows.map((row) => row.tenant));
  };
  const work = async (transaction: PgTransaction): Promise<void> => {
    await look(pool);
    await tick();
    if (fate === 'throws') throw new Error('mine');
    if (fate === 'fails') await transaction.query('SELECT 1/0');
    if (fate === 'dies') await transaction.query('SELECT pg_terminate_backend(pg_backend_pid())');
    if (fate === 'times out') await transaction.query('SELECT pg_sleep(600)');
    if (fate === 'is aborted') {
      const sleeping = transaction.query('SELECT pg_sleep(600)');
      controller.abort();
      await sleeping;
    }
    if (fate === 'forgets') {
      void transaction.query('SELECT pg_sleep(600)');
      return;
    }
    if (fate === 'nests') {
      await pool.transaction((inner) => inner.query('SELECT 1/0')).catch(() => undefined);
      await pool.transaction(() => look(pool));
    }
    if (fate === 'batches') {
      const [result] = await pool.batch([NOTES]);
      seen.push(...(result?.rows.map((row) => row.tenant as string) ?? []));
    }
    await look(transaction);
  };
  const settings: Record<string, string | number> = { 'app.tenant': tenant };
  if (fate === 'times out') settings.statement_timeout = 10;
  await pool.transaction(work, { role: 'reader', settings, signal: controller.signal }).catch(() => undefined);
  return seen;
}

describe('row-level security by a tenant of the transaction', () => {
  it('never shows a tenant what is another’s, whatever happens to the requests around it', async () => {
    const pool = openPool('tenants', { pool: { max: 3 } });
    const request = fc.record({ tenant: fc.constantFrom(...TENANTS), fate: fc.constantFrom(...FATES) });
    let looked = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 20, maxLength: 20 }), async (requests) => {
        await Promise.all(
          requests.map(async ({ tenant, fate }) => {
            const seen = await visit(pool, tenant, fate);
            looked += seen.length;
            expect(new Set([tenant, ...seen])).toEqual(new Set([tenant]));
            // Whoever comes without one, on whatever connection, has none, and is nobody else.
            const { rows } = await pool.query(
              "SELECT coalesce(current_setting('app.tenant', true), '') AS tenant, current_user::text AS name, current_setting('statement_timeout') AS timeout",
            );
            expect(rows).toEqual([{ tenant: '', name: 'postgres', timeout: '0' }]);
            const alone = await pool.transaction((transaction) => transaction.query(NOTES), { role: 'reader' });
            expect(alone.rows).toEqual([]);
          }),
        );
      }),
      { numRuns: 12 },
    );
    expect(looked).toBeGreaterThan(100);
    await expectNothingLeft(pool);
  });

  it('lets a tenant write only what is its own', async () => {
    const pool = openPool('writes', { pool: { max: 1 } });
    const write = (tenant: string): Promise<unknown> =>
      pool.batch([{ text: 'INSERT INTO note VALUES ($1)', values: [tenant] }], {
        role: 'reader',
        settings: { 'app.tenant': 'ada' },
      });
    await write('ada');
    await expect(write('bob')).rejects.toMatchObject({ code: 'PG_BATCH_FAILED', cause: { code: '42501' } });
    await expectNothingLeft(pool);
  });
});
