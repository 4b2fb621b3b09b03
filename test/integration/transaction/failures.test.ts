import { setImmediate as tick } from 'node:timers/promises';
import pg from 'pg';
import { describe, expect, it } from 'vitest';
import type { PgPool, PgTransaction } from 'nestjs-pg';
import { adminQuery, sessionsOf, waitFor } from '../../support/postgres.js';
import {
  expectAllIdle,
  expectNothingLeft,
  failureOf,
  insert,
  items,
  killBackend,
  openPool,
  server,
  warningsOf,
  watchPool,
} from './fixture.js';

/** The server process of a transaction. */
async function pidOf(transaction: PgTransaction): Promise<number> {
  const { rows } = await transaction.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return rows[0]?.pid ?? 0;
}

/** Ends the server process of a connection, and waits until it is gone. */
async function terminate(pid: number): Promise<void> {
  await adminQuery(server(), 'SELECT pg_terminate_backend($1, 5000)', [pid]);
}

/** The pool is as before: the same connection, rolled back, serves the next. */
async function expectRecycled(pool: PgPool): Promise<void> {
  expect(await items()).toEqual([]);
  expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  expect(pool.stats()).toMatchObject({ connects: 1, retired: {}, resets: 0 });
  expect(warningsOf(pool)).toEqual([]);
  await expectNothingLeft(pool);
}

describe('what the function throws', () => {
  const thrown: [string, unknown][] = [
    ['an error', new Error('mine')],
    ['an error of the class of ours', Object.assign(new Error('mine'), { code: '23505' })],
    ['a frozen error', Object.freeze(new Error('mine'))],
    ['undefined', undefined],
    ['null', null],
    ['a text', 'mine'],
    ['zero', 0],
  ];

  it.each(thrown)('%s: rejects with the very same, and everything is rolled back', async (_, what) => {
    const pool = openPool('thrown', { pool: { max: 1 } });
    const places: ((transaction: PgTransaction) => unknown)[] = [
      () => {
        throw what;
      },
      async (transaction) => {
        await transaction.query(insert(1));
        throw what;
      },
      async (transaction) => {
        await transaction.query(insert(1));
        await tick();
        throw what;
      },
      (transaction) =>
        transaction.transaction(async (inner) => {
          await inner.query(insert(1));
          throw what;
        }),
    ];
    for (const place of places) {
      const rejected = await pool.transaction(place).then(
        () => 'nothing',
        (reason: unknown) => ({ reason }),
      );
      expect(rejected).toEqual({ reason: what });
      expect((rejected as { reason: unknown }).reason).toBe(what);
    }
    await expectRecycled(pool);
  });

  it('gives the value of the function, whatever it is', async () => {
    const pool = openPool('values', { pool: { max: 1 } });
    for (const value of [undefined, null, 0, 'a', new Error('a value')]) {
      expect(await pool.transaction(() => value)).toBe(value);
      expect(await pool.transaction((outer) => outer.transaction(async () => value))).toBe(value);
    }
    await expectNothingLeft(pool);
  });
});

describe('a statement that fails', () => {
  it('rejects with the untouched error of the server, and names the line that asked', async () => {
    const pool = openPool('server-error', { pool: { max: 1 } });
    let inside: unknown;
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        await transaction.query('SELECT 1/0').catch((reason: unknown) => {
          inside = reason;
          throw reason;
        });
      }),
    );
    expect(error).toBe(inside);
    expect(error).toBeInstanceOf(pg.DatabaseError);
    expect(error).toMatchObject({ code: '22012', message: 'division by zero' });
    expect(error.stack).toContain('failures.test.ts');
    await expectRecycled(pool);
  });

  it('as the first one takes BEGIN with it', async () => {
    const pool = openPool('first', { pool: { max: 1 } });
    for (const text of ['SELECT 1/0', 'no SQL', 'SELECT 1; SELECT 1/0', 'LOCK TABLE nothing']) {
      expect(await failureOf(pool.transaction((transaction) => transaction.query(text)))).toBeInstanceOf(
        pg.DatabaseError,
      );
    }
    await expectRecycled(pool);
  });

  it('and is caught cannot be committed, and says by what', async () => {
    const pool = openPool('swallowed', { pool: { max: 1 } });
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        await transaction.query('SELECT 1/0').catch(() => undefined);
        // What comes behind it does not hide it.
        await transaction.query('SELECT 1').catch(() => undefined);
        return 'all is well';
      }),
    );
    expect(error).toMatchObject({ code: 'PG_TRANSACTION_ABORTED', cause: { code: '22012' } });
    expect(error.message).toContain('division by zero');
    await expectRecycled(pool);
  });

  it('and is caught is the same while the end of its answer is still under way', async () => {
    await using watched = await watchPool('late-ready');
    const { pool, proxy } = watched;
    await pool.query('SELECT 1');
    let release: (() => void) | undefined;
    proxy.onData((chunk, from, connection) => {
      if (from === 'client' || chunk[0] !== 'E'.charCodeAt(0)) return chunk;
      const end = chunk.readInt32BE(1) + 1;
      release = () => connection.send('client', chunk.subarray(end));
      return chunk.subarray(0, end);
    });
    const run = failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        await transaction.query('SELECT 1/0').catch(() => undefined);
      }),
    );
    await waitFor(() => release, { message: 'the error' });
    await tick();
    proxy.onData(undefined);
    release?.();
    expect(await run).toMatchObject({ code: 'PG_TRANSACTION_ABORTED', cause: { code: '22012' } });
    await expectRecycled(pool);
  });

  it('by its own time is rolled back', async () => {
    const pool = openPool('statement-timeout', { pool: { max: 1 } });
    const transaction = pool.transaction(
      async (open) => {
        await open.query(insert(1));
        await open.query('SELECT pg_sleep(600)');
      },
      { settings: { statement_timeout: 20 } },
    );
    await expect(transaction).rejects.toMatchObject({ code: '57014' });
    await expectRecycled(pool);
  });

  it('by its own signal is cancelled on the server, and cannot be committed', async () => {
    const pool = openPool('own-signal', { pool: { max: 1 } });
    const controller = new AbortController();
    const reason = new Error('enough');
    let inside: unknown;
    const transaction = failureOf(
      pool.transaction(async (open) => {
        await open.query(insert(1));
        const sleeping = { text: 'SELECT pg_sleep(600)', signal: controller.signal };
        inside = await failureOf(open.query(sleeping));
      }),
    );
    await waitFor(async () => (await sessionsOf(server(), pool.name))[0]?.wait_event === 'PgSleep', {
      message: 'the statement to run',
    });
    controller.abort(reason);
    const error = await transaction;
    expect(inside).toMatchObject({ code: 'PG_ABORTED', cause: reason });
    expect(error).toMatchObject({ code: 'PG_TRANSACTION_ABORTED', cause: { code: 'PG_ABORTED' } });
    await expectRecycled(pool);
  });

  it('by its own signal before it is sent has done nothing', async () => {
    const pool = openPool('signal-before', { pool: { max: 1 } });
    await pool.transaction(async (open) => {
      const aborted = { ...insert(1), signal: AbortSignal.abort() };
      expect(await failureOf(open.query(aborted))).toMatchObject({ code: 'PG_ABORTED' });
      const controller = new AbortController();
      const running = open.query('SELECT 1');
      const waiting = open.query({ ...insert(2), signal: controller.signal } as pg.QueryConfig);
      controller.abort();
      expect(await failureOf(waiting)).toMatchObject({ code: 'PG_ABORTED' });
      await running;
      await open.query(insert(3));
    });
    expect(await items()).toEqual([3]);
    await expectNothingLeft(pool);
  });
});

describe('a value that cannot be converted', () => {
  const failing = {
    toPostgres: () => Promise.reject,
    get text(): string {
      return 'never';
    },
  };
  const mine = new Error('mine');
  failing.toPostgres = () => {
    throw mine;
  };

  it('fails its statement alone, wherever it stands: the transaction is usable', async () => {
    const pool = openPool('conversion', { pool: { max: 1 } });
    await pool.transaction(async (transaction) => {
      expect(await failureOf(transaction.query('SELECT $1::text', [failing]))).toBe(mine);
      await transaction.query(insert(1));
      expect(await failureOf(transaction.query('SELECT $1::text', [failing]))).toBe(mine);
      await transaction.transaction(async (inner) => {
        expect(await failureOf(inner.query('SELECT $1::text', [failing]))).toBe(mine);
        await inner.query(insert(2));
        expect(await failureOf(inner.query('SELECT $1::text', [failing]))).toBe(mine);
      });
      expect(await failureOf(transaction.transaction((inner) => inner.query('SELECT $1::text', [failing])))).toBe(mine);
      await transaction.query(insert(3));
    });
    expect(await items()).toEqual([1, 2, 3]);
    await adminQuery(server(), 'TRUNCATE item');
    expect(await failureOf(pool.transaction((open) => open.query('SELECT $1::text', [failing])))).toBe(mine);
    await expectRecycled(pool);
  });

  it('is the same for what is no statement at all', async () => {
    const pool = openPool('no-statement', { pool: { max: 1 } });
    await pool.transaction(async (transaction) => {
      for (const config of [{ text: 7 }, {}, { values: [1] }]) {
        await failureOf(transaction.query(config as unknown as string));
      }
      expect(() => transaction.query(undefined as unknown as string)).toThrow(TypeError);
      await transaction.query(insert(1));
    });
    expect(await items()).toEqual([1]);
    await expectNothingLeft(pool);
  });

  it('from a type parser that throws fails its statement alone', async () => {
    const parsers = {
      getTypeParser: (oid: number) => (text: string) => {
        if (oid === 25) throw mine;
        return text;
      },
    };
    const pool = openPool('parser', { pool: { max: 1 }, types: parsers });
    await pool.transaction(async (transaction) => {
      expect(await failureOf(transaction.query("SELECT 'a'::text"))).toBe(mine);
      await transaction.query(insert(1));
      expect(await failureOf(transaction.query("SELECT 'a'::text"))).toBe(mine);
    });
    expect(await items()).toEqual([1]);
    await expectNothingLeft(pool);
  });
});

describe('a connection that is lost', () => {
  /** The connection was closed, and another serves the next. */
  async function expectReplaced(pool: PgPool): Promise<void> {
    expect(await items()).toEqual([]);
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(pool.stats()).toMatchObject({ connects: 2 });
    await expectNothingLeft(pool);
  }

  it('before BEGIN', async () => {
    const pool = openPool('lost-begin', { pool: { max: 1 } });
    pool.once('acquire', killBackend);
    const error = await failureOf(pool.transaction((transaction) => transaction.query('SELECT pg_sleep(600)')));
    expect(error.code).toBe('57P01');
    await expectReplaced(pool);
  });

  it('while a statement runs', async () => {
    const pool = openPool('lost-running', { pool: { max: 1 } });
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        const pid = await pidOf(transaction);
        process.kill(pid, 'SIGTERM');
        await transaction.query('SELECT pg_sleep(600)');
      }),
    );
    expect(error.code).toBe('57P01');
    await expectReplaced(pool);
  });

  it('between two statements: the next one says so', async () => {
    const pool = openPool('lost-between', { pool: { max: 1 } });
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        await terminate(await pidOf(transaction));
        await transaction.query(insert(2));
      }),
    );
    expect(error).toBeInstanceOf(Error);
    await expectReplaced(pool);
  });

  it('and is noticed before COMMIT: nothing was committed, and it says so', async () => {
    const pool = openPool('lost-idle', { pool: { max: 1 } });
    const removed = new Promise((resolve) => pool.once('remove', resolve));
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        await terminate(await pidOf(transaction));
        await removed;
      }),
    );
    expect(error).toMatchObject({ code: 'PG_CONNECTION_LOST' });
    await expectReplaced(pool);
  });

  it('and its error is caught: nothing was committed, and it says so', async () => {
    const pool = openPool('lost-caught', { pool: { max: 1 } });
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        process.kill(await pidOf(transaction), 'SIGTERM');
        await failureOf(transaction.query('SELECT pg_sleep(600)'));
        // What comes after it goes nowhere.
        expect((await failureOf(transaction.query(insert(2)))).code).toMatch(/PG_CONNECTION_LOST|57P01/);
      }),
    );
    expect(error).toMatchObject({ code: 'PG_CONNECTION_LOST' });
    await expectReplaced(pool);
  });

  it('in an inner transaction takes the outer one with it', async () => {
    const pool = openPool('lost-inner', { pool: { max: 1 } });
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        await failureOf(
          transaction.transaction(async (inner) => {
            process.kill(await pidOf(inner), 'SIGTERM');
            await inner.query('SELECT pg_sleep(600)');
          }),
        );
        await failureOf(transaction.query(insert(2)));
      }),
    );
    expect(error).toMatchObject({ code: 'PG_CONNECTION_LOST' });
    await expectReplaced(pool);
  });

  it('while many wait for their turn: each is told, and none runs elsewhere', async () => {
    const pool = openPool('lost-waiting', { pool: { max: 2 } });
    const results = await pool
      .transaction(async (transaction) => {
        process.kill(await pidOf(transaction), 'SIGTERM');
        const running = transaction.query('SELECT pg_sleep(600)');
        const waiting = [1, 2, 3].map((id) => pool.query(insert(id)));
        return Promise.allSettled([running, ...waiting]);
      })
      .catch((error: unknown) => error);
    expect(results).toMatchObject({ code: 'PG_CONNECTION_LOST' });
    expect(await items()).toEqual([]);
    await expectNothingLeft(pool);
  });

  it.each(['a cut', 'a cut, with a function that goes on'])('by %s', async (how) => {
    await using watched = await watchPool('cut');
    const { pool, proxy } = watched;
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        const running = transaction.query('SELECT pg_sleep(600)');
        proxy.cut();
        if (how === 'a cut') await running;
        else await failureOf(running);
      }),
    );
    if (how !== 'a cut') expect(error).toMatchObject({ code: 'PG_CONNECTION_LOST' });
    await expectReplaced(pool);
  });
});

describe('a statement that ends the transaction', () => {
  it.each(['COMMIT', 'rollback', 'BEGIN', '/* so */ END', '-- so\nABORT'])('%j is refused', async (text) => {
    const pool = openPool('control', { pool: { max: 1 } });
    await pool.transaction(async (transaction) => {
      const error = await failureOf(transaction.query(text));
      expect(error).toMatchObject({ code: 'PG_TRANSACTION_BUSY' });
      expect(error.message).toMatch(/return from its function to commit/);
      await transaction.query(insert(1));
    });
    expect(await items()).toEqual([1]);
    await expectNothingLeft(pool);
  });

  it.each([
    ['INSERT INTO item (id) VALUES (1); COMMIT', [1]],
    ['INSERT INTO item (id) VALUES (1); ROLLBACK', []],
    ['SELECT 1; COMMIT; SELECT 1/0', []],
  ])('in several in one text (%j) takes no more statements after it', async (text, left) => {
    const pool = openPool('control-hidden', { pool: { max: 1 } });
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(text).catch(() => undefined);
        expect(await failureOf(transaction.query(insert(2)))).toMatchObject({ code: 'PG_TRANSACTION_ENDED' });
        expect(await failureOf(pool.query(insert(3)))).toMatchObject({ code: 'PG_TRANSACTION_ENDED' });
        const inner = transaction.transaction((nested) => nested.query(insert(4)));
        expect(await failureOf(inner)).toMatchObject({ code: 'PG_TRANSACTION_ENDED' });
        expect(await failureOf(pool.batch([insert(5)]))).toMatchObject({ code: 'PG_TRANSACTION_ENDED' });
      }),
    );
    expect(error).toMatchObject({ code: 'PG_TRANSACTION_ENDED' });
    if (text.includes('1/0')) expect(error.cause).toMatchObject({ code: '22012' });
    expect(await items()).toEqual(left);
    expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
    await expectNothingLeft(pool);
  });

  it('in a procedure is refused by the server', async () => {
    await adminQuery(
      server(),
      'CREATE OR REPLACE PROCEDURE ending() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO item (id) VALUES (9); COMMIT; END $$',
    );
    const pool = openPool('procedure', { pool: { max: 1 } });
    await expect(pool.transaction((transaction) => transaction.query('CALL ending()'))).rejects.toMatchObject({
      code: '2D000',
    });
    await expectRecycled(pool);
  });

  it('and begins another is no success', async () => {
    const pool = openPool('chain', { pool: { max: 1 } });
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query('SELECT 1; COMMIT; BEGIN');
        await transaction.query(insert(1));
        throw new Error('mine');
      }),
    );
    expect(error.message).toBe('mine');
    await expectRecycled(pool);
  });
});

describe('query_timeout', () => {
  it('rolls back, and the connection is used again', async () => {
    const pool = openPool('query-timeout', { pool: { max: 1 }, query_timeout: 30 });
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        await transaction.query('SELECT pg_sleep(600)');
      }),
    );
    expect(error.message).toBe('Query read timeout');
    await expectRecycled(pool);
  });

  it('that is caught cannot be committed: the statement may have been done', async () => {
    const pool = openPool('query-timeout-caught', { pool: { max: 1 } });
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        const slow = { text: 'INSERT INTO item (id) SELECT 2 FROM pg_sleep(0.2)', query_timeout: 20 };
        await failureOf(transaction.query(slow as pg.QueryConfig));
        await transaction.query(insert(3));
      }),
    );
    expect(error).toMatchObject({ code: 'PG_TRANSACTION_ABORTED', cause: { message: 'Query read timeout' } });
    await expectRecycled(pool);
  });
});

describe('a transaction under way when the pool ends', () => {
  it('comes to its end, or is rolled back by the deadline', async () => {
    const pool = openPool('drain', { pool: { max: 1 } });
    const first = pool.transaction(async (transaction) => {
      await transaction.query(insert(1));
      void pool.drain(10_000);
      await tick();
      await transaction.query(insert(2));
    });
    await first;
    await expect(pool.transaction(() => 1)).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
    expect(await items()).toEqual([1, 2]);

    const second = openPool('drain', { pool: { max: 1 } });
    const cut = failureOf(
      second.transaction(async (transaction) => {
        await transaction.query(insert(3));
        void second.drain(1);
        await transaction.query('SELECT pg_sleep(600)');
      }),
    );
    expect((await cut).code).toBe('57014');
    await second.end();
    expect(await items()).toEqual([1, 2]);
    await expectAllIdle(second);
  });
});
