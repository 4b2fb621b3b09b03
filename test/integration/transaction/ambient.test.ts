import { EventEmitter, once } from 'node:events';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setImmediate as tick, setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import Cursor from 'pg-cursor';
import QueryStream from 'pg-query-stream';
import { concatMap, defer, firstValueFrom, from, lastValueFrom, mergeMap, of, switchMap, timer, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { PgPool } from 'nestjs-pg';
import { deferred } from '../../../lib/util/deferred.js';
import { expectNothingLeft, failureOf, insert, items, openPool } from './fixture.js';

/** The transaction's own number, as the server knows it; 0 outside of one. */
const WHERE = 'SELECT coalesce(pg_current_xact_id_if_assigned()::text::int, 0) AS id';

async function idOf(queryable: Pick<PgPool, 'query'>): Promise<number> {
  const { rows } = await queryable.query<{ id: number }>(WHERE);
  return rows[0]?.id ?? 0;
}

describe('pool.query() inside of a transaction', () => {
  const ways: [string, (pool: PgPool) => Promise<number>][] = [
    ['at once', (pool) => idOf(pool)],
    [
      'after an await',
      async (pool) => {
        await tick();
        return idOf(pool);
      },
    ],
    [
      'after a timer',
      async (pool) => {
        await delay(1);
        return idOf(pool);
      },
    ],
    ['in a timer', (pool) => new Promise((resolve) => setTimeout(() => resolve(idOf(pool)), 1))],
    ['in setImmediate', (pool) => new Promise((resolve) => setImmediate(() => resolve(idOf(pool))))],
    ['in nextTick', (pool) => new Promise((resolve) => process.nextTick(() => resolve(idOf(pool))))],
    ['in a microtask', (pool) => new Promise((resolve) => queueMicrotask(() => resolve(idOf(pool))))],
    [
      'in the callback of another query',
      (pool) => new Promise((resolve) => pool.query('SELECT 1', () => resolve(idOf(pool)))),
    ],
    [
      'in the callback of a query that fails to be sent',
      (pool) =>
        new Promise((resolve) => {
          const toPostgres = (): never => {
            throw new Error('mine');
          };
          pool.query('SELECT $1', [{ toPostgres }], () => resolve(idOf(pool)));
        }),
    ],
    [
      'by callback itself',
      (pool) => new Promise((resolve) => pool.query(WHERE, (_, { rows }) => resolve((rows[0] as { id: number }).id))),
    ],
    [
      'as a submitted query, and behind it',
      (pool) =>
        new Promise((resolve, reject) => {
          const query = new pg.Query('SELECT 1');
          query.on('end', () => resolve(idOf(pool)));
          query.on('error', reject);
          pool.query(query);
        }),
    ],
    [
      'in the callback of a submitted query',
      (pool) => new Promise((resolve) => pool.query(new pg.Query('SELECT 1', () => resolve(idOf(pool))))),
    ],
    [
      'in the events of a query stream',
      (pool) =>
        new Promise((resolve, reject) => {
          const stream = pool.query(new QueryStream('SELECT 1'));
          let id: Promise<number> | undefined;
          stream.on('data', () => void (id ??= idOf(pool)));
          stream.on('end', () => resolve(id ?? 0));
          stream.on('error', reject);
        }),
    ],
    [
      'in an event emitter that was made inside',
      async (pool) => {
        const emitter = new EventEmitter();
        const heard = once(emitter, 'later') as Promise<[number]>;
        emitter.on('now', () => void idOf(pool).then((id) => emitter.emit('later', id)));
        setTimeout(() => emitter.emit('now'), 1);
        return (await heard)[0];
      },
    ],
    [
      'in a stream that was made inside',
      async (pool) => {
        let id = 0;
        await pipeline(Readable.from([1, 2, 3]), async (numbers: AsyncIterable<number>) => {
          for await (const _ of numbers) id = await idOf(pool);
        });
        return id;
      },
    ],
    [
      'beside the rows of pool.stream()',
      async (pool) => {
        let id = 0;
        for await (const _ of pool.stream('SELECT * FROM generate_series(1, 1000)')) id = await idOf(pool);
        return id;
      },
    ],
    [
      'as pool.stream()',
      async (pool) => {
        const { value } = await pool.stream<{ id: number }>(WHERE).next();
        return value?.id ?? 0;
      },
    ],
    ['as pool.rows$()', async (pool) => (await firstValueFrom(pool.rows$<{ id: number }>(WHERE))).id],
    [
      'as a cursor',
      async (pool) => {
        const cursor = pool.query(new Cursor<{ id: number }>(WHERE));
        const [row] = await cursor.read(1);
        await cursor.close();
        return row?.id ?? 0;
      },
    ],
    [
      'as a query stream',
      async (pool) => {
        let id = 0;
        for await (const row of pool.query(new QueryStream(WHERE))) id = (row as { id: number }).id;
        return id;
      },
    ],
    ['as a batch', async (pool) => ((await pool.batch([WHERE]))[0]?.rows[0] as { id: number }).id],
    [
      'in rxjs operators',
      (pool) =>
        lastValueFrom(
          of(1).pipe(
            mergeMap(() => timer(1)),
            switchMap(() => from(Promise.resolve())),
            concatMap(() => defer(() => idOf(pool))),
          ),
        ),
    ],
    [
      'in rxjs operators behind rows',
      async (pool) => {
        const ids = pool.rows$('SELECT * FROM generate_series(1, 3)').pipe(
          concatMap(() => idOf(pool)),
          toArray(),
        );
        return new Set(await lastValueFrom(ids)).size === 1 ? idOf(pool) : -1;
      },
    ],
    ['in services side by side', async (pool) => (await Promise.all([1, 2, 3].map(() => idOf(pool))))[2] ?? 0],
  ];

  it.each(ways)('takes part %s', async (_, way) => {
    const pool = openPool('ambient', { pool: { max: 2 } });
    await pool.transaction(async (transaction) => {
      await transaction.query(insert(1));
      const id = await idOf(transaction);
      expect(id).toBeGreaterThan(0);
      expect(await way(pool)).toBe(id);
    });
    // And nothing does afterwards, nor beside it.
    expect(await way(pool)).toBe(0);
    expect(pool.stats().connects).toBeLessThanOrEqual(2);
    await expectNothingLeft(pool);
  });
});

describe('what does not take part', () => {
  it('is pool.connect(), in both forms, and pool.withConnection()', async () => {
    const pool = openPool('independent', { pool: { max: 2 } });
    await pool.transaction(async (transaction) => {
      await transaction.query(insert(1));
      const lease = await pool.connect();
      expect(await idOf(lease)).toBe(0);
      lease.release();
      expect(await pool.withConnection((client) => idOf(client))).toBe(0);
      const byCallback = new Promise<number>((resolve) => {
        pool.connect((_, client, release) => {
          void idOf(client as NonNullable<typeof client>).then((id) => {
            release();
            resolve(id);
          });
        });
      });
      expect(await byCallback).toBe(0);
    });
    await expectNothingLeft(pool);
  });

  it('is pool.outside(), and all that it starts', async () => {
    const pool = openPool('outside', { pool: { max: 3 } });
    await pool.transaction(async (transaction) => {
      await transaction.query(insert(1));
      const id = await idOf(transaction);
      expect(await pool.outside(() => idOf(pool))).toBe(0);
      expect(pool.outside(() => 'a value')).toBe('a value');
      await pool.outside(async () => {
        await tick();
        expect(pool.currentTransaction).toBeUndefined();
        expect(await idOf(pool)).toBe(0);
        await pool.transaction(async (another) => {
          await another.query(insert(2));
          expect(await idOf(another)).not.toBe(id);
          expect(another.outer).toBeUndefined();
        });
      });
      expect(await idOf(pool)).toBe(id);
      expect(() =>
        pool.outside(() => {
          throw new Error('mine');
        }),
      ).toThrow('mine');
      expect(await items()).toEqual([2]);
    });
    expect(await items()).toEqual([1, 2]);
    await expectNothingLeft(pool);
  });

  it('is another pool: each has a transaction of its own', async () => {
    const [one, other] = [openPool('one', { pool: { max: 1 } }), openPool('other', { pool: { max: 1 } })];
    await one.transaction(async (first) => {
      await one.query(insert(1));
      expect(other.currentTransaction).toBeUndefined();
      expect(await idOf(other)).toBe(0);
      const mine = new Error('mine');
      const failing = other.transaction(async (second) => {
        await other.query(insert(2));
        expect(one.currentTransaction).toBe(first);
        expect(other.currentTransaction).toBe(second);
        await one.query(insert(3));
        expect(await idOf(one)).not.toBe(await idOf(other));
        await one.outside(async () => {
          expect(one.currentTransaction).toBeUndefined();
          expect(other.currentTransaction).toBe(second);
        });
        throw mine;
      });
      expect(await failureOf(failing)).toBe(mine);
      expect(other.currentTransaction).toBeUndefined();
    });
    expect(await items()).toEqual([1, 3]);
    await expectNothingLeft(one);
    await expectNothingLeft(other);
  });

  it('is a transaction that runs beside it', async () => {
    const pool = openPool('beside', { pool: { max: 5 } });
    const ids = await Promise.all(
      [1, 2, 3, 4, 5].map((id) =>
        pool.transaction(async (transaction) => {
          await pool.query(insert(id));
          await tick();
          expect(pool.currentTransaction).toBe(transaction);
          return idOf(pool);
        }),
      ),
    );
    expect(new Set(ids).size).toBe(5);
    await expectNothingLeft(pool);
  });
});

describe('what outlives its transaction', () => {
  const stragglers: [string, (pool: PgPool) => unknown][] = [
    ['query()', (pool) => pool.query(insert(1))],
    ['query() by callback', (pool) => new Promise((_, reject) => pool.query('SELECT 1', reject))],
    ['batch()', (pool) => pool.batch([insert(1)])],
    ['transaction()', (pool) => pool.transaction(() => pool.query(insert(1)))],
    ['stream()', (pool) => pool.stream('SELECT 1').next()],
    ['rows$()', (pool) => firstValueFrom(pool.rows$('SELECT 1'))],
    ['a cursor', (pool) => pool.query(new Cursor('SELECT 1')).read(1)],
    [
      'a submitted query',
      (pool) => {
        const query = new pg.Query('SELECT 1');
        // pg's types know no error event with a listener of this kind.
        const failed = once(query as unknown as EventEmitter, 'end');
        pool.query(query);
        return failed;
      },
    ],
  ];

  it.each(stragglers)('%s gets a clear error, and no other connection', async (_, ask) => {
    const pool = openPool('straggler', { pool: { max: 2 } });
    for (const end of [(): undefined => undefined, (): Promise<never> => Promise.reject(new Error('mine'))]) {
      let asking: Promise<unknown> | undefined;
      const over = deferred<void>();
      await pool
        .transaction(async (transaction) => {
          await transaction.query('SELECT 1');
          asking = over.promise.then(() => ask(pool));
          asking.catch(() => undefined);
          await end();
        })
        .catch(() => undefined);
      over.resolve();
      const { acquires } = pool.stats();
      const error = await failureOf(asking as Promise<unknown>);
      expect(error).toMatchObject({ code: 'PG_TRANSACTION_ENDED' });
      expect(error.message).toMatch(/this transaction is over.*Await everything inside.*pool\.outside\(\)/s);
      expect(pool.stats().acquires).toBe(acquires);
    }
    expect(await items()).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('may run where it was started in pool.outside()', async () => {
    const pool = openPool('allowed', { pool: { max: 1 } });
    let later: Promise<unknown> | undefined;
    await pool.transaction(async () => {
      await pool.query('SELECT 1');
      later = pool.outside(() => tick().then(() => pool.query(insert(1))));
    });
    await later;
    expect(await items()).toEqual([1]);
    await expectNothingLeft(pool);
  });
});
