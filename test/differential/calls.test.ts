import pg from 'pg';
import { createPool } from 'nestjs-pg';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Statement } from '../../lib/client/statement-catalog.js';
import { useServer } from '../support/postgres.js';
import { difference } from './difference.js';
import { expectSame, outcomeOf, type Rival } from './rivals.js';
import { SessionPair } from './session-pair.js';

/** Every way to call query(), every kind of statement and every shape of rows: the same as from stock pg. */
const server = useServer();
let pair: SessionPair;
beforeAll(async () => {
  pair = await SessionPair.open(server());
  await pair.stock.query(`
    CREATE TABLE item (id int, name text);
    INSERT INTO item VALUES (1, 'one'), (2, NULL), (3, 'three');
    CREATE TABLE ruled (id int);
    CREATE RULE also AS ON INSERT TO ruled DO ALSO SELECT new.id * 2 AS double, 'x' AS x;
    CREATE FUNCTION several(OUT a int, OUT b text) RETURNS SETOF record LANGUAGE sql AS 'SELECT * FROM item';
    CREATE FUNCTION one(OUT a int, OUT b text) LANGUAGE sql AS 'SELECT * FROM item LIMIT 1';
    CREATE PROCEDURE doubled(INOUT n int) LANGUAGE plpgsql AS 'BEGIN n := n * 2; END';
    CREATE FUNCTION tells() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'hear, hear'; END $$;
  `);
});
afterAll(() => pair[Symbol.asyncDispose]());

type Callback = (error: Error | null | undefined, result: unknown) => void;

/** A call with a callback, as a promise. What is returned has to be `undefined`, as by pg. */
const called = (call: (callback: Callback) => unknown): Promise<unknown> =>
  new Promise((resolve, reject) => {
    const returned = call((error, result) => (error ? reject(error) : resolve({ returned, result })));
  });

const TEXT = 'SELECT $1::int AS a, name FROM item WHERE id < $1 ORDER BY id';
const NONE = 'SELECT id, name FROM item ORDER BY id';

const wrap = (text: string): unknown => [text];
const WRAPPING = { getTypeParser: () => wrap };

class Config {
  text = TEXT;
  get values(): unknown[] {
    return [3];
  }
}

const FORMS: Readonly<Record<string, (rival: Rival) => unknown>> = {
  text: (rival) => rival.query(NONE),
  'text, callback': (rival) => called((callback) => rival.query(NONE, callback)),
  'text, values': (rival) => rival.query(TEXT, [3]),
  'text, values, callback': (rival) => called((callback) => rival.query(TEXT, [3], callback)),
  'text, undefined, callback': (rival) => called((callback) => rival.query(NONE, undefined, callback)),
  'text, undefined': (rival) => rival.query(NONE, undefined),
  'text, null': (rival) => rival.query(NONE, null),
  'text, no values': (rival) => rival.query(NONE, []),
  'text, no values, callback': (rival) => called((callback) => rival.query(NONE, [], callback)),
  config: (rival) => rival.query({ text: NONE }),
  'config with values': (rival) => rival.query({ text: TEXT, values: [3] }),
  'config, values': (rival) => rival.query({ text: TEXT }, [3]),
  'config with values, values': (rival) => rival.query({ text: TEXT, values: [1] }, [3]),
  'config, callback': (rival) => called((callback) => rival.query({ text: TEXT, values: [3] }, callback)),
  'config, values, callback': (rival) => called((callback) => rival.query({ text: TEXT }, [3], callback)),
  'config with rowMode': (rival) => rival.query({ text: TEXT, values: [3], rowMode: 'array' }),
  'config with another rowMode': (rival) => rival.query({ text: TEXT, values: [3], rowMode: 'object' }),
  'config with a name': (rival) => rival.query({ text: TEXT, values: [3], name: 'mine' }),
  'config with types': (rival) => rival.query({ text: TEXT, values: [3], types: WRAPPING }),
  'config with rows': (rival) => rival.query({ text: TEXT, values: [3], rows: 1 }),
  'config in binary': (rival) => rival.query({ text: TEXT, values: [3], binary: true }),
  'config in extended mode': (rival) => rival.query({ text: NONE, queryMode: 'extended' }),
  'config with a query_timeout': (rival) => rival.query({ text: TEXT, values: [3], query_timeout: 60_000 }),
  'config of a class': (rival) => rival.query(new Config()),
  'config without a prototype': (rival) =>
    rival.query(Object.assign(Object.create(null) as object, { text: TEXT, values: [3] })),
  'config, frozen': (rival) => rival.query(Object.freeze({ text: TEXT, values: Object.freeze([3]) })),
  'config with something else': (rival) => rival.query({ text: TEXT, values: [3], comment: 'x' }),
  'config without text': (rival) => rival.query({ values: [] }),
  'config whose text is a number': (rival) => rival.query({ text: 1 }),
  'a query of pg': (rival) =>
    new Promise((resolve, reject) => {
      const query = new pg.Query(
        { text: TEXT, values: [3] } as never,
        ((error: Error | null, result: unknown) => (error ? reject(error) : resolve(result))) as never,
      );
      rival.query(query);
    }),
};

/** Those that a pool of pg does not know either: it has a callback of its own. */
const FORMS_OF_CLIENTS: typeof FORMS = {
  'config with a callback': (rival) => called((callback) => rival.query({ text: TEXT, values: [3], callback })),
};

describe('a call with', () => {
  it.each(Object.entries(FORMS))('%s', async (what, call) => {
    await expectSame(pair, what, call);
  });

  it.each(Object.entries({ ...FORMS, ...FORMS_OF_CLIENTS }))('%s, on a client of the pool', async (what, call) => {
    const client = await pair.ours.connect();
    try {
      await expectSame({ stock: pair.stock, ours: client }, what, call);
      await client.query('DEALLOCATE ALL');
    } finally {
      client.release();
    }
  });
});

/** The names that rows can have. */
const NAMES = [
  ...[
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    'valueOf',
    '__defineGetter__',
    'length',
    'then',
    'toJSON',
  ],
  ...['1', '0', '-1', '01', ' ', 'a b', 'ä😀', "it's", 'a.b', '?column?', 'x'.repeat(63)],
];
const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
const columns = (count: number): string => Array.from({ length: count }, (_, at) => `${at} AS c${at}`).join(', ');

const STATEMENTS: readonly string[] = [
  // shapes
  'SELECT FROM item',
  'SELECT',
  'SELECT WHERE false',
  'SELECT 1 AS a WHERE false',
  'SELECT 1 AS a, 2 AS a, 3 AS b, 4 AS a',
  'SELECT NULL AS a, NULL AS a',
  'SELECT 1, 2, now() IS NULL',
  ...NAMES.map((name) => `SELECT 1 AS ${quoted(name)}, 'x' AS after`),
  ...NAMES.map((name) => `SELECT '{"a": 1}'::json AS before, NULL AS ${quoted(name)}, '[1]'::json AS ${quoted(name)}`),
  `SELECT ${NAMES.map((name) => `'{"x": 1}'::jsonb AS ${quoted(name)}`).join(', ')} FROM generate_series(1, 3)`,
  `SELECT ${columns(1_664)}`,
  `SELECT ${columns(1_665)}`,
  'SELECT i, i::text, NULL, repeat(chr(64 + i % 20), i) FROM generate_series(1, 2000) AS i',
  "SELECT repeat('x', 40000), repeat('ä', 40000) AS b FROM generate_series(1, 5)",
  // queries
  'SELECT * FROM item ORDER BY id',
  'SELECT item, item.* FROM item ORDER BY id',
  '  (SELECT id FROM item ORDER BY id)',
  '/* a comment */ SELECT 1 -- and another',
  'SELECT 1;',
  'SELECT 1 ; ',
  "SELECT ';' AS a",
  'WITH x AS (SELECT 1 AS a) SELECT * FROM x',
  'VALUES (1, $$a$$), (2, NULL)',
  'TABLE item',
  'SELECT several()',
  'SELECT * FROM several()',
  'SELECT one(), (one()).*',
  'SELECT tells()',
  'SELECT * FROM item ORDER BY id FOR UPDATE',
  'SELECT count(*), sum(id), avg(id), max(name) FROM item',
  'SELECT pg_sleep(0)',
  // writes
  "INSERT INTO item VALUES (9, 'nine')",
  "INSERT INTO item VALUES (9, 'nine') RETURNING *",
  'INSERT INTO item SELECT 9 FROM generate_series(1, 3) RETURNING id, name',
  'INSERT INTO item SELECT 9 WHERE false RETURNING id',
  "UPDATE item SET name = 'one' WHERE id = 1",
  "UPDATE item SET name = 'one' WHERE id = 1 RETURNING id, old.name AS before, new.name",
  'UPDATE item SET id = id WHERE false',
  'DELETE FROM item WHERE id = 8',
  'DELETE FROM item WHERE id = 8 RETURNING *',
  'WITH gone AS (DELETE FROM item WHERE id = 9 RETURNING id) SELECT count(*) >= 0 AS a FROM gone',
  "MERGE INTO item USING (VALUES (1, 'one')) AS s(id, name) ON item.id = s.id WHEN MATCHED THEN UPDATE SET name = s.name",
  'MERGE INTO item USING (VALUES (1)) AS s(id) ON item.id = s.id WHEN MATCHED THEN DO NOTHING',
  'INSERT INTO ruled VALUES (4)',
  'INSERT INTO ruled VALUES (4), (5)',
  'SELECT 1 AS a INTO TEMPORARY made; DROP TABLE made',
  // the rest
  '',
  ' ',
  ';',
  '-- nothing',
  'SELECT 1 AS a; SELECT 2 AS b, 3 AS c',
  'SELECT 1; ; SELECT 2',
  "SELECT 1; INSERT INTO item VALUES (8, 'x'); DELETE FROM item WHERE id = 8; SELECT id FROM item WHERE id < 0",
  'SHOW DateStyle',
  "SET application_name = 'here'",
  'RESET application_name',
  'EXPLAIN (COSTS OFF) SELECT 1',
  'EXPLAIN (FORMAT json, COSTS OFF) SELECT 1',
  'CREATE TEMPORARY TABLE made (a int); DROP TABLE made',
  'DO $$ BEGIN NULL; END $$',
  'CALL doubled(21)',
  'BEGIN; SELECT 1 AS a; COMMIT',
  'BEGIN; DECLARE c CURSOR FOR SELECT id FROM item ORDER BY id; FETCH 2 FROM c; MOVE 1 IN c; CLOSE c; ROLLBACK',
  'PREPARE p AS SELECT $1::int; EXECUTE p(1); DEALLOCATE p',
  'LISTEN here; UNLISTEN *',
  "NOTIFY nobody, 'x'",
  'ANALYZE item',
  'CHECKPOINT',
  'DISCARD PLANS',
  'LOCK TABLE item',
];

describe('a statement', () => {
  it.each(STATEMENTS.map((text) => [text.length > 100 ? `${text.slice(0, 100)}...` : text, text] as const))(
    '%s',
    async (what, text) => {
      await expectSame(pair, what, (rival) => rival.query(text));
      await expectSame(pair, `${what}, as arrays`, (rival) => rival.query({ text, rowMode: 'array' }));
    },
  );

  it('whose table changes between two uses', async () => {
    const text = 'SELECT * FROM changing ORDER BY 1';
    const ask = (rival: Rival): unknown => rival.query(text);
    await pair.stock.query('CREATE TABLE changing (a int); INSERT INTO changing VALUES (1), (2)');
    await expectSame(pair, 'at first', ask);
    for (const change of [
      'ADD b text[] DEFAULT ARRAY[NULL, $$x$$]',
      'ALTER a TYPE text',
      'RENAME a TO "__proto__"',
      'DROP b',
      'DROP "__proto__"',
    ]) {
      await pair.stock.query(`ALTER TABLE changing ${change}`);
      await expectSame(pair, change, ask);
    }
  });
});

describe('parsers of the application', () => {
  const { builtins, setTypeParser } = pg.types;
  const getTypeParser = pg.types.getTypeParser as unknown as (oid: number, format: 'text') => (text: string) => unknown;
  const text = 'SELECT $1::int AS a, ARRAY[1, 2] AS b, 5::int8 AS c, NULL::int AS d';
  const ask = (rival: Rival): unknown => rival.query(text, [7]);
  const asArray = (rival: Rival): unknown => rival.query({ text, values: [7], rowMode: 'array' });
  const parsers: readonly ((text: string) => unknown)[] = [
    (value) => `<${value}>`,
    () => undefined,
    (value) => BigInt(value),
    (value) => ({ value }),
    parseInt,
    (value) => Number(value),
  ];

  it('pg.types.setTypeParser between two uses', async () => {
    const before = getTypeParser(builtins.INT4, 'text');
    try {
      for (const parse of parsers) {
        setTypeParser(builtins.INT4, parse);
        await expectSame(pair, String(parse), ask);
        await expectSame(pair, String(parse), asArray);
      }
    } finally {
      setTypeParser(builtins.INT4, before);
    }
    await expectSame(pair, 'as before', ask);
  });

  it('client.setTypeParser between two uses', async () => {
    const client = await pair.ours.connect();
    try {
      for (const parse of parsers) {
        pair.stock.setTypeParser(builtins.INT8, parse);
        client.setTypeParser(builtins.INT8, parse);
        await expectSame({ stock: pair.stock, ours: client }, String(parse), ask);
      }
    } finally {
      client.release(true);
    }
    pair.stock.setTypeParser(builtins.INT8, getTypeParser(builtins.INT8, 'text'));
  });

  it('that throw fail the statement, and not the one after', async () => {
    const before = getTypeParser(builtins.INT4, 'text');
    setTypeParser(builtins.INT4, () => {
      throw new RangeError('mine');
    });
    try {
      expect(await outcomeOf(() => pair.ours.query(text, [7]))).toMatchObject({ error: new RangeError('mine') });
    } finally {
      setTypeParser(builtins.INT4, before);
    }
    await expectSame(pair, 'after it', ask);
  });

  it('of the options', async () => {
    const types = {
      getTypeParser: (oid: number) => (oid === 23 ? wrap : getTypeParser(oid, 'text')),
    };
    const { connectionString } = server();
    await using ours = createPool({ connectionString, types: types, pool: { max: 1 } });
    const stock = new pg.Client({ connectionString, types: types });
    await stock.connect();
    try {
      await expectSame({ stock, ours }, 'objects', ask);
      await expectSame({ stock, ours }, 'arrays', asArray);
    } finally {
      await stock.end();
    }
  });
});

it('statements that travel together give what they give alone', async () => {
  const text = 'SELECT $1::int AS id, $2::timestamptz AS at, $3::jsonb AS doc, $4::text[] AS names';
  const sets = Array.from({ length: 60 }, (_, id) => [
    id,
    new Date(id * 1e10),
    { id, list: [null, 'ä'] },
    id % 3 === 0 ? null : [`"${id}"`, null],
  ]);
  const failing = (id: number): boolean => id % 7 === 5;
  const valuesOf = (id: number): unknown[] => (failing(id) ? ['no number', null, null, null] : (sets[id] ?? []));
  for (let use = 0; use < 5; use++) await pair.ours.query(text, sets[1]);
  // However slow the machine is.
  const fast = [
    vi.spyOn(Statement.prototype, 'isFast', 'get').mockReturnValue(true),
    vi.spyOn(Statement.prototype, 'millis', 'get').mockReturnValue(0.01),
  ];
  const before = pair.ours.stats().joins;
  // Each in two modes: as many as may travel together, and more.
  for (const rowMode of [undefined, 'array']) {
    const asked = sets.map((_, id) =>
      outcomeOf(() => pair.ours.query({ text, values: valuesOf(id), rowMode } as never)),
    );
    const answers = await Promise.all(asked);
    for (const [id, answer] of answers.entries()) {
      const expected = await outcomeOf(() => pair.stock.query({ text, values: valuesOf(id), rowMode } as never));
      expect('error' in expected).toBe(failing(id));
      expect(difference(answer, expected), `${id}`).toBeUndefined();
    }
  }
  expect(pair.ours.stats().joins).toBeGreaterThan(before);
  for (const one of fast) one.mockRestore();
});
