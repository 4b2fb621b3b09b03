import { getEventListeners } from 'node:events';
import { PassThrough, Readable } from 'node:stream';
import { copyFrom, createPool, PgModuleError, type PgOptions, type PgPool } from 'nestjs-pg';
import pg from 'pg';
import { from, NEVER, Observable, range, Subject } from 'rxjs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { adminQuery, sessionsOf, terminateBackends, useServer, waitFor } from '../../support/postgres.js';
import { startProxy } from '../../support/proxy.js';

const server = useServer();
const pools: PgPool[] = [];
let pool: PgPool;

function openPool(what: string, options: PgOptions = {}): PgPool {
  const name = `${what}-${pools.length}`;
  const { connectionString } = server();
  pools.push(createPool({ connectionString, application_name: name, pool: { max: 2 }, ...options }, name));
  return pools.at(-1)!;
}

beforeAll(async () => {
  await adminQuery(
    server(),
    `CREATE TABLE item (id int PRIMARY KEY, name text, at timestamptz, price numeric(6,2) CHECK (price >= 0));
     CREATE SCHEMA "Odd.one"; CREATE TABLE "Odd.one"."my ""table" ("a ""b" int, "C" text);
     CREATE TABLE "dot.ted" (id int)`,
  );
  pool = openPool('copy');
});

afterAll(() => Promise.all(pools.map((one) => one.end())));

beforeEach(async () => {
  await adminQuery(server(), 'TRUNCATE item');
});

const TABLE = { table: 'item', columns: ['id', 'name'] } as const;
const count = async (): Promise<number> =>
  (await adminQuery<{ n: number }>(server(), 'SELECT count(*)::int AS n FROM item'))[0]!.n;
const stored = (text = 'SELECT id, name FROM item ORDER BY id'): Promise<unknown[]> => adminQuery(server(), text);

/** The connection is back and good for the next statement, and the table is as it was. */
async function expectUntouched(of = pool): Promise<void> {
  await waitFor(() => of.idleCount === of.totalCount, { message: 'all connections at rest' });
  expect((await of.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  const sessions = await sessionsOf(server(), of.name);
  expect(sessions.map(({ state }) => state)).toEqual(sessions.map(() => 'idle'));
  expect(await count()).toBe(0);
}

/** Endless, and says whether it was ended. */
class Endless {
  ended = 0;
  given = 0;
  readonly #wait: () => Promise<void> | undefined;
  constructor(
    readonly row: (n: number) => unknown[] = (n) => [n, `name ${n}`],
    wait: () => Promise<void> | undefined = () => undefined,
  ) {
    this.#wait = wait;
  }
  *sync(): Generator<unknown[]> {
    try {
      for (;;) yield this.row(++this.given);
    } finally {
      this.ended++;
    }
  }
  async *async(): AsyncGenerator<unknown[]> {
    try {
      for (;;) {
        await this.#wait();
        yield this.row(++this.given);
      }
    } finally {
      this.ended++;
    }
  }
}

describe('rows come from', () => {
  const rows = [
    [1, 'one'],
    [2, null],
    [3, 'drei\t\\\n'],
  ];
  const expected = [
    { id: 1, name: 'one' },
    { id: 2, name: null },
    { id: 3, name: 'drei\t\\\n' },
  ];

  it.each<[string, () => unknown]>([
    ['an array', () => rows],
    ['a Set', () => new Set(rows)],
    ['a generator', () => rows.values()],
    ['objects', () => [{ name: 'one', id: 1, other: 'x' }, { id: '2' }, { id: 3n, name: 'drei\t\\\n' }]],
    ['a mixture of both', () => [rows[0], expected[1], rows[2]]],
    [
      'objects of a class with getters',
      () =>
        expected.map(
          (row) =>
            new (class {
              get id() {
                return row.id;
              }
              get name() {
                return row.name;
              }
            })(),
        ),
    ],
    [
      'one array that is filled again for each row',
      function* () {
        const row: unknown[] = [];
        for (const [id, name] of rows) yield Object.assign(row, [id, name]);
      },
    ],
    [
      'an async generator',
      async function* () {
        yield* rows;
      },
    ],
    ['a Readable of objects', () => Readable.from(rows)],
    ['an Observable', () => from(rows)],
    [
      'an asynchronous Observable',
      () =>
        new Observable((to) => {
          setImmediate(() => {
            for (const row of rows) to.next(row);
            to.complete();
          });
        }),
    ],
    [
      'another pool.stream()',
      () => pool.stream({ text: "VALUES (1, 'one'), (2, NULL), (3, E'drei\\t\\\\\\n')", rowMode: 'array' }),
    ],
  ])('%s', async (_, make) => {
    for (const rowFormat of [undefined, 'binary', 'text'] as const) {
      const source = make() as never;
      const given = typeof source === 'function' ? (source as () => never)() : source;
      expect(await copyFrom(pool, { ...TABLE, ...(rowFormat && { rowFormat }) }, given)).toEqual({ rows: 3 });
      expect(await stored()).toEqual(expected);
      await adminQuery(server(), 'TRUNCATE item');
    }
  });

  it('a Subject that emits before there is a connection', async () => {
    const subject = new Subject<unknown[]>();
    const copying = copyFrom(pool, TABLE, subject);
    for (const row of rows) subject.next(row);
    subject.complete();
    expect(await copying).toEqual({ rows: 3 });
  });

  it('nothing at all', async () => {
    expect(await copyFrom(pool, TABLE, [])).toEqual({ rows: 0 });
    expect(await copyFrom(pool, { table: 'item', format: 'csv' }, '')).toEqual({ rows: 0 });
  });

  it('many chunks, with progress, in the format that the first one has shown', async () => {
    const many = Array.from({ length: 20_000 }, (_, id) => [id, id % 7 ? `näme ${id}` : null, new Date(id * 1e9)]);
    const seen: { rows: number | undefined; bytes: number }[] = [];
    const options = {
      table: 'item',
      columns: ['id', 'name', 'at'],
      onProgress: (at: (typeof seen)[0]) => seen.push(at),
    };
    expect(await copyFrom(pool, options, many)).toEqual({ rows: 20_000 });
    expect(seen.length).toBeGreaterThan(5);
    expect(seen.at(-1)!.rows).toBe(20_000);
    expect(
      seen.every(({ rows, bytes }, at) => at === 0 || (rows! >= seen[at - 1]!.rows! && bytes > seen[at - 1]!.bytes)),
    ).toBe(true);
    const { rows: back } = await pool.query({ text: 'SELECT id, name, at FROM item ORDER BY id', rowMode: 'array' });
    expect(back).toEqual(many);

    await adminQuery(server(), 'TRUNCATE item');
    const dates = many.map(([id, name, at], index) => [id, name, index === 100 ? 'Feb 3 2026 UTC' : at]);
    expect(await copyFrom(pool, options, dates)).toEqual({ rows: 20_000 });
    expect(await stored("SELECT count(*)::int AS n FROM item WHERE at = '2026-02-03Z'")).toEqual([{ n: 1 }]);
  });
});

describe('bytes come from', () => {
  const csv = 'id;name\n1;"a ""b"";\nc"\n2;NIL\n3;é😀\n';
  const options = { ...TABLE, format: 'csv', header: 'match', delimiter: ';', null: 'NIL' } as const;
  const expected = [
    { id: 1, name: 'a "b";\nc' },
    { id: 2, name: null },
    { id: 3, name: 'é😀' },
  ];

  it.each<[string, () => unknown]>([
    ['a string', () => csv],
    ['a Buffer', () => Buffer.from(csv)],
    ['a Readable', () => Readable.from([Buffer.from(csv)], { objectMode: false })],
    ['single bytes', () => [...Buffer.from(csv)].map((byte) => Uint8Array.of(byte))],
    ['single UTF-16 code units', () => csv.split('')],
    [
      'texts and bytes',
      async function* () {
        yield csv.slice(0, 9);
        yield Buffer.from(csv.slice(9));
      },
    ],
    ['an Observable', () => from([csv.slice(0, 5), csv.slice(5)])],
  ])('%s', async (_, make) => {
    const source = make() as never;
    expect(await copyFrom(pool, options, typeof source === 'function' ? (source as () => never)() : source)).toEqual({
      rows: 3,
    });
    expect(await stored()).toEqual(expected);
  });

  it('other formats and encodings', async () => {
    await copyFrom(pool, { ...TABLE, format: 'text', delimiter: '|' }, '1|a\\nb\n2|\\N\n');
    await copyFrom(
      pool,
      { table: 'item', columns: ['name', 'id'], format: 'csv', encoding: 'LATIN1', quote: "'", escape: '\\' },
      Buffer.from("'\xe9\\'',3\n", 'latin1'),
    );
    expect(await stored()).toEqual([
      { id: 1, name: 'a\nb' },
      { id: 2, name: null },
      { id: 3, name: "é'" },
    ]);
    await expect(copyFrom(pool, { table: 'item', format: 'csv', encoding: 'LATIN1' }, 'é')).rejects.toMatchObject({
      code: 'PG_COPY_INVALID',
    });
  });

  it('large pieces, in messages that the protocol can hold', async () => {
    const big = Buffer.from(Array.from({ length: 300_000 }, (_, id) => `${id},name ${id}\n`).join(''));
    expect(await copyFrom(pool, { ...TABLE, format: 'csv' }, big)).toEqual({ rows: 300_000 });
  });
});

it('tables and columns are quoted, and schemas told apart from names', async () => {
  const table = { schema: 'Odd.one', name: 'my "table' };
  expect(await copyFrom(pool, { table, columns: ['C', 'a "b'] }, [['x', 1]])).toEqual({ rows: 1 });
  expect(await copyFrom(pool, { table: { name: 'dot.ted' }, columns: ['id'] }, [[1]])).toEqual({ rows: 1 });
  await expect(copyFrom(pool, { table: 'public.item', columns: ['id'] }, [])).rejects.toThrow(
    "{ schema: 'public', name: 'item' }",
  );
  await expect(copyFrom(pool, { table: 'Item', columns: ['id'] }, [])).rejects.toMatchObject({ code: '42P01' });
  await expect(copyFrom(pool, { table: 'item', columns: ['ID'] }, [[1]])).rejects.toMatchObject({ code: '42703' });
});

describe('what the server refuses names line and column, and leaves the table untouched:', () => {
  it.each([
    ['csv', { ...TABLE, format: 'csv' } as const, '1,a\n2,b\nx,c\n', 'COPY item, line 3, column id: "x"'],
    ['text', { ...TABLE, format: 'text' } as const, '1\ta\n2\n', 'COPY item, line 2: "2"'],
  ])('%s', async (_, options, bytes, where) => {
    const error: unknown = await copyFrom(pool, options, bytes).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(pg.DatabaseError);
    expect(error).toMatchObject({ where });
    await expectUntouched();
  });

  it('rows in binary', async () => {
    const rows = [
      [1, '1.5'],
      [2, 'NaN'],
      [3, '12345.5'],
    ];
    const error: unknown = await copyFrom(
      pool,
      { table: 'item', columns: ['id', 'price'], rowFormat: 'binary' },
      rows,
    ).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: '22003', where: 'COPY item, line 3, column price' });
    await expectUntouched();
  });

  it('rows as text', async () => {
    const error: unknown = await copyFrom(pool, TABLE, [
      [1, 'a'],
      ['two', 'b'],
    ]).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: '22P02', where: 'COPY item, line 2, column id: "two"' });
    await expectUntouched();
  });

  it('constraints', async () => {
    await expect(
      copyFrom(pool, TABLE, [
        [1, 'a'],
        [1, 'b'],
      ]),
    ).rejects.toMatchObject({ code: '23505', where: 'COPY item, line 2' });
    await expectUntouched();
  });
});

describe('what cannot be sent is refused with row and column, and without its value:', () => {
  it.each<[string, unknown, string]>([
    ['too few values', [[1, 'a'], [2]], 'row 2: it has 1 values, and there are 2 columns'],
    ['null', [[1, 'a'], null], 'row 2: a row is an array'],
    ['bytes', [Buffer.from('x')], 'row 1: a row is an array'],
    [
      'a value whose conversion throws',
      [
        [
          1,
          {
            toJSON() {
              throw new Error('never');
            },
          },
        ],
      ],
      'row 1, column "name": its value could not be converted: never',
    ],
    [
      'a misfit behind the first chunk',
      (function* () {
        for (let id = 1; id <= 20_000; id++) yield [id === 19_999 ? ' secret' : id, 'x'.repeat(20)];
      })(),
      'row 19999, column "id"',
    ],
  ])('%s', async (_, rows, message) => {
    const error: unknown = await copyFrom(pool, TABLE, rows as never).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(PgModuleError);
    expect(error).toMatchObject({ code: 'PG_COPY_INVALID', message: expect.stringContaining(message) });
    expect((error as Error).message).not.toContain('secret');
    await expectUntouched();
  });

  it('rows where bytes were announced, and the other way round', async () => {
    await expect(copyFrom(pool, { table: 'item', format: 'csv' }, [[1]] as never)).rejects.toMatchObject({
      code: 'PG_COPY_INVALID',
    });
    await expect(copyFrom(pool, TABLE, 'text' as never)).rejects.toMatchObject({ code: 'PG_CONFIG_INVALID' });
    await expect(copyFrom(pool, TABLE, 7 as never)).rejects.toMatchObject({ code: 'PG_CONFIG_INVALID' });
    await expectUntouched();
  });

  it('an Observable that is faster than it may be', async () => {
    await expect(copyFrom(pool, { ...TABLE, maxBuffered: 10 }, range(1, 11) as never)).rejects.toThrow('more than 10');
    let isTold = false;
    const endless = new Observable<unknown[]>((to) => {
      for (let id = 0; !to.closed; id++) to.next([id, 'x']);
      isTold = true;
    });
    await expect(copyFrom(pool, TABLE, endless)).rejects.toMatchObject({ code: 'PG_COPY_INVALID' });
    expect(isTold).toBe(true);
    await expectUntouched();
  });
});

describe('half-way', () => {
  const late = 3_000;
  const failure = new Error('the source has failed');
  const long = 'x'.repeat(100);

  it.each<[string, () => unknown]>([
    [
      'a generator throws',
      function* () {
        for (let id = 0; id < late; id++) yield [id, long];
        throw failure;
      },
    ],
    [
      'an async generator throws',
      async function* () {
        for (let id = 0; id < late; id++) yield [id, long];
        throw failure;
      },
    ],
    [
      'an Observable fails',
      () =>
        new Observable((to) => {
          for (let id = 0; id < late; id++) to.next([id, long]);
          to.error(failure);
        }),
    ],
    [
      'a Readable fails',
      () =>
        Readable.from(
          (function* () {
            for (let id = 0; id < late; id++) yield [id, long];
            throw failure;
          })(),
        ),
    ],
    [
      'a Readable has failed before',
      () => {
        const readable = new PassThrough({ objectMode: true });
        readable.destroy(failure);
        return readable;
      },
    ],
    ['onProgress throws', () => new Endless().sync()],
  ])('%s: the very error, and nothing stored', async (_, make) => {
    const source = make() as never;
    const onProgress = _.startsWith('onProgress')
      ? () => {
          throw failure;
        }
      : undefined;
    const given = typeof source === 'function' ? (source as () => never)() : source;
    const error: unknown = await copyFrom(pool, { ...TABLE, ...(onProgress && { onProgress }) }, given).catch(
      (reason: unknown) => reason,
    );
    expect(error).toBe(failure);
    await expectUntouched();
  });

  it('a Readable is destroyed', async () => {
    const readable = new PassThrough();
    const copying = copyFrom(pool, { ...TABLE, format: 'csv' }, readable);
    readable.write('1,a\n');
    setImmediate(() => readable.destroy());
    await expect(copying).rejects.toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' });
    await expectUntouched();
  });

  const endless: [string, (source: Endless) => unknown][] = [
    ['generator', (source) => source.sync()],
    ['async generator', (source) => source.async()],
    ['Readable', (source) => Readable.from(source.async())],
    [
      'Observable',
      (source) =>
        new Observable<unknown[]>((to) => {
          const timer = setInterval(() => {
            for (let n = 0; n < 100; n++) to.next(source.row(++source.given));
          });
          return () => {
            clearInterval(timer);
            source.ended++;
          };
        }),
    ],
  ];

  it.each(endless)('the signal fires, and an endless %s is ended', async (_, make) => {
    const source = new Endless();
    const controller = new AbortController();
    const onProgress = ({ rows }: { rows: number | undefined }): void => {
      if (rows! > late) controller.abort(failure);
    };
    await expect(
      copyFrom(pool, { ...TABLE, signal: controller.signal, onProgress }, make(source) as never),
    ).rejects.toMatchObject({ code: 'PG_ABORTED', cause: failure });
    await waitFor(() => source.ended === 1, { message: 'the source ended' });
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
    await expectUntouched();
  });

  it.each(endless)('the server refuses a row, and an endless %s is ended', async (_, make) => {
    const source = new Endless((n) => [n === late ? 1 : n, long]);
    await expect(copyFrom(pool, TABLE, make(source) as never)).rejects.toMatchObject({ code: '23505' });
    await waitFor(() => source.ended === 1, { message: 'the source ended' });
    await expectUntouched();
  });

  it.each(endless)('the connection is lost, and an endless %s is ended', async (_, make) => {
    const own = openPool('lost');
    const source = new Endless();
    let isCut = false;
    const onProgress = (): void => {
      if (!isCut) void terminateBackends(server(), own.name);
      isCut = true;
    };
    const error: unknown = await copyFrom(own, { ...TABLE, onProgress }, make(source) as never).catch(
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(Error);
    await waitFor(() => source.ended === 1, { message: 'the source ended' });
    await expectUntouched(own);
  });

  it('whoever never comes with a row is not waited for', async () => {
    const silent = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => undefined) }) };
    for (const source of [silent, NEVER, new PassThrough({ objectMode: true })]) {
      for (const options of [TABLE, { ...TABLE, format: 'csv' as const }]) {
        const controller = new AbortController();
        const copying = copyFrom(pool, { ...options, signal: controller.signal } as never, source as never);
        await waitFor(() => pool.idleCount < pool.totalCount || pool.totalCount === 0, {
          message: 'a connection taken',
        });
        controller.abort();
        await expect(copying).rejects.toMatchObject({ code: 'PG_ABORTED' });
        await expectUntouched();
      }
    }
  });

  it('the server waits for a lock', async () => {
    const locker = new pg.Client(server().connectionString);
    await locker.connect();
    try {
      await locker.query('BEGIN; LOCK TABLE item');
      const controller = new AbortController();
      const copying = copyFrom(pool, { ...TABLE, signal: controller.signal }, [[1, 'a']]);
      await waitFor(
        async () => (await sessionsOf(server(), pool.name)).some(({ wait_event }) => wait_event === 'relation'),
        { message: 'COPY waits for the lock' },
      );
      controller.abort();
      await expect(copying).rejects.toMatchObject({ code: 'PG_ABORTED' });
    } finally {
      await locker.end();
    }
    await expectUntouched();
  });

  it('the network is cut before the last word: it is said that nobody knows', async () => {
    await using proxy = await startProxy({ host: server().host, port: server().port });
    const own = openPool('cut', { host: proxy.host, port: proxy.port, ssl: false });
    await own.query('SELECT 1');
    proxy.onData((chunk, from, connection) => {
      const isCopyDone = from === 'client' && chunk.includes(Buffer.from([0x63, 0, 0, 0, 4]));
      if (isCopyDone) connection.reset();
      return isCopyDone ? undefined : chunk;
    });
    await expect(copyFrom(own, { ...TABLE, format: 'csv' }, '1,a\n')).rejects.toMatchObject({
      code: 'PG_COMMIT_UNKNOWN',
    });
  });
});

describe('a transaction around it', () => {
  it('has the rows, and takes them back', async () => {
    await expect(
      pool.transaction(async () => {
        await pool.query("INSERT INTO item VALUES (0, 'zero')");
        await copyFrom(pool, TABLE, [
          [1, 'a'],
          [2, 'b'],
        ]);
        expect((await pool.query('SELECT count(*)::int AS n FROM item')).rows).toEqual([{ n: 3 }]);
        throw new Error('back');
      }),
    ).rejects.toThrow('back');
    await expectUntouched();
    await pool.transaction(() => copyFrom(pool, TABLE, [[1, 'a']]));
    expect(await count()).toBe(1);
  });

  it('goes on after one that failed in an inner one', async () => {
    await pool.transaction(async () => {
      await copyFrom(pool, TABLE, [[1, 'a']]);
      await expect(
        pool.transaction(() =>
          copyFrom(pool, TABLE, [
            [2, 'b'],
            [1, 'c'],
          ]),
        ),
      ).rejects.toMatchObject({ code: '23505' });
      const controller = new AbortController();
      const source = new Endless((n) => [n + 10, 'x'.repeat(100)]);
      const options = { ...TABLE, signal: controller.signal, onProgress: () => controller.abort() };
      await expect(pool.transaction(() => copyFrom(pool, options, source.sync()))).rejects.toMatchObject({
        code: 'PG_ABORTED',
      });
      await copyFrom(pool, TABLE, [[3, 'c']]);
    });
    expect(await stored()).toEqual([
      { id: 1, name: 'a' },
      { id: 3, name: 'c' },
    ]);
  });
});

it('waits for the server: a slow one slows the source down', async () => {
  const own = openPool('slow');
  const source = new Endless((n) => [n, 'x'.repeat(1_000)]);
  const controller = new AbortController();
  const locker = new pg.Client(server().connectionString);
  await locker.connect();
  await locker.query("BEGIN; INSERT INTO item VALUES (5, 'taken')");
  const copying = copyFrom(own, { ...TABLE, signal: controller.signal }, source.sync());
  // The server waits for the other transaction, and reads no more; the source stops when all buffers are full.
  await waitFor(
    async () => (await sessionsOf(server(), own.name)).some(({ wait_event }) => wait_event === 'transactionid'),
    { message: 'COPY waits' },
  );
  let before = -1;
  await waitFor(
    () => {
      const isStill = before === source.given;
      before = source.given;
      return isStill;
    },
    { message: 'the source rests' },
  );
  controller.abort();
  await expect(copying).rejects.toMatchObject({ code: 'PG_ABORTED' });
  await locker.end();
  expect(source.ended).toBe(1);
  await expectUntouched(own);
});
