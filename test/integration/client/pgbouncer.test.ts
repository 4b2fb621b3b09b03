import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createPool, type PgOptions, type PgPool } from 'nestjs-pg';
import { recordMessages } from '../../support/client-messages.js';
import { findPgBouncer, startPgBouncer, type PgBouncer } from '../../support/pgbouncer.js';
import { adminQuery, terminateBackends, useServer, waitFor } from '../../support/postgres.js';
import { startProxy } from '../../support/proxy.js';

const found = await findPgBouncer();
if (typeof found === 'string') console.info(`The tests with PgBouncer are skipped: ${found}`);
const version = typeof found === 'string' ? undefined : found;

let warnings: string[];
const onWarning = ({ message }: Error): void => void (message.includes('statement cache') && warnings.push(message));

beforeEach(() => {
  warnings = [];
  process.on('warning', onWarning);
});
afterEach(() => void process.off('warning', onWarning));

const told = async (): Promise<string[]> => {
  await new Promise(setImmediate);
  return warnings;
};

describe.skipIf(!version)(`through PgBouncer ${version?.text ?? '(none)'}`, () => {
  const server = useServer();

  function openPool({ host, port }: { host: string; port: number }, pool: PgOptions['pool'] = {}): PgPool {
    const { user, database } = server();
    return createPool({ host, port, user, password: 'unasked', database, ssl: false, pool });
  }

  const start = (settings: Record<string, string | number>): Promise<PgBouncer> => startPgBouncer(server(), settings);

  /** Statements of many texts on many connections, each result checked. */
  async function work(pool: PgPool, rounds = 4): Promise<void> {
    for (let round = 0; round < rounds; round++) {
      const results = await Promise.all(
        Array.from({ length: 60 }, (_, at) => pool.query(`SELECT $1::int AS at, ${at % 7} AS text`, [at])),
      );
      expect(results.map(({ rows }) => rows)).toEqual(results.map((_, at) => [{ at, text: at % 7 }]));
    }
  }

  async function transactions(pool: PgPool): Promise<void> {
    await Promise.all(
      Array.from({ length: 20 }, (_, at) =>
        pool.withConnection(async (lease) => {
          await lease.query('BEGIN');
          expect((await lease.query('SELECT $1::int AS at', [at])).rows).toEqual([{ at }]);
          expect((await lease.query('SELECT 7 AS seven')).rows).toEqual([{ seven: 7 }]);
          await lease.query('COMMIT');
        }),
      ),
    );
  }

  describe('session pooling', () => {
    it('names statements, and warns of nothing', async () => {
      await using bouncer = await start({ pool_mode: 'session', default_pool_size: 4 });
      await using pool = openPool(bouncer, { max: 3 });
      await work(pool);
      await transactions(pool);
      const { rows } = await pool.query<{ name: string }>({
        text: 'SELECT name FROM pg_prepared_statements',
        queryMode: 'extended',
      } as pg.QueryConfig);
      expect(rows.filter(({ name }) => name.startsWith('nestjs_pg_')).length).toBeGreaterThan(0);
      expect(await told()).toEqual([]);
    });

    it.each(['DISCARD ALL', ''])(
      'serves one pool after another on the same sessions: server_reset_query %j',
      async (reset) => {
        await using bouncer = await start({ pool_mode: 'session', default_pool_size: 1, server_reset_query: reset });
        for (let turn = 0; turn < 3; turn++) {
          await using pool = openPool(bouncer, { max: 1 });
          await work(pool, 2);
          await transactions(pool);
        }
        expect(await told()).toEqual([]);
      },
    );
  });

  describe.each(['transaction', 'statement'] as const)('%s pooling that does not keep prepared statements', (mode) => {
    const settings = { pool_mode: mode, ...(version?.canKeepStatements ? { max_prepared_statements: 0 } : {}) };

    /** PgBouncer may give a client the same session again and again. */
    const detect = async (pool: PgPool): Promise<void> => {
      for (let round = 0; round < 200 && (await told()).length === 0; round++) await work(pool, 1);
    };

    it('is detected once, with one warning, and no statement is lost', async () => {
      await using bouncer = await start(settings);
      await using pool = openPool(bouncer, { max: 6 });
      await detect(pool);
      expect(await told()).toEqual([expect.stringMatching(/nestjs_pg_\w+.*pooler.*statementCache: false/)]);
      if (mode === 'transaction') await transactions(pool);
      await work(pool);
      expect(await told()).toHaveLength(1);
      expect(pool.stats().connects).toBeLessThanOrEqual(6);
    });

    it('gets no named statement any more after that', async () => {
      await using bouncer = await start(settings);
      await using proxy = await startProxy({ host: bouncer.host, port: bouncer.port });
      const sent = recordMessages(proxy);
      await using pool = openPool(proxy, { max: 3 });
      await detect(pool);
      expect(warnings).toHaveLength(1);
      sent.take();
      await work(pool);
      const words = sent.words();
      expect(words.length).toBeGreaterThan(100);
      expect(words.filter((word) => word.includes('nestjs_pg_'))).toEqual([]);
    });

    it('does not matter with statementCache: false', async () => {
      await using bouncer = await start(settings);
      await using pool = openPool(bouncer, { max: 6, statementCache: false });
      await work(pool);
      expect(await told()).toEqual([]);
    });
  });

  describe.skipIf(!version?.canKeepStatements).each(['transaction', 'statement'] as const)(
    '%s pooling that keeps prepared statements',
    (mode) => {
      const settings = { pool_mode: mode, max_prepared_statements: 200 };

      it('works by name, and warns of nothing', async () => {
        await using bouncer = await start(settings);
        await using proxy = await startProxy({ host: bouncer.host, port: bouncer.port });
        const sent = recordMessages(proxy);
        await using pool = openPool(proxy, { max: 6 });
        await work(pool);
        if (mode === 'transaction') await transactions(pool);
        sent.take();
        await work(pool);
        expect(sent.words().some((word) => word.startsWith('Bind nestjs_pg_'))).toBe(true);
        expect(await told()).toEqual([]);
      });

      it.each([
        ['fewer in PgBouncer than here', { max_prepared_statements: 2 }, {}],
        ['fewer here than texts', {}, { statementCache: 2 }],
      ])('works with bounds that bind: %s', async (_, bounds, pooled) => {
        await using bouncer = await start({ ...settings, ...bounds });
        await using pool = openPool(bouncer, { max: 3, ...pooled });
        await work(pool, 8);
        expect(await told()).toEqual([]);
      });

      it('works on after DEALLOCATE ALL and DISCARD ALL', async () => {
        await using bouncer = await start(settings);
        await using pool = openPool(bouncer, { max: 2 });
        for (const text of ['DEALLOCATE ALL', 'DISCARD ALL']) {
          await work(pool, 2);
          await pool.query(text);
          await work(pool, 2);
        }
        expect(await told()).toEqual([]);
      });

      it('works on after its sessions have been replaced', async () => {
        await using bouncer = await start(settings);
        await using pool = openPool(bouncer, { max: 2 });
        for (let round = 0; round < 3; round++) {
          await work(pool, 2);
          await terminateBackends(server());
        }
        expect(await told()).toEqual([]);
      });

      // It knows statements by their text and keeps them: one that is parsed anew under another name is still the old one.
      it('gives the right rows when the schema changes, though the statement stays stale in PgBouncer', async () => {
        await using bouncer = await start(settings);
        await using pool = openPool(bouncer, { max: 2 });
        await adminQuery(server(), 'DROP TABLE IF EXISTS stale');
        await adminQuery(server(), 'CREATE TABLE stale AS SELECT 1 AS a');
        const burst = (): Promise<unknown[]> =>
          Promise.all(Array.from({ length: 10 }, async () => (await pool.query('SELECT * FROM stale')).rows));
        for (let round = 0; round < 3; round++) await burst();
        await adminQuery(server(), 'ALTER TABLE stale ADD COLUMN b int');
        for (let round = 0; round < 3; round++) {
          expect(await burst()).toEqual(Array.from({ length: 10 }, () => [{ a: 1, b: null }]));
        }
        expect(await told()).toEqual([]);
      });

      it('fails few transactions when the schema changes', async () => {
        await using bouncer = await start(settings);
        await using pool = openPool(bouncer, { max: 1 });
        await adminQuery(server(), 'DROP TABLE IF EXISTS stale');
        await adminQuery(server(), 'CREATE TABLE stale AS SELECT 1 AS a');
        for (let use = 0; use < 6; use++) await pool.query('SELECT * FROM stale');
        await adminQuery(server(), 'ALTER TABLE stale ADD COLUMN b int');
        if (mode === 'statement') return;
        let failures = 0;
        for (let round = 0; round < 12; round++) {
          await using lease = await pool.connect();
          await lease.query('BEGIN');
          try {
            expect((await lease.query('SELECT * FROM stale')).rows).toEqual([{ a: 1, b: null }]);
            await lease.query('COMMIT');
          } catch (error) {
            expect(error).toMatchObject({ code: '0A000' });
            failures++;
            await lease.query('ROLLBACK');
          }
        }
        expect(failures).toBeLessThanOrEqual(3);
      });
    },
  );

  it('is told the same by stock pg: what we call detection is an error there', async () => {
    await using bouncer = await start({
      pool_mode: 'transaction',
      ...(version?.canKeepStatements ? { max_prepared_statements: 0 } : {}),
    });
    const { user, database } = server();
    const client = new pg.Client({ host: bouncer.host, port: bouncer.port, user, password: 'unasked', database });
    await client.connect();
    // The other session has to be opened first: somebody else keeps one busy.
    const busy = new pg.Client({ host: bouncer.host, port: bouncer.port, user, password: 'unasked', database });
    await busy.connect();
    await busy.query('BEGIN');
    await client.query('SELECT 1');
    await busy.query('COMMIT');
    const errors = new Set<unknown>();
    await waitFor(
      async () => {
        await client.query({ name: 'stock', text: 'SELECT 1' }).catch(({ code }) => errors.add(code));
        return errors.size > 0;
      },
      { message: 'stock pg to meet a session without its statement' },
    );
    expect([...errors]).toEqual([expect.stringMatching(/^(26000|42P05)$/)]);
    await Promise.all([client.end(), busy.end()]);
  });
});
