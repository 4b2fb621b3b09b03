import { getEventListeners } from 'node:events';
import { PreparedQuery } from '@pgtyped/runtime';
import pg from 'pg';
import { createPool, type PgOptions, type PgPool } from 'nestjs-pg';
import { firstValueFrom, lastValueFrom, Observable, take, toArray } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { adminQuery, sessionsOf, terminateBackends, useServer, waitFor } from '../../support/postgres.js';
import { startProxy } from '../../support/proxy.js';

const server = useServer();
const pools: PgPool[] = [];

function openPool(what: string, options: PgOptions = {}): PgPool {
  const name = `${what}-${pools.length}`;
  const pool = createPool(
    {
      connectionString: server().connectionString,
      application_name: name,
      ...options,
      pool: { max: 2, ...options.pool },
    },
    name,
  );
  pools.push(pool);
  return pool;
}

beforeAll(async () => {
  await adminQuery(server(), 'CREATE TABLE kept (id int PRIMARY KEY, note text)');
});

afterAll(async () => {
  await Promise.all(pools.map((pool) => pool.end()));
});

const NUMBERS = 'SELECT n FROM generate_series(1, $1::int) AS n';

async function collect<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const row of rows) all.push(row);
  return all;
}

/** The connection is back, and the server does nothing for it. */
async function expectRest(pool: PgPool, connections = 1): Promise<void> {
  await waitFor(() => pool.idleCount === connections && pool.totalCount === connections, {
    message: `${connections} connection(s) at rest`,
  });
  const sessions = await sessionsOf(server(), pool.name);
  expect(sessions.map(({ state }) => state)).toEqual(Array.from({ length: connections }, () => 'idle'));
}

describe('rows are those of pool.query()', () => {
  const EVERYTHING = `SELECT n, n::int8 * 10000000000 AS big, n / 3.0::float8 AS ratio, n / 7.0 AS amount, 'ö' || n AS name,
      n % 2 = 0 AS flag, timestamptz '2026-01-01' + n * interval '1 hour 1 ms' AS at, date '2026-01-01' + n AS day,
      ARRAY[n, NULL, n + 1] AS list, json_build_object('n', n, 'deep', ARRAY['x']) AS doc, decode(md5(n::text), 'hex') AS bytes,
      CASE WHEN n % 3 = 0 THEN NULL ELSE repeat('long ', n * 20) END AS maybe, n * interval '1 day 2 s' AS span,
      point(n, 1) AS place, n AS "constructor", n AS "__proto__", n AS twice, 'last' AS twice
    FROM generate_series(1, $1::int) AS n ORDER BY n`;

  it.each([1, 2, 7, 1000])('with batches of %i', async (batchSize) => {
    const pool = openPool(`equal-${batchSize}`);
    for (const rowMode of [undefined, 'array'] as const) {
      const config = { text: EVERYTHING, values: [100], ...(rowMode && { rowMode }) };
      const { rows } = await pool.query(config as pg.QueryConfig);
      expect(await collect(pool.stream(config, undefined, { batchSize }))).toEqual(rows);
      expect((await collect(pool.stream(config, undefined, { batchSize }).batches())).flat()).toEqual(rows);
      expect(await lastValueFrom(pool.rows$(config, undefined, { batchSize }).pipe(toArray()))).toEqual(rows);
    }
    await expectRest(pool);
  });

  it('where the network cuts them into small pieces', async () => {
    await using proxy = await startProxy({ host: server().host, port: server().port });
    const pool = openPool('pieces', { host: proxy.host, port: proxy.port, ssl: false });
    const { rows } = await pool.query(EVERYTHING, [5]);
    proxy.onData((chunk, from, connection) => {
      if (from === 'client') return chunk;
      for (let at = 0; at < chunk.length; at += 7) connection.send('client', chunk.subarray(at, at + 7));
      return undefined;
    });
    for (const batchSize of [1, 2, 1000]) {
      expect(await collect(pool.stream(EVERYTHING, [5], { batchSize }))).toEqual(rows);
    }
  });

  it('with values prepared alike', async () => {
    const pool = openPool('values');
    const text =
      'SELECT $1::jsonb AS doc, $2::int[] AS list, $3::timestamptz AS at, $4::bytea AS bytes, $5::text AS nothing';
    const values = [{ a: [1] }, [1, null], new Date('2026-02-03T04:05:06.789Z'), Buffer.from([0, 255]), null];
    const { rows } = await pool.query(text, values);
    expect(await collect(pool.stream(text, values))).toEqual(rows);
    await expect(pool.stream(text, Array(65_536)).next()).rejects.toMatchObject({ code: 'PG_CONFIG_INVALID' });
    await expectRest(pool);
  });

  it('with parsers of the config, of pg.types, and one that throws', async () => {
    const pool = openPool('parsers');
    const types = { getTypeParser: () => (text: string) => `<${text}>` } as unknown as pg.CustomTypesConfig;
    expect(await collect(pool.stream({ text: NUMBERS, values: [2], types }))).toEqual([{ n: '<1>' }, { n: '<2>' }]);
    const stock = pg.types.getTypeParser(pg.types.builtins.INT4, 'text');
    pg.types.setTypeParser(pg.types.builtins.INT4, (text) => {
      if (text === '4') throw new Error('no four');
      return -Number(text);
    });
    const seen: unknown[] = [];
    try {
      const read = async (): Promise<void> => {
        for await (const row of pool.stream(NUMBERS, [10], { batchSize: 3 })) seen.push(row);
      };
      await expect(read()).rejects.toThrow('no four');
    } finally {
      pg.types.setTypeParser(pg.types.builtins.INT4, stock);
    }
    expect(seen).toEqual([{ n: -1 }, { n: -2 }, { n: -3 }]);
    await expectRest(pool);
  });
});

describe('statements without rows', () => {
  it.each([
    ['DDL', 'CREATE TABLE made (id int)'],
    ['a statement that writes', "INSERT INTO kept VALUES (1, 'x')"],
    ['an empty text', ''],
    ['a comment', '-- nothing'],
  ])('%s ends without rows, and has been done', async (_, text) => {
    const pool = openPool('no-rows');
    expect(await collect(pool.stream(text))).toEqual([]);
    await expectRest(pool);
    await adminQuery(server(), 'DROP TABLE IF EXISTS made; TRUNCATE kept');
  });

  it('SHOW, EXPLAIN and RETURNING have some', async () => {
    const pool = openPool('some-rows');
    expect(await collect(pool.stream('SHOW application_name'))).toEqual([{ application_name: pool.name }]);
    expect(await collect(pool.stream('EXPLAIN SELECT 1', [], { batchSize: 1 }))).toHaveLength(1);
    const text = 'INSERT INTO kept SELECT n FROM generate_series(1, 5) AS n RETURNING id';
    expect(await collect(pool.stream(text, [], { batchSize: 2 }))).toHaveLength(5);
    expect(await adminQuery(server(), 'SELECT count(*)::int FROM kept')).toEqual([{ count: 5 }]);
    await adminQuery(server(), 'TRUNCATE kept');
  });

  it('several statements in one text are refused by the server', async () => {
    const pool = openPool('several');
    await expect(pool.stream('SELECT 1; SELECT 2').next()).rejects.toMatchObject({ code: '42601' });
    await expectRest(pool);
  });
});

describe('the server works no further than the consumer has come', () => {
  it('by more than the batch that is fetched ahead', async () => {
    const pool = openPool('ahead');
    await adminQuery(server(), 'CREATE SEQUENCE work');
    const stream = pool.stream('SELECT nextval($1) FROM generate_series(1, 100000)', ['work'], { batchSize: 10 });
    const worked = async (): Promise<unknown> =>
      (await adminQuery(server(), 'SELECT last_value::int AS worked FROM work'))[0]?.['worked'];
    await stream.next();
    await waitFor(async () => (await worked()) === 20, { message: 'the second batch' });
    for (let count = 0; count < 10; count++) await stream.next();
    await waitFor(async () => (await worked()) === 30, { message: 'the third batch' });
    await stream.return();
    await expectRest(pool);
    expect(await worked()).toBe(30);
  });
});

describe('every end gives the connection back', () => {
  const SLOW = 'SELECT n, CASE WHEN n > 3 THEN pg_sleep(60) END FROM generate_series(1, 100) AS n';

  it.each(['break', 'return', 'throw', 'batches', 'dispose'])('%s', async (way) => {
    const pool = openPool(`end-${way}`);
    const read = async (): Promise<unknown> => {
      if (way === 'batches') {
        for await (const rows of pool.stream(NUMBERS, [100_000]).batches()) return rows.length;
      }
      if (way === 'dispose') {
        const stream = pool.stream(NUMBERS, [100_000]);
        await stream.next();
        await stream[Symbol.asyncDispose]();
        return;
      }
      for await (const row of pool.stream(NUMBERS, [100_000])) {
        if (way === 'return') return row;
        if (way === 'throw') throw new Error('enough');
        break;
      }
      return undefined;
    };
    if (way === 'throw') await expect(read()).rejects.toThrow('enough');
    else await read();
    // At once, and not later.
    expect([pool.idleCount, pool.totalCount]).toEqual([1, 1]);
    await expectRest(pool);
  });

  it('the end of a loop while the server is still busy with the batch ahead, which is cancelled', async () => {
    const pool = openPool('slow-ahead');
    for await (const { n } of pool.stream(SLOW, [], { batchSize: 2 })) if (n === 2) break;
    await expectRest(pool);
  });

  it('a signal, by which a running statement is cancelled', async () => {
    const pool = openPool('aborted');
    const controller = new AbortController();
    const seen: number[] = [];
    const read = (async () => {
      for await (const { n } of pool.stream<{ n: number }>(SLOW, [], { batchSize: 1, signal: controller.signal }))
        seen.push(n);
    })();
    await waitFor(() => seen.length === 3, { message: 'three rows' });
    const reason = new Error('the client has gone');
    controller.abort(reason);
    await expect(read).rejects.toMatchObject({ code: 'PG_ABORTED', cause: reason });
    await expectRest(pool);
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
  });

  it('a signal while the consumer has the word', async () => {
    const pool = openPool('aborted-idle');
    const controller = new AbortController();
    const seen: unknown[] = [];
    const read = async (): Promise<void> => {
      for await (const row of pool.stream(NUMBERS, [100_000], { signal: controller.signal })) {
        seen.push(row);
        controller.abort();
      }
    };
    await expect(read()).rejects.toMatchObject({ code: 'PG_ABORTED' });
    expect(seen).toEqual([{ n: 1 }]);
    await expectRest(pool);
  });

  it('an error in the middle, behind the rows before it, as the server has said it', async () => {
    const pool = openPool('error');
    const seen: unknown[] = [];
    const readReport = async (): Promise<void> => {
      for await (const row of pool.stream('SELECT 10 / (4 - n) AS q FROM generate_series(1, 9) AS n', [], {
        batchSize: 2,
      }))
        seen.push(row);
    };
    const error = await readReport().catch((reason: unknown) => reason as pg.DatabaseError);
    expect(error).toBeInstanceOf(pg.DatabaseError);
    expect(error).toMatchObject({ code: '22012', severity: 'ERROR', message: 'division by zero', routine: 'int4div' });
    expect(seen).toEqual([{ q: 3 }, { q: 5 }, { q: 10 }]);
    expect((error as Error).stack).toContain('readReport');
    await expectRest(pool);
  });

  it('an error of the commit, which comes in place of the end', async () => {
    const pool = openPool('deferred');
    await adminQuery(
      server(),
      'CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)',
    );
    const seen: unknown[] = [];
    const read = async (): Promise<void> => {
      for await (const row of pool.stream('INSERT INTO child VALUES (1) RETURNING id')) seen.push(row);
    };
    await expect(read()).rejects.toMatchObject({ code: '23503' });
    expect(seen).toEqual([{ id: 1 }]);
    await expectRest(pool);
  });

  it('the loss of the connection, while rows are read and while they are not', async () => {
    const pool = openPool('lost');
    for (const isReading of [true, false]) {
      const stream = pool.stream(isReading ? SLOW : NUMBERS, isReading ? [] : [100_000], { batchSize: 3 });
      await stream.next();
      await terminateBackends(server(), pool.name);
      const outcome = (async () => {
        for await (const row of stream) void row;
      })();
      await expect(outcome).rejects.toThrow(/terminat/);
      await waitFor(() => pool.totalCount === 0, { message: 'the connection to be closed' });
    }
    expect(await collect(pool.stream(NUMBERS, [1]))).toEqual([{ n: 1 }]);
  });

  it('query_timeout, which is for each batch', async () => {
    const pool = openPool('timeout', { query_timeout: 300 });
    const text = 'SELECT n, pg_sleep(CASE WHEN n = 4 THEN 60 ELSE 0.12 END) FROM generate_series(1, 5) AS n';
    const seen: unknown[] = [];
    const read = async (): Promise<void> => {
      for await (const { n } of pool.stream(text, [], { batchSize: 1 })) seen.push(n);
    };
    await expect(read()).rejects.toThrow('Query read timeout');
    expect(seen).toEqual([1, 2, 3]);
    await waitFor(async () => (await sessionsOf(server(), pool.name)).length === 0, { message: 'the session to end' });
    expect(pool.totalCount).toBe(0);
  });
});

describe('a stream is a lease', () => {
  it('that is taken with the first row', async () => {
    const pool = openPool('lease');
    const stream = pool.stream(NUMBERS, [1]);
    expect(pool.stats().acquires).toBe(0);
    await stream.next();
    expect(pool.stats().acquires).toBe(1);
    await stream.return();
  });

  it('whose line is named where it is never ended', async () => {
    const pool = openPool('leak', { pool: { max: 1, leakThresholdMillis: 20 } });
    const warnings: string[] = [];
    pool.on('warning', (warning) => warnings.push(warning));
    const stream = pool.stream(NUMBERS, [100_000]);
    const forgetful = async (): Promise<void> => void (await stream.next());
    await forgetful();
    await waitFor(() => warnings.length > 0, { message: 'the warning' });
    expect(warnings[0]).toMatch(/a connection taken at .*forgetful .*rows\.test\.ts/);
    await stream.return();
  });

  it('for which a drain waits, and which it ends at the deadline', async () => {
    const patient = openPool('drain-patient');
    const stream = patient.stream(NUMBERS, [3_000]);
    await stream.next();
    const report = patient.drain(10_000);
    expect(await collect(stream)).toHaveLength(2_999);
    expect((await report).holders).toEqual([]);

    const impatient = openPool('drain-impatient');
    const late = impatient.stream(NUMBERS, [100_000]);
    await late.next();
    const { holders } = await impatient.drain(0);
    expect(holders.map(({ callSite }) => String(callSite))).toEqual([expect.stringContaining('rows.test.ts')]);
    await expect(collect(late)).rejects.toThrow();
    await expect(impatient.stream(NUMBERS, [1]).next()).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
  });
});

describe('in a transaction', () => {
  const CURSORS = "SELECT name FROM pg_cursors WHERE name <> ''";

  it('it runs there, and other statements run between its rows', async () => {
    const pool = openPool('inside');
    await pool.transaction(async () => {
      await pool.query("INSERT INTO kept SELECT n, 'new' FROM generate_series(1, 10) AS n");
      for await (const { id } of pool.stream('SELECT id FROM kept ORDER BY id', [], { batchSize: 3 })) {
        await pool.query('UPDATE kept SET note = $2 WHERE id = $1', [id, `seen ${String(id)}`]);
      }
      expect((await pool.query(CURSORS)).rows).toEqual([]);
    });
    expect(await adminQuery(server(), "SELECT count(*)::int FROM kept WHERE note LIKE 'seen %'")).toEqual([
      { count: 10 },
    ]);
    await adminQuery(server(), 'TRUNCATE kept');
    await expectRest(pool);
  });

  it('several of them take turns, and each leaves no portal', async () => {
    const pool = openPool('turns');
    await pool.transaction(async () => {
      const [one, two] = [pool.stream(NUMBERS, [10], { batchSize: 1 }), pool.stream(NUMBERS, [20], { batchSize: 3 })];
      for (let n = 1; n <= 5; n++)
        expect([await one.next(), await two.next()]).toMatchObject([{ value: { n } }, { value: { n } }]);
      expect((await pool.query(CURSORS)).rows).toHaveLength(2);
      await one.return();
      expect((await pool.query(CURSORS)).rows).toHaveLength(1);
      expect(await collect(two)).toHaveLength(15);
      expect((await pool.query(CURSORS)).rows).toEqual([]);
    });
    await expectRest(pool);
  });

  it('an error fails the transaction, as one of a query does', async () => {
    const pool = openPool('inside-error');
    const work = pool.transaction(async () => {
      await pool.query("INSERT INTO kept VALUES (1, 'x')");
      await collect(pool.stream('SELECT 1 / (2 - n) FROM generate_series(1, 3) AS n', [], { batchSize: 1 }));
    });
    await expect(work).rejects.toMatchObject({ code: '22012' });
    expect(await adminQuery(server(), 'SELECT 1 FROM kept')).toEqual([]);
    await expectRest(pool);
  });

  it('a throw in the loop rolls back', async () => {
    const pool = openPool('inside-throw');
    const work = pool.transaction(async () => {
      for await (const { n } of pool.stream(NUMBERS, [100_000])) {
        await pool.query('INSERT INTO kept VALUES ($1)', [n]);
        if (n === 3) throw new Error('enough');
      }
    });
    await expect(work).rejects.toThrow('enough');
    expect(await adminQuery(server(), 'SELECT 1 FROM kept')).toEqual([]);
    await expectRest(pool);
  });

  it('a signal cancels what runs', async () => {
    const pool = openPool('inside-abort');
    const controller = new AbortController();
    const work = pool.transaction(() => collect(pool.stream('SELECT pg_sleep(60)', [], { signal: controller.signal })));
    await waitFor(async () => (await sessionsOf(server(), pool.name)).some(({ state }) => state === 'active'), {
      message: 'the statement to run',
    });
    controller.abort();
    await expect(work).rejects.toMatchObject({ code: 'PG_ABORTED' });
    await expectRest(pool);
  });

  it('belongs to the transaction in which stream() was called, wherever it is read', async () => {
    const pool = openPool('belongs');
    const kept = 'SELECT id FROM kept';
    const outer = pool.stream(kept);
    const inner = await pool.transaction(async () => {
      await pool.query('INSERT INTO kept VALUES (1)');
      expect(await collect(outer)).toEqual([]);
      expect(await collect(pool.stream(kept))).toEqual([{ id: 1 }]);
      const unread = pool.stream(kept);
      return { unread, begun: pool.stream(NUMBERS, [10], { batchSize: 1 }) };
    });
    await expect(inner.unread.next()).rejects.toMatchObject({ code: 'PG_TRANSACTION_ENDED' });
    await expect(inner.begun.next()).rejects.toMatchObject({ code: 'PG_TRANSACTION_ENDED' });
    await inner.begun.return();
    await adminQuery(server(), 'TRUNCATE kept');
    await expectRest(pool, 2);
  });

  it('an Observable that is left has nothing to be awaited', async () => {
    const pool = openPool('inside-observable');
    const first = await pool.transaction(() => firstValueFrom(pool.rows$(NUMBERS, [100_000])));
    expect(first).toEqual({ n: 1 });
    await expectRest(pool);
  });
});

describe('for libraries', () => {
  it('it is the cursor that PgTyped asks a connection for', async () => {
    const pool = openPool('pgtyped');
    const statement = 'SELECT n FROM generate_series(1, 10) AS n WHERE n >= :least!';
    const at = statement.indexOf(':least');
    const query = new PreparedQuery<{ least: number }, { n: number }>({
      usedParamSet: { least: true },
      params: [{ name: 'least', required: true, transform: { type: 'scalar' as never }, locs: [{ a: at, b: at + 6 }] }],
      statement,
    });
    const cursor = query.stream({ least: 3 }, pool);
    expect(await cursor.read(2)).toEqual([{ n: 3 }, { n: 4 }]);
    expect(await cursor.read(100)).toHaveLength(6);
    expect(await cursor.read(1)).toEqual([]);
    const left = query.stream({ least: 3 }, pool);
    await left.read(1);
    await left.close();
    await expectRest(pool);
  });
});

describe('rows$', () => {
  it('runs the statement for each subscription, and not before', async () => {
    const pool = openPool('cold');
    const rows$ = pool.rows$<{ n: number }>(NUMBERS, [3]);
    expect(pool.stats().acquires).toBe(0);
    for (const run of [1, 2]) {
      expect(await lastValueFrom(rows$.pipe(toArray()))).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
      expect(pool.stats().acquires).toBe(run);
    }
    await expectRest(pool);
  });

  it('delivers not one row more when it is unsubscribed in the middle of a batch', async () => {
    const pool = openPool('unsubscribed');
    let delivered = 0;
    const counted = new Observable((subscriber) =>
      pool.rows$(NUMBERS, [100_000]).subscribe({
        next: (row) => {
          delivered++;
          subscriber.next(row);
        },
      }),
    );
    await lastValueFrom(counted.pipe(take(5)));
    expect(delivered).toBe(5);
    await expectRest(pool);
  });

  it('tells of errors behind the rows before them', async () => {
    const pool = openPool('observable-error');
    const seen: unknown[] = [];
    const rows$ = pool.rows$('SELECT 10 / (3 - n) AS q FROM generate_series(1, 5) AS n');
    const failed = new Promise((resolve, reject) => {
      rows$.subscribe({
        next: (row) => seen.push(row),
        error: resolve,
        complete: () => reject(new Error('completed')),
      });
    });
    expect(await failed).toMatchObject({ code: '22012' });
    expect(seen).toEqual([{ q: 5 }, { q: 10 }]);
    await expectRest(pool);
  });

  it('is ended by a signal, also by a subscriber that fires it in the middle of a batch', async () => {
    const pool = openPool('observable-abort');
    const controller = new AbortController();
    const seen: unknown[] = [];
    const ended = new Promise((resolve) => {
      pool.rows$(NUMBERS, [100_000], { signal: controller.signal }).subscribe({
        next: (row) => {
          seen.push(row);
          if (seen.length === 3) controller.abort();
        },
        error: resolve,
      });
    });
    expect(await ended).toMatchObject({ code: 'PG_ABORTED' });
    expect(seen).toHaveLength(3);
    await expectRest(pool);
  });
});

describe('10 000 cycles of opening and leaving', () => {
  it('leave no connection and no listener', async () => {
    const pool = openPool('cycles');
    const { signal } = new AbortController();
    const listeners = async (): Promise<number[]> =>
      pool.withConnection((lease) =>
        Promise.resolve(['drain', 'end', 'error'].map((event) => lease.listenerCount(event))),
      );
    const before = await listeners();
    for (let cycle = 0; cycle < 5_000; cycle++) {
      for await (const row of pool.stream(NUMBERS, [100], { batchSize: 10, signal })) if (row) break;
      await firstValueFrom(pool.rows$(NUMBERS, [100], { batchSize: 10, signal }));
    }
    // An Observable cannot be awaited: the next stream may have met its connection on the way back.
    await expectRest(pool, 2);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    expect(await listeners()).toEqual(before);
    expect(pool.stats().connects).toBeLessThanOrEqual(2);
  }, 120_000);

  it('leave no portal in a transaction', async () => {
    const pool = openPool('cycles-inside');
    await pool.transaction(async () => {
      for (let cycle = 0; cycle < 10_000; cycle++) {
        for await (const row of pool.stream(NUMBERS, [100], { batchSize: 10 })) if (row) break;
      }
      expect((await pool.query("SELECT name FROM pg_cursors WHERE name <> ''")).rows).toEqual([]);
    });
    await expectRest(pool);
  }, 120_000);
});
