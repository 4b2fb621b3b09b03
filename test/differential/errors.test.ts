import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import pg from 'pg';
import { useServer } from '../support/postgres.js';
import { expectSame } from './rivals.js';
import { SessionPair } from './session-pair.js';

/** What the server says when a statement fails comes to the caller as from stock pg: every field of it. */
const server = useServer();
let pair: SessionPair;
beforeAll(async () => {
  pair = await SessionPair.open(server());
  await pair.stock.query(`
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent, name text NOT NULL, age int CONSTRAINT adult CHECK (age > 17));
    CREATE DOMAIN even AS int CONSTRAINT is_even CHECK (value % 2 = 0);
    CREATE TYPE mood AS ENUM ('happy');
    INSERT INTO parent VALUES (1);
    INSERT INTO child VALUES (1, 1, 'a', 20);
    CREATE FUNCTION raises(level int) RETURNS int LANGUAGE plpgsql AS $$
    BEGIN
      IF level > 0 THEN RETURN raises(level - 1); END IF;
      RAISE EXCEPTION 'it''s "wrong": ä€😀' USING ERRCODE = 'AB123', DETAIL = 'the detail', HINT = 'the hint',
        COLUMN = 'a column', CONSTRAINT = 'a constraint', DATATYPE = 'a type', TABLE = 'a table', SCHEMA = 'a schema';
    END $$;
    CREATE FUNCTION queries() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT broken FROM'; RETURN 1; END $$;
    CREATE FUNCTION tells() RETURNS int LANGUAGE plpgsql AS $$
    BEGIN RAISE NOTICE 'before'; RAISE WARNING 'and'; RETURN 1 / 0; END $$;
  `);
});
afterAll(() => pair[Symbol.asyncDispose]());

async function onBoth(text: string): Promise<void> {
  await pair.stock.query(text);
  await pair.ours.query(text);
}

type Failing = readonly [text: string, values?: readonly unknown[]];

const FAILING: readonly Failing[] = [
  // what is not understood
  ['SELECT broken FROM'],
  ['SELEC 1'],
  ['SELECT nothing'],
  ['SELECT * FROM nowhere'],
  ['SELECT none(1)'],
  ["SELECT 'ä€😀', nothing"],
  ["SELECT 'open"],
  ['SELECT 1 AS ""'],
  ['SELECT $1', []],
  ['SELECT $1::int'],
  ['SELECT $2::int', [1, 2]],
  ['SELECT $1', [{ a: 1 }, 2]],
  ['SELECT $1 + $2', ['a', 'b']],
  ['SELECT $70000::int', [1]],
  ['SELECT 1 + $1', ['x']],
  ["SELECT 'a' || 1 + 'b'"],
  ['SELECT CASE WHEN $1 THEN 1 ELSE now() END', [true]],
  // what does not go well
  ['SELECT 1 / 0'],
  ['SELECT 1 / $1::int', [0]],
  ['SELECT 10 / (3 - i) FROM generate_series(1, 5) AS i'],
  ['SELECT 10 / ($1 - i) AS a, repeat($$x$$, 5000) FROM generate_series(1, 500) AS i', [490]],
  ['SELECT 2147483647 + 1'],
  ['SELECT $1::int', ['no number']],
  ['SELECT $1::int2', [40_000]],
  ['SELECT $1::numeric(3, 1)', [1e9]],
  ['SELECT $1::date', ['2026-13-45']],
  ['SELECT $1::timestamptz', ['soon']],
  ['SELECT $1::uuid', ['x']],
  ['SELECT $1::json', ['{"a":']],
  ['SELECT $1::jsonb', ['{"a": \\u0000}']],
  ['SELECT $1::int[]', ['{1,{2}}']],
  ['SELECT $1::mood', ['sad']],
  ['SELECT $1::even', [3]],
  ['SELECT $1::even[]', [[2, 3]]],
  ['SELECT $1::xml', ['<a>']],
  ['SELECT $1::bytea', ['\\xz']],
  ['SELECT $1::text', ['a\0b']],
  ["SELECT convert_from($1, 'UTF8')", [Buffer.from([0xff])]],
  ['SELECT (SELECT id FROM generate_series(1, 2) AS id)'],
  ['SELECT cast($1 AS record)', ['(1)']],
  ["SELECT 'a' ~ $1", ['(']],
  ['SELECT raises(0)'],
  ['SELECT raises($1)', [3]],
  ['SELECT queries()'],
  ['SELECT tells()'],
  ["SELECT set_config('work_mem', $1, true)", ['x']],
  // what the tables forbid
  ['INSERT INTO parent VALUES ($1)', [1]],
  ['INSERT INTO parent VALUES (1) RETURNING id'],
  ['INSERT INTO child VALUES ($1, $2, $3, $4)', [2, 2, 'b', 20]],
  ['INSERT INTO child VALUES ($1, $2, $3, $4)', [2, 1, null, 20]],
  ['INSERT INTO child VALUES ($1, $2, $3, $4)', [2, 1, 'b', 7]],
  ['INSERT INTO child (id, none) VALUES (1, 2)'],
  ['INSERT INTO child VALUES (1, 2, 3, 4, 5)'],
  ['UPDATE parent SET id = 2'],
  ['DELETE FROM parent'],
  ['MERGE INTO parent USING (VALUES (1), (1)) AS s(id) ON parent.id = s.id WHEN MATCHED THEN UPDATE SET id = 1'],
  ['SELECT * FROM parent FOR UPDATE OF child'],
  // what no one may
  ['SELECT pg_terminate_backend(-1) / 0'],
  ['SELECT 1; SELECT 1 / 0; SELECT 2'],
  ['SELECT 1; SELECT 2', [1]],
  ['COMMIT PREPARED $$x$$'],
  ['CALL none()'],
  ['DO $$ BEGIN PERFORM 1 / 0; END $$'],
  ['DROP TABLE nowhere'],
  ['SET nothing = 1'],
  ['VACUUM nowhere'],
  ['EXECUTE nothing'],
  ['FETCH 1 FROM nothing'],
  ['CREATE TABLE parent (id int)'],
  ['COPY nowhere FROM STDIN'],
];
const named = FAILING.map(
  ([text, values]) => [`${text}${values ? ` ${JSON.stringify(values)}` : ''}`, text, values] as const,
);

describe('an error', () => {
  it.each(named)('%s', async (what, text, values) => {
    const { error } = await expectSame(pair, what, (rival) => rival.query(text, values?.slice()));
    expect(error).toBeInstanceOf(pg.DatabaseError);
    await expectSame(pair, 'the statement after it', (rival) => rival.query('SELECT 1 AS one'));
  });

  it('and by a callback', async () => {
    for (const [what, text, values] of named) {
      await expectSame(
        pair,
        what,
        (rival) =>
          new Promise((resolve, reject) => {
            const done = (error: Error | null, result: unknown): void => (error ? reject(error) : resolve(result));
            if (values) rival.query(text, values.slice(), done);
            else rival.query(text, done);
          }),
      );
    }
  });

  it('ends a transaction, and what follows it fails alike', async () => {
    const client = await pair.ours.connect();
    try {
      for (const [what, text, values] of named.filter(([, text]) => !/;|VACUUM|COMMIT/.test(text))) {
        const expected = await expectSame({ stock: pair.stock, ours: client }, what, async (rival) => {
          await rival.query('BEGIN');
          try {
            await expect(rival.query(text, values?.slice())).rejects.toBeInstanceOf(pg.DatabaseError);
            const refusal = await (rival.query('SELECT 1 AS one') as Promise<unknown>).catch((error: unknown) => error);
            // Where the server refuses it depends on the protocol: a statement without values has a name, too.
            return { ...(refusal as object), message: String(refusal), line: undefined, routine: undefined };
          } finally {
            await rival.query('ROLLBACK');
          }
        });
        expect(expected).toHaveProperty('result');
      }
    } finally {
      client.release();
    }
  });

  it('of a statement that takes too long', async () => {
    const text = "SELECT pg_sleep($1) FROM set_config('statement_timeout', '50', false)";
    await onBoth("SET statement_timeout = '50ms'");
    try {
      const { error } = await expectSame(pair, 'statement_timeout', (rival) => rival.query(text, [30]));
      expect(error).toMatchObject({ code: '57014' });
    } finally {
      await onBoth('RESET statement_timeout');
    }
  });

  it('in another language of the messages, and in fewer words', async () => {
    for (const setting of ['client_min_messages = error', "log_error_verbosity = 'terse'", "lc_messages = 'C'"]) {
      await onBoth(`SET ${setting}`);
      for (const [what, text, values] of named.slice(0, 30)) {
        await expectSame(pair, `${setting}: ${what}`, (rival) => rival.query(text, values?.slice()));
      }
      await onBoth(`RESET ${setting.replace(/ =.*/, '')}`);
    }
  });
});
