import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { PgBatchError, type PgPool } from 'nestjs-pg';
import type { BatchStatement } from '../../../lib/transaction/batch.js';
import { adminQuery } from '../../support/postgres.js';
import { expectNothingLeft, failureOf, insert, items, openPool, server, watchPool } from './fixture.js';

/** Both ways to run a batch. */
const WAYS: [string, (pool: PgPool, statements: readonly BatchStatement[]) => ReturnType<PgPool['batch']>][] = [
  ['on its own', (pool, statements) => pool.batch(statements)],
  ['inside of a transaction', (pool, statements) => pool.transaction(() => pool.batch(statements))],
];

describe.each(WAYS)('a batch %s', (way, batch) => {
  it('gives the results in their order, as pg gives them', async () => {
    const pool = openPool('results', { pool: { max: 1 } });
    const results = await batch(pool, [
      insert(1),
      { text: 'SELECT id, $1::text AS name FROM item', values: ['a'] },
      { text: 'SELECT id, $1::int FROM item', values: [7], rowMode: 'array' } as pg.QueryConfig<unknown[]>,
      'UPDATE item SET id = id + 1 RETURNING id',
      'CREATE TEMPORARY TABLE gone (a int) ON COMMIT DROP',
      'SELECT * FROM gone;',
      'SAVEPOINT a',
    ]);
    expect(results.map(({ command, rowCount, rows }) => [command, rowCount, rows])).toEqual([
      ['INSERT', 1, []],
      ['SELECT', 1, [{ id: 1, name: 'a' }]],
      ['SELECT', 1, [[1, 7]]],
      ['UPDATE', 1, [{ id: 2 }]],
      ['CREATE', null, []],
      ['SELECT', 0, []],
      ['SAVEPOINT', null, []],
    ]);
    expect(results[1]?.fields.map(({ name }) => name)).toEqual(['id', 'name']);
    expect(await items()).toEqual([2]);
    await expectNothingLeft(pool);
  });

  it.each([0, 1, 2])(
    'is all or nothing: where statement %i fails it says so, with the error as the cause',
    async (index) => {
      const pool = openPool('failing', { pool: { max: 1 } });
      const statements: BatchStatement[] = [insert(1), insert(2), insert(3)];
      statements[index] = { text: 'SELECT 1 / $1::int', values: [0] };
      const error = (await failureOf(batch(pool, statements))) as PgBatchError;
      expect(error).toBeInstanceOf(PgBatchError);
      expect(error).toMatchObject({ code: 'PG_BATCH_FAILED', name: 'PgBatchError', index, cause: { code: '22012' } });
      expect(error.message).toBe(
        `Pool "${pool.name}": statement ${index + 1} of 3 failed, "SELECT 1 / $1::int": division by zero. None has had an effect.`,
      );
      expect(error.message).not.toContain('0:');
      expect(await items()).toEqual([]);
      expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
      await expectNothingLeft(pool);
    },
  );

  it('sends nothing where a value cannot be converted, and says which statement it was', async () => {
    await using watched = await watchPool('conversion');
    const { pool, messages } = watched;
    const mine = new Error('mine');
    const toPostgres = (): never => {
      throw mine;
    };
    const error = await failureOf(batch(pool, [insert(1), { text: 'SELECT $1', values: [{ toPostgres }] }]));
    expect(error).toMatchObject({ code: 'PG_BATCH_FAILED', index: 1 });
    expect(error.cause).toBe(mine);
    expect(messages.words()).toEqual([]);
    await expectNothingLeft(pool);
  });

  it.each<[string, unknown, RegExp]>([
    ['COMMIT', 'COMMIT', /statement 2 of 2, "COMMIT", would end the batch's own transaction: leave COMMIT out/],
    ['BEGIN', 'begin;', /leave BEGIN out/],
    ['a hidden ROLLBACK', '/* a * b */ ROLLBACK', /ROLLBACK|cannot be part/],
    ['several statements', 'SELECT 1; SELECT 2', /statement 2 of 2 cannot be part of a batch/],
    ['COPY', 'COPY item FROM STDIN', /cannot be part of a batch/],
    ['a name', { name: 'a', text: 'SELECT 1' }, /cannot be part of a batch/],
    ['types', { text: 'SELECT 1', types: {} }, /cannot be part of a batch/],
    ['no statement', 7, /cannot be part of a batch/],
    ['nothing', undefined, /cannot be part of a batch/],
    ['an empty text', '', /cannot be part of a batch/],
  ])('refuses %s before anything is sent', async (_, statement, message) => {
    await using watched = await watchPool('refused');
    const { pool, messages } = watched;
    const error = await failureOf(batch(pool, [insert(1), statement as string]));
    expect(error).toMatchObject({ code: 'PG_CONFIG_INVALID' });
    expect(error.message).toMatch(message);
    expect(messages.words()).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('refuses what is no array', async () => {
    const pool = openPool('no-array');
    const error = await failureOf(batch(pool, 'SELECT 1' as unknown as string[]));
    expect(error).toMatchObject({ code: 'PG_CONFIG_INVALID', message: expect.stringContaining('an array') as string });
    await expectNothingLeft(pool);
  });

  it('of nothing gives nothing, and one of a single statement one result', async () => {
    const pool = openPool('small');
    expect(await batch(pool, [])).toEqual([]);
    expect(await batch(pool, ['SELECT 1 AS one'])).toMatchObject([{ rows: [{ one: 1 }] }]);
    await expectNothingLeft(pool);
  });

  it('takes 10 000 statements, whose results are large as well', async () => {
    const pool = openPool('many', { pool: { max: 1 } });
    const texts = Array.from({ length: 10_000 }, (_, index) => ({
      text: 'INSERT INTO item VALUES ($1, $2) RETURNING *',
      values: [index, 'x'.repeat(200)],
    }));
    const results = await batch(pool, texts);
    expect(results).toHaveLength(10_000);
    expect(results.map(({ rows }) => (rows[0] as { id: number }).id)).toEqual(texts.map((_, index) => index));
    expect(await items()).toHaveLength(10_000);
    await expectNothingLeft(pool);
  });

  it('fails with the parser that throws, when all has been done', async () => {
    const mine = new Error('mine');
    const getTypeParser = (oid: number) => (text: string) => {
      if (oid === 25) throw mine;
      return text;
    };
    const pool = openPool('parser', { pool: { max: 1 }, types: { getTypeParser } });
    const error = await failureOf(batch(pool, [insert(1), "SELECT 'a'::text", insert(2)]));
    if (way === 'on its own') {
      expect(error).toBe(mine);
      expect(await items()).toEqual([1, 2]);
    } else {
      expect(error).toMatchObject({ code: 'PG_BATCH_FAILED', index: 1 });
      expect(error.cause).toBe(mine);
      expect(await items()).toEqual([]);
    }
    expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
    await expectNothingLeft(pool);
  });
});

describe('a batch', () => {
  it('whose connection is lost is unknown on its own, and a failure inside of a transaction', async () => {
    const pool = openPool('lost', { pool: { max: 1 } });
    const lethal = 'SELECT pg_terminate_backend(pg_backend_pid())';
    const alone = await failureOf(pool.batch([insert(1), lethal, insert(2)]));
    expect(alone).toMatchObject({ code: 'PG_COMMIT_UNKNOWN', cause: { code: '57P01' } });
    const inside = await failureOf(pool.transaction(() => pool.batch([insert(1), lethal, insert(2)])));
    expect(inside).toMatchObject({ code: '57P01' });
    const caught = pool.transaction(async () => {
      await pool.batch([insert(1), lethal]).catch(() => undefined);
      await pool.query(insert(2)).catch(() => undefined);
    });
    expect(await failureOf(caught)).toMatchObject({ code: 'PG_CONNECTION_LOST' });
    expect(await items()).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('inside of a transaction that fails and is caught leaves that usable', async () => {
    const pool = openPool('inside', { pool: { max: 1 } });
    await pool.transaction(async (transaction) => {
      await transaction.query(insert(1));
      await failureOf(pool.batch([insert(2), 'SELECT 1/0', insert(3)]));
      await pool.batch([insert(4), insert(5)]);
      await transaction.query(insert(6));
    });
    expect(await items()).toEqual([1, 4, 5, 6]);
    await expectNothingLeft(pool);
  });

  it('is isolated as it was asked for, and its statements see those before them', async () => {
    const pool = openPool('isolated');
    const [, seen] = await pool.batch([insert(1), 'SELECT count(*)::int AS count FROM item'], {
      isolation: 'serializable',
    });
    expect(seen?.rows).toEqual([{ count: 1 }]);
    await expectNothingLeft(pool);
  });

  it('waits for its turn among the statements of the transaction', async () => {
    const pool = openPool('turn', { pool: { max: 1 } });
    await pool.transaction(async (transaction) => {
      const slow = transaction.query('INSERT INTO item (id) SELECT 1 FROM pg_sleep(0.02)');
      const [seen] = await pool.batch(['SELECT id FROM item']);
      expect(seen?.rows).toEqual([{ id: 1 }]);
      await slow;
    });
    await expectNothingLeft(pool);
  });
});

describe('named statements in a flight', () => {
  const numbered = (index: number): BatchStatement => ({ text: `SELECT $1::int AS n${index}`, values: [index] });

  it('are parsed once, and used again within it and in the next', async () => {
    await using watched = await watchPool('names');
    const { pool, messages } = watched;
    const same = numbered(1);
    for (let round = 0; round < 3; round++) {
      const results = await pool.batch([same, same, same]);
      expect(results.map(({ rows }) => rows)).toEqual([[{ n1: 1 }], [{ n1: 1 }], [{ n1: 1 }]]);
    }
    const words = messages.words();
    const named = words.filter((word) => word.startsWith('Parse nestjs_pg_'));
    expect(new Set(named).size).toBe(named.length);
    const last = words.slice(words.lastIndexOf('Sync', -2) + 1);
    expect(last.filter((word) => word.startsWith('Bind nestjs_pg_')).length).toBeGreaterThanOrEqual(3);
    await expectNothingLeft(pool);
  });

  it('make room for others in the midst of it', async () => {
    const pool = openPool('evicted', { pool: { max: 1, statementCache: 3 } });
    for (let round = 0; round < 4; round++) {
      const wanted = Array.from({ length: 40 }, (_, index) => (index * (round + 1)) % 7);
      const results = await pool.batch(wanted.map(numbered));
      expect(results.map(({ rows }) => rows[0])).toEqual(wanted.map((index) => ({ [`n${index}`]: index })));
      const { rows } = await pool.query<{ count: number }>('SELECT count(*)::int AS count FROM pg_prepared_statements');
      expect(rows[0]?.count).toBeLessThanOrEqual(4);
    }
    await expectNothingLeft(pool);
  });

  it.each(['batch', 'transaction'])(
    'that were never parsed, since one before them failed, do not trouble later ones (%s)',
    async (way) => {
      const pool = openPool('poison', { pool: { max: 1, statementCache: 3 } });
      const run = (statements: BatchStatement[]): Promise<unknown> =>
        way === 'batch' ? pool.batch(statements) : pool.transaction(() => pool.batch(statements));
      // Each text has been seen before, and gets its name in the flight that fails.
      const statements = Array.from({ length: 5 }, (_, index) => numbered(index));
      await run(statements);
      const error = await failureOf(run([numbered(0), { text: 'SELECT 1 / $1::int', values: [0] }, ...statements]));
      expect(error).toMatchObject({ code: 'PG_BATCH_FAILED', index: 1 });
      for (let round = 0; round < 3; round++) {
        await run(statements);
        for (let index = 0; index < 5; index++) {
          const { rows } = await pool.query(numbered(index) as pg.QueryConfig);
          expect(rows).toEqual([{ [`n${index}`]: index }]);
        }
        await failureOf(run([...statements.slice(round), 'SELECT 1/0', ...statements]));
      }
      expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
      await expectNothingLeft(pool);
    },
  );

  it('that fail to be parsed are parsed again when they can be', async () => {
    const pool = openPool('parse-later', { pool: { max: 1 } });
    const later = { text: 'SELECT $1::int AS n FROM later', values: [1] };
    for (let round = 0; round < 3; round++) {
      expect(await failureOf(pool.batch([insert(round), later]))).toMatchObject({ index: 1, cause: { code: '42P01' } });
    }
    await adminQuery(server(), 'CREATE TABLE later AS SELECT 1');
    for (let round = 0; round < 3; round++) {
      const [, result] = await pool.batch([insert(round), later]);
      expect(result?.rows).toEqual([{ n: 1 }]);
    }
    await expectNothingLeft(pool);
  });

  it('whose rows change their shape fail one transaction, and not the next', async () => {
    const pool = openPool('shape', { pool: { max: 1 } });
    await adminQuery(server(), 'CREATE TABLE shape AS SELECT 1 AS a');
    const all = { text: 'SELECT *, $1::int AS given FROM shape', values: [1] };
    for (let round = 0; round < 3; round++) await pool.batch([all]);
    await adminQuery(server(), 'ALTER TABLE shape ADD b int DEFAULT 2');
    await pool.batch([all]).catch(() => undefined);
    expect(await pool.batch([all])).toMatchObject([{ rows: [{ a: 1, b: 2, given: 1 }] }]);
    await expectNothingLeft(pool);
  });
});
