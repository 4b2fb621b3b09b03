import { EventEmitter } from 'node:events';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createPool, type PgOptions, type PgPool } from 'nestjs-pg';
import { recordMessages, type ClientMessages } from '../../support/client-messages.js';
import { adminQuery, sessionsOf, useServer, waitFor } from '../../support/postgres.js';
import { startProxy } from '../../support/proxy.js';

const server = useServer();

function openPool(name: string, pool: PgOptions['pool'] = {}, options: PgOptions = {}): PgPool {
  return createPool(
    { connectionString: server().connectionString, application_name: name, pool: { max: 1, ...pool }, ...options },
    name,
  );
}

/** A pool whose messages to the server are written down. */
async function openRecorded(
  pool: PgOptions['pool'] = {},
): Promise<{ pool: PgPool; sent: ClientMessages } & AsyncDisposable> {
  const { host, port, user, password, database } = server();
  const proxy = await startProxy({ host, port });
  const sent = recordMessages(proxy);
  const recorded = createPool({
    ...{ host: proxy.host, port: proxy.port, user, password, database, ssl: false },
    pool: { max: 1, ...pool },
  });
  return {
    pool: recorded,
    sent,
    async [Symbol.asyncDispose]() {
      await recorded.end();
      await proxy.close();
    },
  };
}

type Queryable = Pick<PgPool, 'query'>;

/** Statements that the session has by name. The look itself is not named. */
async function named(queryable: Queryable): Promise<string[]> {
  const text = 'SELECT statement FROM pg_prepared_statements ORDER BY prepare_time, name';
  const { rows } = await queryable.query<{ statement: string }>({ text, queryMode: 'extended' } as pg.QueryConfig);
  return rows.map(({ statement }) => statement);
}

/** Takes the messages of those that make and close names, with `new`, `old` for the names. */
const naming = (words: string[]): string[] => words.filter((word) => /^(Parse|Close) ./.test(word));
const roundTrips = (words: string[]): number => words.filter((word) => /^(Sync|Query)/.test(word)).length;

let stock: pg.Client;
let warnings: string[];
const onWarning = ({ message }: Error): void => void warnings.push(message);

beforeAll(async () => {
  stock = new pg.Client({ connectionString: server().connectionString });
  await stock.connect();
});
afterAll(() => stock?.end());
beforeEach(() => {
  warnings = [];
  process.on('warning', onWarning);
  return () => {
    process.off('warning', onWarning);
    expect(warnings.filter((text) => text.includes('statement cache'))).toEqual([]);
  };
});

/** A schema of a test's own, in which stock pg and we look for tables. */
async function useSchema(queryable: Queryable, name: string, ...setUp: string[]): Promise<void> {
  await stock.query(`DROP SCHEMA IF EXISTS ${name} CASCADE; CREATE SCHEMA ${name}; SET search_path TO ${name}`);
  for (const text of setUp) await stock.query(text);
  await queryable.query(`SET search_path TO ${name}`);
}

const plain = (result: unknown): unknown => JSON.parse(JSON.stringify(result));

/** What a caller sees of a result or an error, but for the names of ours. */
async function seen(queryable: Queryable, text: string, values?: unknown[]): Promise<unknown> {
  try {
    const { rows, fields, rowCount, command } = await queryable.query(text, values);
    return plain({ rows, fields, rowCount, command });
  } catch (error) {
    const { code, message } = error as pg.DatabaseError;
    return { code, message: message.replace(/nestjs_pg_\w+/, '') };
  }
}

/** Runs a statement several times on both, and wants the same of both each time. */
async function sameAsStock(queryable: Queryable, text: string, values?: unknown[], times = 3): Promise<void> {
  for (let use = 1; use <= times; use++) {
    const ours = await seen(queryable, text, values);
    expect({ use, ...(ours as object) }).toEqual({ use, ...((await seen(stock, text, values)) as object) });
  }
}

describe('naming', () => {
  it.each([undefined, [1]])('a statement is named by its second use, and not before: values %j', async (values) => {
    await using pool = openPool('second-use');
    const text = values ? 'SELECT $1::int AS one' : 'SELECT 1 AS one';
    expect((await pool.query(text, values)).rows).toEqual([{ one: 1 }]);
    expect(await named(pool)).toEqual([]);
    for (let use = 2; use <= 4; use++) {
      expect((await pool.query(text, values)).rows).toEqual([{ one: 1 }]);
      expect(await named(pool)).toEqual([text]);
    }
  });

  it('a text is one text, whether the pool, a lease or a callback asks', async () => {
    await using pool = openPool('askers');
    const text = 'SELECT 1 AS one';
    await pool.query(text);
    const lease = await pool.connect();
    expect((await lease.query({ text, rowMode: 'array' })).rows).toEqual([[1]]);
    const rows = await new Promise((resolve) => lease.query(text, (_, result) => resolve(result.rows)));
    expect(rows).toEqual([{ one: 1 }]);
    expect(await named(lease)).toEqual([text]);
    lease.release();
  });

  it('counts the uses of the whole pool, and names on each connection that uses it', async () => {
    await using pool = openPool('pool-wide', { max: 3 });
    const text = 'SELECT 1 AS one';
    const leases = await Promise.all([pool.connect(), pool.connect(), pool.connect()]);
    for (const lease of leases) await lease.query(text);
    expect(await Promise.all(leases.map(named))).toEqual([[], [text], [text]]);
    for (const lease of leases) await lease.query(text);
    expect(await Promise.all(leases.map(named))).toEqual([[text], [text], [text]]);
    for (const lease of leases) lease.release();
  });

  it('sends a Parse once, and none after that', async () => {
    await using recorded = await openRecorded();
    const { pool, sent } = recorded;
    const forms: string[][] = [];
    for (let use = 0; use < 4; use++) {
      await pool.query('SELECT $1::int AS one', [use]);
      forms.push(sent.words().filter((word) => word !== 'p'));
    }
    const name = forms[1]?.[0]?.slice('Parse '.length) ?? '';
    expect(name).toMatch(/^nestjs_pg_/);
    expect(forms).toEqual([
      ['Parse ', 'Bind ', 'Describe', 'Execute', 'Sync'],
      [`Parse ${name}`, `Bind ${name}`, 'Describe', 'Execute', 'Sync'],
      [`Bind ${name}`, 'Describe', 'Execute', 'Sync'],
      [`Bind ${name}`, 'Describe', 'Execute', 'Sync'],
    ]);
  });

  it('serves parallel uses of one text, and of many', async () => {
    await using pool = openPool('parallel', { max: 4 });
    const one = await Promise.all(Array.from({ length: 200 }, (_, at) => pool.query('SELECT $1::int AS at', [at])));
    expect(one.map(({ rows }) => rows)).toEqual(one.map((_, at) => [{ at }]));
    const many = await Promise.all(
      Array.from({ length: 300 }, (_, at) => pool.query(`SELECT $1::int + ${at % 7} AS at`, [at])),
    );
    expect(many.map(({ rows }) => rows)).toEqual(many.map((_, at) => [{ at: at + (at % 7) }]));
    expect(pool.stats().connects).toBeLessThanOrEqual(4);
  });

  it('serves parallel uses where texts take the room of each other all the time', async () => {
    await using pool = openPool('crowded', { max: 2, statementCache: 1 });
    for (let round = 0; round < 5; round++) {
      const results = await Promise.all(
        Array.from({ length: 200 }, (_, at) => pool.query(`SELECT $1::int AS at, ${at % 3} AS text`, [at])),
      );
      expect(results.map(({ rows }) => rows)).toEqual(results.map((_, at) => [{ at, text: at % 3 }]));
    }
    expect((await named(pool)).length).toBeLessThanOrEqual(1);
  });

  it('keeps the statements of a connection that was lent', async () => {
    await using pool = openPool('kept');
    for (let round = 0; round < 4; round++) {
      await using lease = await pool.connect();
      await lease.query('BEGIN');
      await lease.query('SELECT 1 AS one');
      await lease.query(round % 2 ? 'ROLLBACK' : 'COMMIT');
    }
    expect(await named(pool)).toEqual(['SELECT 1 AS one']);
  });
});

describe('the bound', () => {
  it('holds, and what makes room is closed with the request of another: no round trip is spent', async () => {
    await using recorded = await openRecorded({ statementCache: 3 });
    const { pool, sent } = recorded;
    await pool.query('SELECT 0');
    sent.take();
    let queries = 0;
    const names = new Map<string, string>();
    const ask = async (text: string): Promise<string[]> => {
      await pool.query(text);
      queries++;
      return sent.words();
    };
    let trips = 0;
    for (const text of ['SELECT 1', 'SELECT 2', 'SELECT 3']) {
      trips += roundTrips(await ask(text));
      const words = await ask(text);
      trips += roundTrips(words);
      names.set(text, words[0]?.slice('Parse '.length) ?? '');
    }
    // 1 is used again, so 2 has not been used for longest.
    trips += roundTrips(await ask('SELECT 1'));
    trips += roundTrips(await ask('SELECT 4'));
    const evicting = await ask('SELECT 4');
    trips += roundTrips(evicting);
    expect(evicting[0]).toBe(`Close ${names.get('SELECT 2')}`);
    expect(evicting[1]).toMatch(/^Parse nestjs_pg_/);
    expect(evicting.at(-1)).toBe('Sync');
    expect(trips).toBe(queries);
    expect(await named(pool)).toEqual(['SELECT 1', 'SELECT 3', 'SELECT 4']);
  });

  it.each([1, 2, 10])('is %i named statements on the server, whatever is used', async (statementCache) => {
    await using pool = openPool('bounded', { statementCache });
    for (let at = 1, step = 0; step < 150; step++, at = (at * 16_807) % 2_147_483_647) {
      const { rows } = await pool.query(`SELECT $1::int + ${at % 13} AS sum`, [1]);
      expect(rows).toEqual([{ sum: 1 + (at % 13) }]);
      if (step % 25 === 24) expect((await named(pool)).length).toBeLessThanOrEqual(statementCache);
    }
  });

  it('is 100 if nothing is said', async () => {
    await using pool = openPool('default');
    for (let round = 0; round < 2; round++) {
      for (let text = 0; text < 130; text++) await pool.query(`SELECT ${text}`);
    }
    expect(await named(pool)).toHaveLength(100);
  });

  it.each([false, 0] as const)('%j = none is made', async (statementCache) => {
    await using recorded = await openRecorded({ statementCache });
    const { pool, sent } = recorded;
    for (let use = 0; use < 5; use++) {
      await pool.query('SELECT 1');
      await pool.query('SELECT $1::int', [1]);
    }
    const words = sent.words();
    expect(naming(words)).toEqual([]);
    expect(words).toContain('Query SELECT 1');
    expect(await named(pool)).toEqual([]);
  });
});

/** What may happen to a table between two uses of a statement. Stock pg, which names nothing, says what is right. */
const CHANGES: [what: string, change: string, text?: string][] = [
  ['a column is added', 'ALTER TABLE t ADD COLUMN c int DEFAULT 7'],
  ['a column is dropped', 'ALTER TABLE t DROP COLUMN b'],
  ['a column is renamed', 'ALTER TABLE t RENAME COLUMN b TO bb'],
  ['int becomes bigint', 'ALTER TABLE t ALTER COLUMN a TYPE bigint'],
  ['int becomes text', 'ALTER TABLE t ALTER COLUMN a TYPE text'],
  ['text becomes varchar(20)', 'ALTER TABLE t ALTER COLUMN b TYPE varchar(20)'],
  ['a column changes its place', 'ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN a int DEFAULT 3'],
  ['a column is dropped and made again', "ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD COLUMN b text DEFAULT 'z'"],
  ['the table is made anew', "DROP TABLE t; CREATE TABLE t (a int, b text); INSERT INTO t VALUES (5, 'new')"],
  ['the table is made anew, otherwise', "DROP TABLE t; CREATE TABLE t (x date); INSERT INTO t VALUES ('2026-11-22')"],
  [
    'another table takes its name',
    "ALTER TABLE t RENAME TO old; CREATE TABLE t (a int, b text); INSERT INTO t VALUES (6, 'other')",
  ],
  ['it becomes a view', "DROP TABLE t; CREATE VIEW t AS SELECT 8 AS a, 'view' AS b"],
  ['it is gone', 'DROP TABLE t'],
  ['an index is made', 'CREATE INDEX ON t (a); ANALYZE t'],
  ['a rule is made', "CREATE RULE r AS ON INSERT TO t DO INSTEAD UPDATE t SET b = 'ruled'"],
];

describe('a schema that changes between two uses', () => {
  it.each(CHANGES)('gives what stock pg gives: %s', async (_, change) => {
    await using pool = openPool('schema');
    await useSchema(pool, 'changing', 'CREATE TABLE t (a int, b text)', "INSERT INTO t VALUES (1, 'x'), (2, NULL)");
    const texts: [text: string, values?: unknown[]][] = [
      ['SELECT * FROM t'],
      ['SELECT a FROM t ORDER BY a::text'],
      ['SELECT b FROM t ORDER BY b'],
      ['SELECT *, $1::int AS given FROM t', [1]],
      ['TABLE t'],
      ['WITH x AS (SELECT * FROM t) SELECT * FROM x'],
    ];
    for (const [text, values] of texts) await sameAsStock(pool, text, values);
    await stock.query(change);
    for (const [text, values] of texts) await sameAsStock(pool, text, values);
    expect(pool.stats().connects).toBe(1);
  });

  it('gives the oids of the tables that there are now', async () => {
    await using pool = openPool('oids');
    await useSchema(pool, 'oids', 'CREATE TABLE t (a int)');
    const origins = async (queryable: Queryable): Promise<unknown> =>
      (await queryable.query('SELECT a FROM t')).fields.map(({ tableID, columnID }) => [tableID, columnID]);
    for (let use = 0; use < 3; use++) expect(await origins(pool)).toEqual(await origins(stock));
    await stock.query('DROP TABLE t; CREATE TABLE t (b int, a int)');
    expect(await origins(pool)).toEqual(await origins(stock));
  });

  it('gives what stock pg gives where the table comes later', async () => {
    await using pool = openPool('later');
    await useSchema(pool, 'later');
    await sameAsStock(pool, 'SELECT * FROM t');
    await stock.query('CREATE TABLE t (a int)');
    await sameAsStock(pool, 'SELECT * FROM t');
    await stock.query('DROP TABLE t');
    await sameAsStock(pool, 'SELECT * FROM t');
    await stock.query('CREATE TABLE t (a text)');
    await sameAsStock(pool, 'SELECT * FROM t');
    expect(pool.stats().connects).toBe(1);
  });

  it('gives what stock pg gives for a function that changes', async () => {
    await using pool = openPool('function');
    await useSchema(pool, 'functions', 'CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$SELECT 1$$');
    await sameAsStock(pool, 'SELECT * FROM f()');
    await stock.query('CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS $$SELECT 2$$');
    await sameAsStock(pool, 'SELECT * FROM f()');
    await stock.query("DROP FUNCTION f; CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$SELECT 'three'$$");
    await sameAsStock(pool, 'SELECT * FROM f()');
  });

  it('heals a stale plan with one round trip more, once, and is as fast as before after that', async () => {
    await using recorded = await openRecorded();
    const { pool, sent } = recorded;
    await useSchema(pool, 'trips', 'CREATE TABLE t (a int)', 'INSERT INTO t VALUES (1)');
    for (let use = 0; use < 3; use++) await pool.query('SELECT * FROM t');
    await stock.query('ALTER TABLE t ADD COLUMN b int');
    sent.take();
    expect((await pool.query('SELECT * FROM t')).rows).toEqual([{ a: 1, b: null }]);
    const healing = sent.words();
    expect(roundTrips(healing)).toBe(2);
    const [old] = healing;
    expect(healing).toContain(old?.replace('Bind', 'Close'));
    await pool.query('SELECT * FROM t');
    expect(sent.words()).toEqual([expect.stringMatching(/^Bind nestjs_pg_/), 'Describe', 'Execute', 'Sync']);
    expect(await named(pool)).toEqual(['SELECT * FROM t']);
  });

  it('heals all that ask at the same time', async () => {
    await using pool = openPool('stampede', { min: 2, max: 2 });
    await pool.open();
    await useSchema(pool, 'stampede', 'CREATE TABLE t (a int)', 'INSERT INTO t VALUES (1)');
    const burst = (): Promise<unknown[]> =>
      Promise.all(
        Array.from({ length: 60 }, async (_, at) =>
          at % 4 ? (await pool.query('SELECT * FROM stampede.t')).rows : seen(pool, 'SELECT * FROM stampede.later'),
        ),
      );
    const right = (rows: unknown, later: unknown): unknown[] =>
      Array.from({ length: 60 }, (_, at) => (at % 4 ? rows : later));
    const missing = { code: '42P01', message: 'relation "stampede.later" does not exist' };
    for (let round = 0; round < 4; round++) expect(await burst()).toEqual(right([{ a: 1 }], missing));
    await stock.query('ALTER TABLE t ADD COLUMN b int; CREATE TABLE later (c int)');
    const empty = await seen(stock, 'SELECT * FROM stampede.later');
    for (let round = 0; round < 4; round++) expect(await burst()).toEqual(right([{ a: 1, b: null }], empty));
    expect(pool.stats().connects).toBe(2);
  });

  it('does what it is asked once: an insert that is healed is made once', async () => {
    await using pool = openPool('once');
    await useSchema(pool, 'once', 'CREATE TABLE t (a int)');
    const text = 'INSERT INTO t (a) VALUES ($1) RETURNING *';
    for (let use = 0; use < 3; use++) await pool.query(text, [use]);
    await stock.query('ALTER TABLE t ADD COLUMN b int DEFAULT 9');
    expect((await pool.query(text, [3])).rows).toEqual([{ a: 3, b: 9 }]);
    expect((await pool.query('SELECT count(*)::int AS count FROM t')).rows).toEqual([{ count: 4 }]);
  });

  it('tells the error inside a transaction; the next transaction works', async () => {
    await using pool = openPool('transaction');
    await useSchema(pool, 'transactions', 'CREATE TABLE t (a int)', 'INSERT INTO t VALUES (1)');
    for (let use = 0; use < 3; use++) await pool.query('SELECT * FROM t');
    await stock.query('ALTER TABLE t ADD COLUMN b int');
    const lease = await pool.connect();
    await lease.query('BEGIN');
    await expect(lease.query('SELECT * FROM t')).rejects.toMatchObject({ code: '0A000' });
    await expect(lease.query('SELECT * FROM t')).rejects.toMatchObject({ code: '25P02' });
    await lease.query('ROLLBACK');
    await lease.query('BEGIN');
    expect((await lease.query('SELECT * FROM t')).rows).toEqual([{ a: 1, b: null }]);
    await lease.query('COMMIT');
    lease.release();
    expect((await pool.query('SELECT * FROM t')).rows).toEqual([{ a: 1, b: null }]);
    expect(pool.stats().connects).toBe(1);
  });

  it('works again behind a savepoint', async () => {
    await using pool = openPool('savepoint');
    await useSchema(pool, 'savepoints', 'CREATE TABLE t (a int)', 'INSERT INTO t VALUES (1)');
    for (let use = 0; use < 3; use++) await pool.query('SELECT * FROM t');
    await using lease = await pool.connect();
    await lease.query('BEGIN');
    await lease.query('ALTER TABLE t ADD COLUMN b int');
    await lease.query('SAVEPOINT s');
    await expect(lease.query('SELECT * FROM t')).rejects.toMatchObject({ code: '0A000' });
    await lease.query('ROLLBACK TO s');
    expect((await lease.query('SELECT * FROM t')).rows).toEqual([{ a: 1, b: null }]);
    await lease.query('ROLLBACK');
    expect((await lease.query('SELECT * FROM t')).rows).toEqual([{ a: 1 }]);
  });

  it('knows of a table that was made and undone inside a transaction', async () => {
    await using pool = openPool('undone');
    await useSchema(pool, 'undone');
    await using lease = await pool.connect();
    for (let round = 0; round < 3; round++) {
      await lease.query('BEGIN');
      await lease.query(`CREATE TABLE t (a int, b${round} text)`);
      for (let use = 0; use < 3; use++) await lease.query('SELECT count(*)::int FROM t');
      await lease.query('ROLLBACK');
      await expect(lease.query('SELECT count(*)::int FROM t')).rejects.toMatchObject({ code: '42P01' });
    }
  });
});

/** The type of a parameter is settled when a statement is parsed; the column that it is meant for may have another later. */
describe('a column that changes between two uses of its parameter', () => {
  const CASES: [from: string, to: string, before: unknown, after: unknown][] = [
    ['int', 'bigint', 1, '9999999999'],
    ['int', 'text', 1, 'no number'],
    ['int', 'numeric', 1, '1.5'],
    ['smallint', 'int', 1, 100_000],
    ['text', 'int', '1', 2],
    ['text', 'jsonb', '{}', { a: 1 }],
    ['boolean', 'text', true, 'maybe'],
    ['varchar(3)', 'varchar(30)', 'abc', 'abcdefgh'],
    ['uuid', 'text', '00000000-0000-0000-0000-000000000000', 'no uuid'],
    ['text', 'text[]', 'a', ['a', 'b']],
  ];
  /** The server takes these for the old type without a word. Every prepared statement, of whatever driver, has this. */
  const SILENT: typeof CASES = [
    ['date', 'timestamptz', new Date(0), new Date(1_234_567_890)],
    ['timestamp', 'timestamptz', new Date(0), '2026-11-22T12:00:00+05:00'],
    ['real', 'double precision', 1, 0.1],
  ];

  async function check(from: string, to: string, before: unknown, after: unknown): Promise<void> {
    await using pool = openPool('parameters');
    await useSchema(pool, 'parameters', `CREATE TABLE t (a ${from})`);
    const text = 'INSERT INTO t (a) VALUES ($1)';
    for (let use = 0; use < 3; use++) await pool.query(text, [before]);
    await stock.query(`DELETE FROM t; ALTER TABLE t ALTER COLUMN a DROP DEFAULT`);
    await stock.query(`ALTER TABLE t ALTER COLUMN a TYPE ${to} USING NULL::${to}`);
    for (let use = 0; use < 3; use++) await sameAsStock(pool, text, [after], 1);
    const { rows } = await stock.query('SELECT a::text, count(*)::int FROM t GROUP BY a');
    expect(rows).toEqual([{ a: expect.any(String) as string, count: 6 }]);
    for (let use = 0; use < 3; use++) await sameAsStock(pool, 'SELECT count(*)::int FROM t WHERE a = $1', [after], 1);
    expect(pool.stats().connects).toBe(1);
  }

  it.each(CASES)('takes what stock pg takes: %s becomes %s', check);
  it.fails.each(SILENT)('takes it for what stock pg takes it for: %s becomes %s', check);

  it('takes what stock pg takes, of a type that was made anew', async () => {
    await using pool = openPool('enum');
    await useSchema(pool, 'enums', "CREATE TYPE mood AS ENUM ('good')", 'CREATE TABLE t (a mood)');
    const texts = ['INSERT INTO t (a) VALUES ($1)', 'SELECT $1::mood AS mood', 'SELECT * FROM t WHERE a = $1'];
    for (const text of texts) await sameAsStock(pool, text, ['good']);
    await stock.query("ALTER TYPE mood ADD VALUE 'bad'");
    for (const text of texts) await sameAsStock(pool, text, ['bad']);
    await stock.query("DROP TABLE t; DROP TYPE mood; CREATE TYPE mood AS ENUM ('fair'); CREATE TABLE t (a mood)");
    for (const text of texts) await sameAsStock(pool, text, ['fair']);
  });

  it('takes what stock pg takes inside a transaction, at the latest in the next one', async () => {
    await using pool = openPool('parameter-transaction');
    await useSchema(pool, 'parameter_transaction', 'CREATE TABLE t (a int)');
    const text = 'INSERT INTO t (a) VALUES ($1)';
    for (let use = 0; use < 3; use++) await pool.query(text, [1]);
    await stock.query('ALTER TABLE t ALTER COLUMN a TYPE bigint');
    const outcomes: unknown[] = [];
    for (let use = 0; use < 3; use++) {
      await using lease = await pool.connect();
      await lease.query('BEGIN');
      outcomes.push(
        await lease.query(text, ['9999999999']).then(
          ({ rowCount }) => rowCount,
          ({ code }) => code as string,
        ),
      );
      await lease.query('ROLLBACK');
    }
    expect(outcomes.slice(1)).toEqual([1, 1]);
  });
});

describe('settings of the session', () => {
  const TENANTS = [
    'CREATE SCHEMA tenant_a; CREATE TABLE tenant_a.t (id int, a text); INSERT INTO tenant_a.t VALUES (1, $$a$$)',
    'CREATE SCHEMA tenant_b; CREATE TABLE tenant_b.t (id text, b int, c int); INSERT INTO tenant_b.t VALUES ($$2$$, 2, 2)',
    'CREATE SCHEMA tenant_c; CREATE TABLE tenant_c.t (id int, a text); INSERT INTO tenant_c.t VALUES (3, $$c$$)',
  ];
  beforeAll(async () => {
    for (const text of TENANTS) await stock.query(text);
  });
  const setBoth = async (queryable: Queryable, text: string): Promise<void> => {
    await queryable.query(text);
    await stock.query(text);
  };

  it('search_path: another table of the same name, with other columns or with the same', async () => {
    await using pool = openPool('search-path');
    for (let round = 0; round < 3; round++) {
      for (const tenant of ['tenant_a', 'tenant_b', 'tenant_c']) {
        await setBoth(pool, `SET search_path TO ${tenant}`);
        await sameAsStock(pool, 'SELECT * FROM t');
        await sameAsStock(pool, 'SELECT id FROM t');
      }
    }
    expect(pool.stats().connects).toBe(1);
  });

  it('search_path: parameters that mean other types', async () => {
    await using pool = openPool('search-path-parameters');
    for (let round = 0; round < 2; round++) {
      for (const [tenant, id] of [
        ['tenant_a', 1],
        ['tenant_b', 'no number'],
        ['tenant_c', 3],
      ]) {
        await setBoth(pool, `SET search_path TO ${tenant}`);
        await sameAsStock(pool, 'SELECT count(*)::int FROM t WHERE id = $1', [id]);
        await sameAsStock(pool, 'UPDATE t SET id = id WHERE id = $1', [id]);
      }
    }
  });

  // A statement that is out of date again and again is better off without a name.
  it('SET LOCAL search_path, tenant by tenant, in transactions: fails three times at the most', async () => {
    await using pool = openPool('tenants');
    const failures: number[] = [];
    for (let round = 0; round < 20; round++) {
      await using lease = await pool.connect();
      await lease.query('BEGIN');
      await lease.query(`SET LOCAL search_path TO ${round % 2 ? 'tenant_b' : 'tenant_a'}`);
      try {
        expect((await lease.query('SELECT * FROM t /* by tenant */')).rows).toHaveLength(1);
        await lease.query('COMMIT');
      } catch (error) {
        expect(error).toMatchObject({ code: '0A000' });
        failures.push(round);
        await lease.query('ROLLBACK');
      }
    }
    expect(failures.length).toBeLessThanOrEqual(3);
  });

  it('a role with other rows', async () => {
    await using pool = openPool('roles');
    await useSchema(
      pool,
      'roles',
      ...['DROP ROLE IF EXISTS reader', 'CREATE ROLE reader', 'CREATE TABLE t (who text)'],
      ...["INSERT INTO t VALUES ('reader'), ('other')", 'ALTER TABLE t ENABLE ROW LEVEL SECURITY'],
      ...['CREATE POLICY own ON t USING (who = current_user)', 'GRANT SELECT ON t TO reader'],
      'GRANT USAGE ON SCHEMA roles TO reader',
    );
    for (const role of ['SET ROLE reader', 'RESET ROLE', 'SET ROLE pg_monitor', 'SET ROLE reader', 'RESET ROLE']) {
      await setBoth(pool, role);
      await sameAsStock(pool, 'SELECT * FROM t ORDER BY who');
    }
  });

  it.each(['DateStyle TO German', "TimeZone TO 'Asia/Kolkata'", 'extra_float_digits TO 0', "bytea_output TO 'escape'"])(
    'SET %s',
    async (setting) => {
      await using pool = openPool('settings');
      const text = `SELECT '2026-11-22'::date AS d, '2026-11-22 12:00+00'::timestamptz AS at, 0.1::float8 AS f, '\\x01'::bytea AS b`;
      await sameAsStock(pool, text);
      await setBoth(pool, `SET ${setting}`);
      await sameAsStock(pool, text);
      await setBoth(pool, 'RESET ALL');
      await sameAsStock(pool, text);
    },
  );

  it('plan_cache_mode, and the change to a generic plan', async () => {
    await using pool = openPool('plans');
    for (const mode of ['auto', 'force_generic_plan', 'force_custom_plan']) {
      await setBoth(pool, `SET plan_cache_mode TO ${mode}`);
      for (let use = 0; use < 8; use++) {
        const { rows } = await pool.query('SELECT $1::int AS one, $2::text AS two', [use, null]);
        expect(rows).toEqual([{ one: use, two: null }]);
      }
    }
    await setBoth(pool, 'RESET ALL');
    const { rows } = await stock.query<{ has: boolean }>(
      "SELECT count(*) = 1 AS has FROM pg_attribute WHERE attrelid = 'pg_prepared_statements'::regclass AND attname = 'generic_plans'",
    );
    expect(rows).toEqual([{ has: true }]);
    const plans = await pool.query({
      text: 'SELECT generic_plans::int, custom_plans::int FROM pg_prepared_statements',
      queryMode: 'extended',
    } as pg.QueryConfig);
    expect(plans.rows).toEqual([
      { generic_plans: expect.any(Number) as number, custom_plans: expect.any(Number) as number },
    ]);
    expect((plans.rows[0] as { generic_plans: number }).generic_plans).toBeGreaterThan(0);
  });
});

describe('a session that forgets', () => {
  it.each(['DISCARD ALL', 'DEALLOCATE ALL', 'DISCARD PLANS', 'DISCARD TEMP', 'RESET ALL', 'SELECT 1; DEALLOCATE ALL'])(
    '%s: the statement works on',
    async (text) => {
      await using pool = openPool('forgets');
      for (let round = 0; round < 3; round++) {
        for (let use = 0; use < 3; use++) {
          expect((await pool.query('SELECT $1::int AS one', [use])).rows).toEqual([{ one: use }]);
        }
        await pool.query(text);
      }
      await pool.query('SELECT $1::int AS one', [1]);
      expect(await named(pool)).toContain('SELECT $1::int AS one');
      expect(pool.stats().connects).toBe(1);
    },
  );

  it('and forgets with a statement behind it, before its answer', async () => {
    await using pool = openPool('behind');
    for (let use = 0; use < 3; use++) await pool.query('SELECT 1 AS one');
    const lease = await pool.connect();
    const [, { rows }] = await Promise.all([lease.query('DISCARD ALL'), lease.query('SELECT 1 AS one')]);
    expect(rows).toEqual([{ one: 1 }]);
    lease.release();
  });

  it.each(['discard-all', 'clean', 'rollback'] as const)('pool.reset: %s', async (reset) => {
    await using pool = openPool('reset', { reset });
    for (let round = 0; round < 4; round++) {
      const lease = await pool.connect();
      for (let use = 0; use < 3; use++) {
        expect((await lease.query('SELECT $1::int AS one', [use])).rows).toEqual([{ one: use }]);
      }
      lease.release();
      expect((await pool.query('SELECT $1::int AS one', [7])).rows).toEqual([{ one: 7 }]);
    }
    expect(pool.stats().connects).toBe(1);
  });

  it('pool.reset by SQL of your own', async () => {
    await using pool = openPool('reset-sql', { reset: { sql: 'DEALLOCATE ALL' } });
    for (let round = 0; round < 6; round++) expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(pool.stats().connects).toBe(1);
  });

  it('is forgotten when it is over: a new one parses for itself', async () => {
    await using pool = openPool('over');
    for (let round = 0; round < 3; round++) {
      for (let use = 0; use < 3; use++) await pool.query('SELECT 1 AS one');
      expect(await named(pool)).toEqual(['SELECT 1 AS one']);
      await adminQuery(server(), 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1', [
        'over',
      ]);
      await waitFor(() => pool.totalCount === 0, { message: 'the pool to notice', deadline: 20_000 });
    }
  });

  it('survives a restart of the server', async () => {
    await using pool = openPool('restart', { max: 3 });
    const burst = (): Promise<unknown[]> =>
      Promise.all(Array.from({ length: 10 }, async () => (await pool.query('SELECT 1 AS one')).rows));
    const right = Array.from({ length: 10 }, () => [{ one: 1 }]);
    expect(await burst()).toEqual(right);
    await stock.end();
    await server().restart();
    await waitFor(() => pool.query('SELECT 1 AS one'), { message: 'the pool to be back', deadline: 30_000 });
    expect(await burst()).toEqual(right);
    expect(await burst()).toEqual(right);
    stock = new pg.Client({ connectionString: server().connectionString });
    await stock.connect();
  });
});

describe('a statement that fails', () => {
  it.each([
    ['a syntax error', 'SELECT FROM WHERE', undefined],
    ['a table that is not there', 'SELECT * FROM no_such_table', undefined],
    ['a column that is not there', 'SELECT nothing FROM pg_class', undefined],
    ['a bad value', 'SELECT $1::int', ['no number']],
    ['a bad value of several', 'SELECT $1::int, $2::date', [1, 'no date']],
    ['a division by zero', 'SELECT 1 / $1::int', [0]],
    ['too many values', 'SELECT $1::int', [1, 2]],
    ['too few values', 'SELECT $1::int, $2::int', [1]],
    ['no values', 'SELECT $1::int', undefined],
    ['an empty list of values', 'SELECT $1::int', []],
    ['a type that cannot be told', 'SELECT $1', undefined],
    ['NUL in a value', 'SELECT $1::text', ['a\0b']],
    ['values for a statement that takes none', 'SELECT 1', [1]],
    ['bytes for a number', 'SELECT $1::int', [Buffer.from('abc')]],
    ['a constraint', 'INSERT INTO pg_temp.no_such_table VALUES (1)', undefined],
  ])('fails the same each time, and costs no more than with stock pg: %s', async (_, text, values) => {
    await using pool = openPool('failing');
    const shares: (string | undefined)[] = [];
    for (let use = 0; use < 4; use++) {
      const ours = (await seen(pool, text, values)) as { code?: string };
      expect({ use, ...ours }).toEqual({ use, ...((await seen(stock, text, values)) as object) });
      shares.push(ours.code);
    }
    // A protocol violation costs the connection, whoever makes it.
    expect(pool.stats().connects).toBe(1);
    expect((await named(pool)).filter((statement) => statement === text).length).toBeLessThanOrEqual(1);
  });

  it('leaves nothing behind on the server, however often it fails', async () => {
    await using pool = openPool('leftovers', { statementCache: 5 });
    await using lease = await pool.connect();
    for (let use = 0; use < 30; use++) {
      await seen(lease, 'SELECT * FROM no_such_table');
      await seen(lease, 'SELECT $1::int', [use % 2 ? 'no number' : 1]);
      await seen(lease, 'SELECT 1 / $1::int', [0]);
    }
    expect((await named(lease)).length).toBeLessThanOrEqual(5);
  });

  it('keeps its name, though its values are bad now and then inside transactions', async () => {
    await using pool = openPool('bad-values');
    const text = 'SELECT $1::uuid AS id';
    const id = '00000000-0000-0000-0000-000000000000';
    for (let round = 0; round < 8; round++) {
      await using lease = await pool.connect();
      await lease.query('BEGIN');
      expect((await lease.query(text, [id])).rows).toEqual([{ id }]);
      await expect(lease.query(text, ['no uuid'])).rejects.toMatchObject({ code: '22P02' });
      await lease.query('ROLLBACK');
    }
    for (let use = 0; use < 2; use++) expect((await pool.query(text, [id])).rows).toEqual([{ id }]);
    expect(await named(pool)).toEqual([text]);
  });

  it('fails between others that work', async () => {
    await using pool = openPool('between');
    const results = await Promise.all(
      Array.from({ length: 30 }, async (_, at) => {
        const value = at % 3 === 1 ? 'no number' : at;
        return pool.query('SELECT $1::int AS one', [value]).then(
          ({ rows }) => (rows[0] as { one: number }).one,
          ({ code }) => code as string,
        );
      }),
    );
    expect(results).toEqual(results.map((_, at) => (at % 3 === 1 ? '22P02' : at)));
    expect(pool.stats().connects).toBe(1);
  });

  it('at its first named use, in a transaction, and works in the next', async () => {
    await using pool = openPool('first-named');
    await pool.query('SELECT 1 / $1::int AS one', [1]);
    await using lease = await pool.connect();
    await lease.query('BEGIN');
    await expect(lease.query('SELECT 1 / $1::int AS one', [0])).rejects.toMatchObject({ code: '22012' });
    await expect(lease.query('SELECT 1 / $1::int AS one', [1])).rejects.toMatchObject({ code: '25P02' });
    await lease.query('ROLLBACK');
    expect((await lease.query('SELECT 1 / $1::int AS one', [1])).rows).toEqual([{ one: 1 }]);
  });

  it.each([
    [
      'signal',
      (pool: PgPool) => pool.query({ text: SLEEP, values: [60], signal: AbortSignal.timeout(50) }),
      'PG_ABORTED',
    ],
    [
      'query_timeout',
      (pool: PgPool) => pool.query({ text: SLEEP, values: [60], query_timeout: 50 } as pg.QueryConfig),
      undefined,
    ],
  ])('by its %s, at any use', async (_, ask, code) => {
    await using pool = openPool('aborted');
    for (let use = 0; use < 4; use++) {
      await expect(ask(pool)).rejects.toMatchObject(code ? { code } : { message: 'Query read timeout' });
      expect((await pool.query(SLEEP, [0])).rows).toEqual([{ slept: '' }]);
    }
    await waitFor(async () => !(await sessionsOf(server(), 'aborted')).some(({ state }) => state === 'active'), {
      message: 'nothing to sleep on',
      deadline: 20_000,
    });
  });

  it('by query_timeout on a lease, again and again: no more names than there may be', async () => {
    await using pool = openPool('timeouts', { statementCache: 2 });
    const lease = await pool.connect();
    for (let use = 0; use < 8; use++) {
      const config = { text: SLEEP, values: [0.05], query_timeout: 1 } as pg.QueryConfig;
      await expect(lease.query(config)).rejects.toMatchObject({ message: 'Query read timeout' });
      await waitFor(() => lease.isReady, { message: 'the statement to end' });
    }
    expect((await lease.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect((await named(lease)).length).toBeLessThanOrEqual(2);
    lease.release();
  });

  it('by statement_timeout, and works after it', async () => {
    await using pool = openPool('statement-timeout');
    await using lease = await pool.connect();
    await lease.query("SET statement_timeout TO '50ms'");
    for (let use = 0; use < 4; use++) {
      await expect(lease.query(SLEEP, [60])).rejects.toMatchObject({ code: '57014' });
      expect((await lease.query(SLEEP, [0])).rows).toEqual([{ slept: '' }]);
    }
  });
});

const SLEEP = 'SELECT pg_sleep($1)::text AS slept';

describe('what is left as it is', () => {
  it('explicit names', async () => {
    await using pool = openPool('explicit');
    for (let use = 0; use < 3; use++) {
      const { rows } = await pool.query({ name: 'mine', text: 'SELECT $1::int AS one', values: [use] });
      expect(rows).toEqual([{ one: use }]);
      expect((await pool.query('SELECT $1::int AS one', [use])).rows).toEqual([{ one: use }]);
    }
    const { rows } = await pool.query<{ name: string }>({
      text: 'SELECT name FROM pg_prepared_statements ORDER BY name',
      queryMode: 'extended',
    } as pg.QueryConfig);
    expect(rows.map(({ name }) => name)).toEqual(['mine', expect.stringMatching(/^nestjs_pg_/)]);
  });

  it('several statements in one text', async () => {
    await using pool = openPool('several');
    for (let use = 0; use < 4; use++) {
      const results = (await pool.query('SELECT 1 AS one; SELECT 2 AS two')) as unknown as pg.QueryResult[];
      expect(results.map(({ rows }) => rows)).toEqual([[{ one: 1 }], [{ two: 2 }]]);
    }
    expect(await named(pool)).toEqual([]);
  });

  it.each([
    ...['BEGIN', 'SET a.b TO 1', 'SHOW work_mem', 'EXPLAIN SELECT 1', 'DO $$BEGIN END$$', 'LISTEN a', "NOTIFY a, 'b'"],
    ...[
      'CREATE TEMP TABLE IF NOT EXISTS tt (a int)',
      'COPY (SELECT 1) TO STDOUT',
      '',
      '-- nothing',
      'ANALYZE pg_class',
    ],
    ...['DECLARE c CURSOR WITH HOLD FOR SELECT 1; CLOSE c', 'PREPARE p AS SELECT 1; DEALLOCATE p'],
  ])('%j', async (text) => {
    await using pool = openPool('utility');
    await using lease = await pool.connect();
    for (let use = 0; use < 4; use++) await sameAsStock(lease, text, undefined, 1);
    expect(await named(lease)).toEqual([]);
    await stock.query('ROLLBACK');
    await lease.query('ROLLBACK');
  });

  it('COPY FROM STDIN, which query() refuses', async () => {
    await using pool = openPool('copy');
    await using lease = await pool.connect();
    await lease.query('CREATE TEMP TABLE tt (a int)');
    for (let use = 0; use < 3; use++) {
      await expect(lease.query('COPY tt FROM STDIN')).rejects.toMatchObject({ code: '57014' });
    }
    expect((await lease.query('SELECT count(*)::int AS count FROM tt')).rows).toEqual([{ count: 0 }]);
  });

  type PortalConnection = Record<'parse' | 'bind' | 'execute' | 'flush' | 'sync', (argument?: object) => void>;

  /** Reads a portal row by row, as cursors do. */
  class RowByRow extends EventEmitter {
    readonly rows: string[] = [];
    readonly done: Promise<string[]>;
    readonly #text: string;
    #connection: PortalConnection | undefined;
    #resolve!: (rows: string[]) => void;
    #reject!: (error: Error) => void;

    constructor(text: string) {
      super();
      this.#text = text;
      this.done = new Promise((resolve, reject) => {
        this.#resolve = resolve;
        this.#reject = reject;
      });
    }
    submit(connection: unknown): void {
      this.#connection = connection as PortalConnection;
      this.#connection?.parse({ text: this.#text });
      this.#connection?.bind({});
      this.#more();
    }
    #more(): void {
      this.#connection?.execute({ portal: '', rows: 1 });
      this.#connection?.flush();
    }
    handleRowDescription(): void {
      throw new Error('nobody asked for it');
    }
    handleDataRow({ fields }: { fields: string[] }): void {
      this.rows.push(...fields);
    }
    handlePortalSuspended(): void {
      this.#more();
    }
    handleCommandComplete(): void {
      this.#connection?.sync();
    }
    handleReadyForQuery(): void {
      this.#resolve(this.rows);
    }
    handleError(error: Error): void {
      this.#connection?.sync();
      this.#reject(error);
    }
  }

  it('cursors and queries of pg, between statements of ours', async () => {
    await using pool = openPool('beside');
    await using lease = await pool.connect();
    for (let use = 0; use < 4; use++) {
      const ours = lease.query('SELECT $1::int AS one', [use]);
      const cursor = lease.query(new RowByRow('SELECT generate_series(1, 5)'));
      const again = lease.query('SELECT $1::int AS one', [use]);
      const streamed: unknown[] = [];
      const query = lease.query(new pg.Query('SELECT generate_series(1, 3) AS at'));
      query.on('row', (row) => streamed.push(row));
      const last = lease.query('SELECT count(*)::int FROM generate_series(1, $1::int)', [use]);
      expect((await ours).rows).toEqual([{ one: use }]);
      expect(await cursor.done).toEqual(['1', '2', '3', '4', '5']);
      expect((await again).rows).toEqual([{ one: use }]);
      expect((await last).rows).toEqual([{ count: use }]);
      expect(streamed).toEqual([{ at: 1 }, { at: 2 }, { at: 3 }]);
    }
  });

  it('cursors of SQL', async () => {
    await using pool = openPool('declared');
    await using lease = await pool.connect();
    for (let use = 0; use < 3; use++) {
      await lease.query('BEGIN');
      await lease.query('DECLARE c CURSOR FOR SELECT generate_series(1, 3) AS at');
      expect((await lease.query('FETCH 2 FROM c')).rows).toEqual([{ at: 1 }, { at: 2 }]);
      expect((await lease.query('SELECT $1::int AS one', [use])).rows).toEqual([{ one: use }]);
      expect((await lease.query('FETCH 2 FROM c')).rows).toEqual([{ at: 3 }]);
      await lease.query('COMMIT');
    }
  });
});

describe('values of one type, then of another', () => {
  const VALUES = [
    1,
    '2',
    'three',
    true,
    null,
    new Date(0),
    4.5,
    5n,
    Buffer.from('six'),
    ['seven', null],
    { eight: 8 },
    undefined,
    '',
  ];

  it.each([
    'SELECT $1 AS v',
    'SELECT $1::text AS v',
    'SELECT $1::bytea AS v',
    'SELECT $1::int AS v',
    'SELECT coalesce($1, $2::text) AS v',
    'SELECT $1::timestamptz AS v',
    'SELECT $1::jsonb AS v',
    'SELECT $1 = ANY($2::text[]) AS v',
  ])('%s gives what stock pg gives', async (text) => {
    await using pool = openPool('values');
    const second = text.includes('text[]') ? [['a', '2']] : text.includes('$2') ? ['x'] : [];
    for (const first of [...VALUES, ...VALUES]) await sameAsStock(pool, text, [first, ...second], 1);
  });
});
