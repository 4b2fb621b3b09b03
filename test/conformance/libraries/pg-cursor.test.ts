import Cursor from 'pg-cursor';
import { describe, expect, it } from 'vitest';
import { startProxy } from '../../support/proxy.js';
import {
  BY_LEASE,
  BY_POOL,
  COUNT_UP,
  DIVISION_BY_ZERO,
  FAILS_AT_5000,
  kill,
  onOneConnection,
  openPoolOfOne,
  pidOf,
  through,
  WAYS,
} from './one-connection.js';
import { expectAllIdle, expectNoSessions, expectNothingLeft, server, warningsOf } from './pool-under-test.js';

interface Row {
  n: number;
}

/** Reads to the end, a thousand rows at a time. */
async function readAll<T>(cursor: Cursor<T>): Promise<T[]> {
  const all: T[] = [];
  for (;;) {
    const rows = await cursor.read(1000);
    if (rows.length === 0) return all;
    all.push(...rows);
  }
}

describe.each(WAYS)('a cursor $name', (way) => {
  it('reads 10 000 rows in portions', async () => {
    const outcome = await onOneConnection(way, new Cursor<Row>(COUNT_UP), async (cursor) => {
      const rows = await readAll(cursor);
      expect(rows.length).toBe(10_000);
      expect(rows.at(-1)).toEqual({ n: 10_000 });
    });
    expect(outcome).toBe('kept');
  });

  it('takes values, rowMode and callbacks', async () => {
    const cursor = new Cursor<number[]>('SELECT n, n + $1::int FROM generate_series(1, 3) AS n', [10], {
      rowMode: 'array',
    });
    const outcome = await onOneConnection(way, cursor, async () => {
      const rows = await new Promise<number[][]>((resolve, reject) => {
        cursor.read(100, (error, read) => (error ? reject(error) : resolve(read)));
      });
      expect(rows).toEqual([
        [1, 11],
        [2, 12],
        [3, 13],
      ]);
    });
    expect(outcome).toBe('kept');
  });

  it('reads nothing from an empty statement', async () => {
    const outcome = await onOneConnection(way, new Cursor(''), async (cursor) => {
      expect(await cursor.read(10)).toEqual([]);
    });
    expect(outcome).toBe('kept');
  });

  it('is closed in the middle', async () => {
    const outcome = await onOneConnection(way, new Cursor<Row>(COUNT_UP), async (cursor) => {
      expect(await cursor.read(10)).toHaveLength(10);
      await cursor.close();
      expect(await cursor.read(10)).toEqual([]);
    });
    expect(outcome).toBe('kept');
  });

  it('tells of an error in the SQL', async () => {
    const outcome = await onOneConnection(way, new Cursor('SELECT nonsense'), async (cursor) => {
      await expect(cursor.read(10)).rejects.toMatchObject({ code: '42703' });
      await expect(cursor.read(10)).rejects.toMatchObject({ code: '42703' });
    });
    expect(outcome).toBe('kept');
  });

  it('tells of an error in the middle of the rows, and can be closed then', async () => {
    const outcome = await onOneConnection(way, new Cursor(FAILS_AT_5000), async (cursor) => {
      for (let portion = 0; portion < 4; portion++) expect(await cursor.read(1000)).toHaveLength(1000);
      const failed = cursor.read(1000);
      await expect(failed.finally(() => cursor.close())).rejects.toMatchObject(DIVISION_BY_ZERO);
    });
    expect(outcome).toBe('kept');
  });

  it('tells that its backend is gone', async () => {
    const outcome = await onOneConnection(way, new Cursor<Row>(COUNT_UP), async (cursor, { pid }) => {
      expect(await cursor.read(10)).toHaveLength(10);
      await kill(pid);
      await expect(cursor.read(10)).rejects.toThrow();
    });
    expect(outcome).toBe('replaced');
  });
});

describe('pool.query(cursor)', () => {
  it('gives the connection back though nobody reads what failed', async () => {
    const outcome = await onOneConnection(BY_POOL, new Cursor('SELECT nonsense'), async () => undefined);
    expect(outcome).toBe('kept');
  });

  it('gives the connection back after a cursor that is closed at once', async () => {
    const { pool, pid } = await openPoolOfOne('closed-at-once');
    await pool.query(new Cursor(COUNT_UP)).close();
    expect(await pidOf(pool)).toBe(pid);
    await expectNothingLeft(pool);
  });

  it('gives the connection back after a cursor that is closed while it waits', async () => {
    const { pool, pid } = await openPoolOfOne('closed-waiting');
    const lease = await pool.connect();
    const cursor = pool.query(new Cursor(COUNT_UP));
    await cursor.close();
    lease.release();
    expect(await pidOf(pool)).toBe(pid);
    await expectNothingLeft(pool);
  });

  it('tells who waits in vain, by the pool’s errors', async () => {
    const { pool } = await openPoolOfOne('cursor-late', { pool: { max: 1, acquireTimeoutMillis: 50 } });
    const lease = await pool.connect();
    await expect(pool.query(new Cursor(COUNT_UP)).read(1)).rejects.toMatchObject({ code: 'PG_ACQUIRE_TIMEOUT' });
    lease.release();
    await expectNothingLeft(pool);
    await expect(pool.query(new Cursor(COUNT_UP)).read(1)).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
  });

  it('runs as many at once as there are connections, and the others after them', async () => {
    const { pool } = await openPoolOfOne('cursors', { pool: { max: 3 } });
    const read = async (): Promise<number> => (await readAll(pool.query(new Cursor<Row>(COUNT_UP)))).length;
    expect(await Promise.all(Array.from({ length: 12 }, read))).toEqual(Array.from({ length: 12 }, () => 10_000));
    expect(pool.totalCount).toBeLessThanOrEqual(3);
    await expectNothingLeft(pool);
  });

  it('lets a pool end that has a cursor nobody reads to the end', async () => {
    const { pool } = await openPoolOfOne('half-read');
    const cursor = pool.query(new Cursor<Row>(COUNT_UP));
    expect(await cursor.read(1)).toEqual([{ n: 1 }]);
    const { holders } = await pool.drain(1);
    expect(holders).toHaveLength(1);
    await expect(cursor.read(1)).rejects.toThrow();
    await expectNoSessions(pool);
  });

  it('keeps nobody waiting for a cursor beyond query_timeout', async () => {
    const endless = new Cursor('SELECT 1 FROM pg_sleep(600)');
    const outcome = await onOneConnection(
      BY_POOL,
      endless,
      async (cursor) => {
        await expect(cursor.read(1)).rejects.toThrow('Query read timeout');
      },
      { query_timeout: 100 },
    );
    expect(outcome).toBe('replaced');
  });
});

describe('a lease with a cursor', () => {
  it('reads inside of its transaction, which goes on', async () => {
    const { pool, pid } = await openPoolOfOne('transaction');
    const lease = await pool.connect();
    await lease.query('BEGIN');
    await lease.query('CREATE TEMPORARY TABLE numbers ON COMMIT DROP AS SELECT n FROM generate_series(1, 2500) AS n');
    const cursor = lease.query(new Cursor<Row>('SELECT n FROM numbers ORDER BY n'));
    expect(await readAll(cursor)).toHaveLength(2500);
    const second = lease.query(new Cursor<Row>('SELECT n FROM numbers ORDER BY n'));
    expect(await second.read(1)).toEqual([{ n: 1 }]);
    await second.close();
    await lease.query('COMMIT');
    lease.release();
    expect(await pidOf(pool)).toBe(pid);
    await expectNothingLeft(pool);
  });

  it('is rolled back when its cursor has failed inside a transaction', async () => {
    const { pool, pid } = await openPoolOfOne('failed-transaction');
    const lease = await pool.connect();
    await lease.query('BEGIN');
    await expect(readAll(lease.query(new Cursor(FAILS_AT_5000)))).rejects.toMatchObject(DIVISION_BY_ZERO);
    lease.release();
    expect(await pidOf(pool)).toBe(pid);
    expect(warningsOf(pool)).toEqual([expect.stringContaining('rolled back')]);
    await expectNothingLeft(pool);
  });

  it('is closed and warned of when it is released with its cursor half read; the cursor reaches nobody else', async () => {
    const cursor = new Cursor<Row>(COUNT_UP);
    const late: Promise<Row[]>[] = [];
    const outcome = await onOneConnection(BY_LEASE, cursor, async (_, { pool }) => {
      expect(await cursor.read(10)).toHaveLength(10);
      pool.once('release', () => {
        const read = cursor.read(10);
        read.catch(() => undefined);
        late.push(read);
      });
    });
    expect(outcome).toBe('replaced');
    expect(late).toHaveLength(1);
    await expect(late[0]).rejects.toThrow();
    await expect(cursor.read(10)).rejects.toThrow();
  });

  it('cannot be released or used twice', async () => {
    const { pool } = await openPoolOfOne('twice');
    const lease = await pool.connect();
    expect(await readAll(lease.query(new Cursor<Row>(COUNT_UP)))).toHaveLength(10_000);
    lease.release();
    const next = await pool.connect();
    expect(() => lease.release()).toThrow(expect.objectContaining({ code: 'PG_LEASE_RELEASED' }));
    await expect(lease.query(new Cursor<Row>(COUNT_UP)).read(1)).rejects.toMatchObject({ code: 'PG_LEASE_RELEASED' });
    expect((await next.query<Row>('SELECT 1 AS n')).rows).toEqual([{ n: 1 }]);
    next.release();
    await expectNothingLeft(pool);
  });

  it('loses its connection to cursor.end(), and the pool opens another', async () => {
    const outcome = await onOneConnection(BY_LEASE, new Cursor(COUNT_UP), async (cursor) => {
      // Deprecated by pg-cursor itself, since it ends the connection that it was lent.
      // eslint-disable-next-line @typescript-eslint/no-deprecated
      await new Promise<void>((resolve) => cursor.end(resolve));
    });
    expect(outcome).toBe('replaced');
  });
});

describe('the next borrower', () => {
  it('is not disturbed by a cursor that is closed long after it has failed', async () => {
    const { pool } = await openPoolOfOne('late-close');
    const cursor = pool.query(new Cursor('SELECT nonsense'));
    await expect(cursor.read(1)).rejects.toMatchObject({ code: '42703' });
    const lease = await pool.connect();
    // pg-cursor waits for a ReadyForQuery that has been: it takes the next one for its own.
    const closed = cursor.close();
    for (let n = 0; n < 10; n++) expect((await lease.query('SELECT $1::int AS n', [n])).rows).toEqual([{ n }]);
    await closed;
    lease.release();
    await expectNothingLeft(pool);
  });

  it.each(WAYS)('gets its own answers when a cursor has failed $name and its query_timeout passes', async (way) => {
    await using proxy = await startProxy({ host: server().host, port: server().port });
    const { pool } = await openPoolOfOne('stale-timer', { query_timeout: 1_000, ...through(proxy) });
    const { pool: other } = await openPoolOfOne('timer', { query_timeout: 1_000 });
    const { submitted: cursor, giveBack } = await way.submit(pool, new Cursor('SELECT nonsense'));
    // Its timer has been started right behind the cursor's.
    const passed = expect(other.query('SELECT pg_sleep(600)')).rejects.toThrow('Query read timeout');
    await expect(cursor.read(1)).rejects.toMatchObject({ code: '42703' });
    giveBack();
    await expectAllIdle(pool);
    proxy.latency(50);
    await passed;
    // What the cursor's timer sends now, if it sends anything, is answered before this is.
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await expectNothingLeft(pool);
  });
});
