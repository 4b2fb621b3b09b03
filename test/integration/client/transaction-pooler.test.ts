import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createPool, type PgOptions, type PgPool } from 'nestjs-pg';
import { recordMessages } from '../../support/client-messages.js';
import { adminQuery, useServer } from '../../support/postgres.js';
import { startProxy } from '../../support/proxy.js';
import {
  startTransactionPooler,
  type PoolerOptions,
  type TransactionPooler,
} from '../../support/transaction-pooler.js';

const server = useServer();

let pooler: TransactionPooler | undefined;
let warnings: string[];
const onWarning = ({ message }: Error): void => void (message.includes('statement cache') && warnings.push(message));

beforeEach(() => {
  warnings = [];
  process.on('warning', onWarning);
});
afterEach(async () => {
  process.off('warning', onWarning);
  vi.resetModules();
  await pooler?.close();
  pooler = undefined;
});

type Create = typeof createPool;

function openPool(
  at: { host: string; port: number },
  pool: PgOptions['pool'] = {},
  create: Create = createPool,
): PgPool {
  const { user, database } = server();
  return create({ host: at.host, port: at.port, user, password: 'unasked', database, ssl: false, pool });
}

async function start(options?: PoolerOptions): Promise<TransactionPooler> {
  pooler = await startTransactionPooler(server(), options);
  return pooler;
}

/** Warnings are told on the next tick. */
const told = async (): Promise<string[]> => {
  await new Promise(setImmediate);
  return warnings;
};

describe.each(['transaction', 'statement'] as const)(
  'a pooler in %s mode that does not keep prepared statements',
  (mode) => {
    it('is detected by its first error; no statement is lost, and nobody hears of it but for one warning', async () => {
      // Two texts in turn would always find their own of two sessions.
      await using pool = openPool(await start({ mode, sessions: 3 }), { max: 1 });
      for (let use = 0; use < 20; use++) {
        for (const text of ['SELECT $1::int AS one', 'SELECT $1::int AS one, 2 AS two']) {
          expect((await pool.query(text, [use])).rows).toMatchObject([{ one: use }]);
        }
      }
      expect(await told()).toEqual([
        expect.stringMatching(/nestjs_pg_\w+" does not exist.*pooler.*statementCache: false/),
      ]);
      expect(pool.stats()).toMatchObject({ connects: 1, total: 1 });
    });

    it('gets no named statement any more after that', async () => {
      const { host, port } = await start({ mode });
      await using proxy = await startProxy({ host, port });
      const sent = recordMessages(proxy);
      await using pool = openPool(proxy, { max: 1 });
      for (let use = 0; use < 6; use++) await pool.query('SELECT 1');
      expect(await told()).toHaveLength(1);
      sent.take();
      for (let use = 0; use < 6; use++) {
        await pool.query('SELECT 1');
        await pool.query('SELECT $1::int', [use]);
      }
      expect(sent.words().filter((word) => word.includes('nestjs_pg_'))).toEqual([]);
    });

    it('is detected once by many connections at the same time, and none of their statements is lost', async () => {
      await using pool = openPool(await start({ mode }), { max: 8 });
      const ask = async (at: number): Promise<unknown> =>
        (await pool.query(`SELECT $1::int AS at, ${at % 5} AS text`, [at])).rows;
      for (let round = 0; round < 5; round++) {
        const rows = await Promise.all(Array.from({ length: 100 }, (_, at) => ask(at)));
        expect(rows).toEqual(rows.map((_, at) => [{ at, text: at % 5 }]));
      }
      expect(await told()).toHaveLength(1);
    });

    it('runs a statement once, however it is healed', async () => {
      await using pool = openPool(await start({ mode }), { max: 1 });
      await pool.query('DROP TABLE IF EXISTS once');
      await pool.query('CREATE TABLE once (at int)');
      for (let at = 0; at < 10; at++) await pool.query('INSERT INTO once VALUES ($1)', [at]);
      const { rows } = await pool.query('SELECT array_agg(at ORDER BY at) AS at FROM once');
      expect(rows).toEqual([{ at: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] }]);
      expect(await told()).toHaveLength(1);
    });

    it('does not matter with statementCache: false', async () => {
      await using pool = openPool(await start({ mode }), { max: 3, statementCache: false });
      const results = await Promise.all(
        Array.from({ length: 50 }, (_, at) => pool.query('SELECT $1::int AS at', [at])),
      );
      expect(results.map(({ rows }) => rows)).toEqual(results.map((_, at) => [{ at }]));
      expect(await told()).toEqual([]);
    });

    // Names are the pooler's clients' business: those of one process must mean nothing to another.
    it('never runs a statement of another process under the same name', async () => {
      const at = await start({ mode });
      const pools: PgPool[] = [];
      for (let process = 0; process < 2; process++) {
        // A module that is loaded anew counts anew, as another process does.
        vi.resetModules();
        const { createPool: create } = (await import('nestjs-pg')) as { createPool: Create };
        pools.push(openPool(at, { max: 1 }, create));
      }
      for (let use = 0; use < 30; use++) {
        for (const [process, pool] of pools.entries()) {
          for (let text = 0; text < 3; text++) {
            const { rows } = await pool.query(`SELECT ${process} AS process, ${text} AS text, $1::int AS use`, [use]);
            expect(rows).toEqual([{ process, text, use }]);
          }
        }
      }
      await Promise.all(pools.map((pool) => pool.end()));
    });
  },
);

describe('a pooler in transaction mode that does not keep prepared statements', () => {
  const text = 'SELECT $1::int AS one';

  /** Uses the statement until it is named on one of the pooler's two sessions, and the other one comes next. */
  async function nameIt(pool: PgPool): Promise<void> {
    for (let use = 0; use < 2; use++) await pool.query(text, [use]);
  }

  it('tells the error where it is detected inside a transaction; the next one works', async () => {
    await using pool = openPool(await start(), { max: 1 });
    await nameIt(pool);
    const lease = await pool.connect();
    await lease.query('BEGIN');
    await expect(lease.query(text, [1])).rejects.toMatchObject({ code: '26000' });
    await lease.query('ROLLBACK');
    for (let use = 0; use < 3; use++) {
      await lease.query('BEGIN');
      expect((await lease.query(text, [use])).rows).toEqual([{ one: use }]);
      await lease.query('COMMIT');
    }
    lease.release();
    expect(await told()).toHaveLength(1);
  });

  it('fails no transaction on other connections once it has been detected', async () => {
    await using pool = openPool(await start({ sessions: 3 }), { max: 2 });
    const [one, other] = await Promise.all([pool.connect(), pool.connect()]);
    for (let use = 0; use < 2; use++) for (const lease of [one, other]) await lease.query(text, [use]);
    // Three sessions in turn: whoever asks meets one that does not know its name.
    while ((await told()).length === 0) expect((await one.query(text, [7])).rows).toEqual([{ one: 7 }]);
    for (let use = 0; use < 6; use++) {
      await other.query('BEGIN');
      expect((await other.query(text, [use])).rows).toEqual([{ one: use }]);
      await other.query('COMMIT');
    }
    for (const lease of [one, other]) lease.release();
    expect(await told()).toHaveLength(1);
  });

  it('shares its two sessions among many transactions', async () => {
    await using pool = openPool(await start(), { max: 6 });
    await pool.query('DROP TABLE IF EXISTS counters');
    await pool.query('CREATE TABLE counters (count int)');
    await pool.query('INSERT INTO counters VALUES (0)');
    await nameIt(pool);
    await pool.query(text, [1]);
    await Promise.all(
      Array.from({ length: 40 }, () =>
        pool.withConnection(async (lease) => {
          await lease.query('BEGIN');
          const { rows } = await lease.query<{ count: number }>('SELECT count FROM counters FOR UPDATE');
          await lease.query('UPDATE counters SET count = $1', [(rows[0]?.count ?? 0) + 1]);
          await lease.query('COMMIT');
        }),
      ),
    );
    expect((await pool.query('SELECT count FROM counters')).rows).toEqual([{ count: 40 }]);
    expect(pooler?.served).toBeGreaterThan(40);
  });
});

describe('a pooler in transaction mode that keeps prepared statements', () => {
  const text = 'SELECT * FROM kept';
  const values = [[1, 'one']];

  async function prepareTable(pool: PgPool): Promise<void> {
    await pool.query('DROP TABLE IF EXISTS kept');
    await pool.query('CREATE TABLE kept (a int, b text)');
    await pool.query('INSERT INTO kept VALUES ($1, $2)', values[0]);
  }

  it('works by name, and warns of nothing', async () => {
    const { host, port } = await start({ keepsStatements: true, sessions: 3 });
    await using proxy = await startProxy({ host, port });
    const sent = recordMessages(proxy);
    await using pool = openPool(proxy, { max: 6, statementCache: 3 });
    for (let round = 0; round < 6; round++) {
      const results = await Promise.all(
        Array.from({ length: 60 }, (_, at) => pool.query(`SELECT $1::int AS at, ${at % 5} AS text`, [at])),
      );
      expect(results.map(({ rows }) => rows)).toEqual(results.map((_, at) => [{ at, text: at % 5 }]));
      await expect(pool.query('SELECT * FROM no_such_table')).rejects.toMatchObject({ code: '42P01' });
      await expect(pool.query('SELECT $1::int AS at', ['no number'])).rejects.toMatchObject({ code: '22P02' });
    }
    expect(sent.words().some((word) => word.startsWith('Bind nestjs_pg_'))).toBe(true);
    expect(await told()).toEqual([]);
  });

  /** What the table becomes, on which nothing but the session that has not met the statement yet gives no error. */
  const CHANGES: [what: string, change: string, rows: unknown[]][] = [
    ['a column has another name', 'ALTER TABLE kept RENAME COLUMN a TO id', [{ id: 1, b: 'one' }]],
    ['a column has another type', 'ALTER TABLE kept ALTER COLUMN a TYPE text', [{ a: '1', b: 'one' }]],
    [
      'the columns have changed their names',
      'ALTER TABLE kept RENAME a TO x; ALTER TABLE kept RENAME b TO a; ALTER TABLE kept RENAME x TO b',
      [{ b: 1, a: 'one' }],
    ],
    ['there is one column more', 'ALTER TABLE kept ADD COLUMN c int', [{ a: 1, b: 'one', c: null }]],
    ['there is one column less', 'ALTER TABLE kept DROP COLUMN a', [{ b: 'one' }]],
  ];

  it.each(CHANGES)('gives the right rows where %s', async (_, change, rows) => {
    await using pool = openPool(await start({ keepsStatements: true }), { max: 1 });
    await prepareTable(pool);
    // The second use and the fourth meet the same session; the other one has not parsed the statement.
    await pool.query(text);
    await pool.query(text);
    await pool.query('SELECT 1');
    expect((await pool.query(text)).rows).toEqual([{ a: 1, b: 'one' }]);
    await adminQuery(server(), change);
    for (let use = 0; use < 6; use++) {
      const result = await pool.query(text);
      expect({ use, rows: result.rows }).toEqual({ use, rows });
      expect(result.fields.map(({ name }) => name)).toEqual(Object.keys(rows[0] as object));
    }
    expect(pool.stats().connects).toBe(1);
    expect(await told()).toEqual([]);
  });

  // It knows statements by their text: one that is parsed anew under another name is still the old one.
  it.each(CHANGES)(
    'gives the right rows though the statement is out of date on all sessions: %s',
    async (_, change, rows) => {
      await using pool = openPool(await start({ keepsStatements: true }), { max: 1 });
      await prepareTable(pool);
      for (let use = 0; use < 7; use++) await pool.query(text);
      await adminQuery(server(), change);
      for (let use = 0; use < 6; use++) expect({ use, rows: (await pool.query(text)).rows }).toEqual({ use, rows });
      expect(pool.stats().connects).toBe(1);
      expect(await told()).toEqual([]);
    },
  );
});
