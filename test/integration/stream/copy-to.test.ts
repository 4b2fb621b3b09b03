import { once } from 'node:events';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { copyFrom, copyTo, createPool, type PgPool } from 'nestjs-pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { adminQuery, sessionsOf, terminateBackends, useServer, waitFor } from '../../support/postgres.js';

const server = useServer();
let pool: PgPool;

beforeAll(async () => {
  await adminQuery(
    server(),
    `CREATE TABLE item (id int, name text); INSERT INTO item VALUES (1, 'a,"b'), (2, NULL), (3, '')`,
  );
  await adminQuery(server(), 'CREATE TABLE other (id int, name text)');
  pool = createPool({ connectionString: server().connectionString, application_name: 'copy-to', pool: { max: 2 } });
});

afterAll(() => pool.end());

async function bytesOf(chunks: AsyncIterable<Buffer>): Promise<string> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all).toString();
}

async function expectRest(): Promise<void> {
  await waitFor(() => pool.idleCount === pool.totalCount, { message: 'all connections at rest' });
  expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  const sessions = await sessionsOf(server(), 'copy-to');
  expect(sessions.map(({ state }) => state)).toEqual(sessions.map(() => 'idle'));
}

const LONG = {
  query: 'SELECT generate_series(1, 10000000), repeat(md5($$x$$), 10)',
  format: 'text',
} as const;

it('writes tables and queries in each format', async () => {
  expect(await bytesOf(copyTo(pool, { table: 'item', format: 'csv', header: true }))).toBe(
    'id,name\n1,"a,""b"\n2,\n3,""\n',
  );
  expect(
    await bytesOf(copyTo(pool, { table: { schema: 'public', name: 'item' }, columns: ['name'], format: 'text' })),
  ).toBe('a,"b\n\\N\n\n');
  expect(await bytesOf(copyTo(pool, { query: 'SELECT 1, 2 -- two', format: 'csv', delimiter: ';' }))).toBe('1;2\n');
  await expectRest();
});

it('is a source for copyFrom', async () => {
  const from = copyTo(pool, { table: 'item', format: 'binary' });
  expect(await copyFrom(pool, { table: 'other', format: 'binary' }, from)).toEqual({ rows: 3 });
  expect(await adminQuery(server(), 'TABLE other')).toEqual(await adminQuery(server(), 'TABLE item'));
  await expectRest();
});

it('reads much, as fast as it is taken', async () => {
  let bytes = 0;
  const slow = new Writable({
    write(chunk: Buffer, _, done) {
      bytes += chunk.length;
      setImmediate(done);
    },
  });
  const before = process.memoryUsage().rss;
  await pipeline(copyTo(pool, { ...LONG, query: LONG.query.replace('10000000', '300000') }), slow);
  expect(bytes).toBeGreaterThan(300_000 * 320);
  console.log(
    `copyTo: ${Math.round(bytes / 2 ** 20)} MB, RSS ${Math.round((process.memoryUsage().rss - before) / 2 ** 20)} MB over base`,
  );
  await expectRest();
});

describe('gives the connection back', () => {
  it('when the loop is left', async () => {
    for (let run = 0; run < 10; run++) {
      for await (const chunk of copyTo(pool, LONG)) {
        expect(chunk.length).toBeGreaterThan(0);
        break;
      }
      await expectRest();
    }
  });

  it('when it is destroyed, read or not', async () => {
    const unread = copyTo(pool, LONG);
    unread.destroy();
    await once(unread, 'close');
    const waiting = copyTo(pool, LONG);
    waiting.read();
    waiting.destroy();
    await once(waiting, 'close');
    await expectRest();
  });

  it('when the signal fires', async () => {
    const controller = new AbortController();
    const copying = (async () => {
      for await (const _ of copyTo(pool, { ...LONG, signal: controller.signal })) controller.abort('enough');
    })();
    await expect(copying).rejects.toMatchObject({ code: 'PG_ABORTED', cause: 'enough' });
    await expect(bytesOf(copyTo(pool, { ...LONG, signal: AbortSignal.abort() }))).rejects.toMatchObject({
      code: 'PG_ABORTED',
    });
    await expectRest();
  });

  it('when the server fails, at once or half-way', async () => {
    await expect(bytesOf(copyTo(pool, { table: 'nothing', format: 'csv' }))).rejects.toMatchObject({ code: '42P01' });
    const query = 'SELECT 1 / (n - 50000) FROM generate_series(1, 100000) AS n';
    await expect(bytesOf(copyTo(pool, { query, format: 'csv' }))).rejects.toMatchObject({ code: '22012' });
    await expectRest();
  });

  it('when the connection is lost', async () => {
    const stream = copyTo(pool, LONG);
    const failed = once(stream, 'close').catch((error: unknown) => error);
    await once(stream, 'readable');
    await Promise.all([terminateBackends(server(), 'copy-to'), once(stream.resume(), 'error')]);
    expect(await failed).toBeInstanceOf(Error);
    await waitFor(() => pool.idleCount === pool.totalCount, { message: 'all connections at rest' });
    await expectRest();
  });
});

it('runs in the transaction in which it was made', async () => {
  await pool.transaction(async () => {
    await pool.query("INSERT INTO item VALUES (4, 'new')");
    expect(await bytesOf(copyTo(pool, { query: 'SELECT id FROM item WHERE id > 3', format: 'csv' }))).toBe('4\n');
    await pool.query('DELETE FROM item WHERE id > 3');
  });
  await expectRest();
});

it.each([
  [{ format: 'csv' }, 'give a table or a query'],
  [{ table: 'item', query: 'SELECT 1', format: 'csv' }, 'give a table or a query'],
  [{ query: ' ', format: 'csv' }, 'query has to be'],
  [{ query: 'SELECT 1', columns: ['a'], format: 'csv' }, 'columns belong to a table'],
  [{ table: 'item', format: 'csv', header: 'match' }, 'header has to be true or false'],
  [{ table: 'item' }, 'format has to be'],
  [{ table: 'item', format: 'csv', sigal: 1 }, 'did you mean "signal"'],
])('refuses %j', (options, message) => {
  expect(() => copyTo(pool, options as never)).toThrow(message);
});
