import { once } from 'node:events';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { buffer } from 'node:stream/consumers';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { beforeEach, describe, expect, it } from 'vitest';
import { adminQuery } from '../../support/postgres.js';
import { waitFor } from '../../support/wait-for.js';
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
  WAYS,
} from './one-connection.js';
import { expectNoSessions, expectNothingLeft, server, warningsOf } from './pool-under-test.js';

const COPY_IN = 'COPY item FROM STDIN';
const COPY_OUT = `COPY (${COUNT_UP}) TO STDOUT`;
/** More than all the buffers between server and reader hold. */
const COPY_MUCH_OUT = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT";

/** Lines for a COPY of so many numbers, in chunks that end anywhere; the one of number `bad` is no number. */
function lines(count: number, bad?: number): Readable {
  const text = Array.from({ length: count }, (_, n) => (n === bad ? 'bad\n' : `${n}\n`)).join('');
  return Readable.from(text.match(/[^]{1,1000}/g) ?? []);
}

const stored = async (): Promise<number> => (await adminQuery(server(), 'SELECT FROM item')).length;

beforeEach(async () => {
  await adminQuery(server(), 'CREATE TABLE IF NOT EXISTS item (n int); TRUNCATE item');
});

describe.each(WAYS)('COPY ... TO STDOUT $name', (way) => {
  it('reads everything', async () => {
    const outcome = await onOneConnection(way, copyTo(COPY_OUT), async (stream) => {
      const text = (await buffer(stream)).toString();
      expect(text.split('\n')).toHaveLength(10_001);
      expect(text).toMatch(/^1\n2\n.*\n10000\n$/s);
    });
    expect(outcome).toBe('kept');
  });

  it('flows into a slow consumer', async () => {
    let bytes = 0;
    const slow = new Writable({
      highWaterMark: 1,
      write: (chunk: Buffer, _, done) => {
        bytes += chunk.length;
        setImmediate(done);
      },
    });
    const outcome = await onOneConnection(way, copyTo(COPY_MUCH_OUT), async (stream) => pipeline(stream, slow));
    expect(outcome).toBe('kept');
    expect(bytes).toBe(100_000 * 1001);
  });

  it('tells of an error in the SQL', async () => {
    const outcome = await onOneConnection(way, copyTo('COPY nonsense TO STDOUT'), async (stream) => {
      await expect(buffer(stream)).rejects.toMatchObject({ code: '42P01' });
    });
    expect(outcome).toBe('kept');
  });

  it('tells of an error in the middle of the rows', async () => {
    const outcome = await onOneConnection(way, copyTo(`COPY (${FAILS_AT_5000}) TO STDOUT`), async (stream) => {
      await expect(buffer(stream)).rejects.toMatchObject(DIVISION_BY_ZERO);
    });
    expect(outcome).toBe('kept');
  });

  it('tells that its backend is gone', async () => {
    const outcome = await onOneConnection(way, copyTo(COPY_MUCH_OUT), async (stream, { pid }) => {
      await once(stream, 'readable');
      const ended = expect(buffer(stream)).rejects.toThrow();
      await kill(pid);
      await ended;
    });
    expect(outcome).toBe('replaced');
  });

  it('is destroyed in the middle: what is still to come is not waited for', async () => {
    const outcome = await onOneConnection(way, copyTo(COPY_MUCH_OUT), async (stream) => {
      for await (const chunk of stream) {
        expect(chunk).toBeInstanceOf(Buffer);
        break;
      }
      expect(stream.destroyed).toBe(true);
    });
    expect(outcome).toBe('replaced');
  });

  it('ends when what it flows into fails', async () => {
    const failing = new Writable({ write: (_chunk, _, done) => done(new Error('the disk is full')) });
    const outcome = await onOneConnection(way, copyTo(COPY_MUCH_OUT), async (stream) => {
      await expect(pipeline(stream, failing)).rejects.toThrow('the disk is full');
    });
    expect(outcome).toBe('replaced');
  });
});

describe.each(WAYS)('COPY ... FROM STDIN $name', (way) => {
  it('stores everything', async () => {
    const outcome = await onOneConnection(way, copyFrom(COPY_IN), async (stream) => {
      await pipeline(lines(100_000), stream);
      expect(stream.rowCount).toBe(100_000);
    });
    expect(outcome).toBe('kept');
    expect(await stored()).toBe(100_000);
  });

  it('stores nothing of nothing', async () => {
    const outcome = await onOneConnection(way, copyFrom(COPY_IN), async (stream) => pipeline(lines(0), stream));
    expect(outcome).toBe('kept');
    expect(await stored()).toBe(0);
  });

  it.each([0, 5_000, 9_999])('stores nothing when line %s is bad, and tells', async (bad) => {
    const outcome = await onOneConnection(way, copyFrom(COPY_IN), async (stream) => {
      await expect(pipeline(lines(10_000, bad), stream)).rejects.toMatchObject({ code: '22P02' });
    });
    expect(outcome).toBe('kept');
    expect(await stored()).toBe(0);
  });

  it('tells of an error in the SQL', async () => {
    const outcome = await onOneConnection(way, copyFrom('COPY nonsense FROM STDIN'), async (stream) => {
      await expect(pipeline(lines(10), stream)).rejects.toMatchObject({ code: '42P01' });
    });
    expect(outcome).toBe('kept');
  });

  it('stores nothing when it is destroyed half-way', async () => {
    const outcome = await onOneConnection(way, copyFrom(COPY_IN), async (stream) => {
      stream.on('error', () => undefined);
      await new Promise((resolve) => stream.write('1\n2\n', resolve));
      stream.destroy(new Error('changed my mind'));
      await waitFor(() => stream.closed, { message: 'the stream to be closed' });
    });
    expect(outcome).toBe('kept');
    expect(await stored()).toBe(0);
  });

  it('stores nothing when it is destroyed before the server has said that it may begin', async () => {
    const outcome = await onOneConnection(way, copyFrom(COPY_IN), async (stream) => {
      stream.on('error', () => undefined);
      stream.write('1\n2\n');
      stream.destroy();
      await waitFor(() => stream.closed, { message: 'the stream to be closed' });
    });
    expect(outcome).toBe('kept');
    expect(await stored()).toBe(0);
  });

  it('stores nothing and tells when its backend is gone', async () => {
    const outcome = await onOneConnection(way, copyFrom(COPY_IN), async (stream, { pid }) => {
      const failed = once(stream, 'error');
      await new Promise((resolve) => stream.write('1\n2\n', resolve));
      await kill(pid);
      expect((await failed)[0]).toBeInstanceOf(Error);
    });
    expect(outcome).toBe('replaced');
    expect(await stored()).toBe(0);
  });
});

describe('pool.query(COPY)', () => {
  it('gives the connection back when the source fails half-way, and stores nothing', async () => {
    const outcome = await onOneConnection(BY_POOL, copyFrom(COPY_IN), async (stream) => {
      await expect(pipeline(failingSource(), stream)).rejects.toThrow('the source failed');
    });
    expect(outcome).toBe('kept');
    expect(await stored()).toBe(0);
  });

  it.each([
    { direction: 'out', open: () => copyTo(COPY_OUT) },
    { direction: 'in', open: () => copyFrom(COPY_IN) },
  ])('gives the connection back after a COPY $direction that is destroyed at once', async ({ open }) => {
    const { pool } = await openPoolOfOne('destroyed-at-once');
    const stream = pool.query(open());
    stream.on('error', () => undefined).destroy();
    await pidOf(pool);
    await expectNothingLeft(pool);
    expect(stream.destroyed).toBe(true);
  });

  it.each([
    { direction: 'out', open: () => copyTo(COPY_OUT) },
    { direction: 'in', open: () => copyFrom(COPY_IN) },
  ])('gives the connection back after a COPY $direction that is destroyed while it waits', async ({ open }) => {
    const { pool } = await openPoolOfOne('destroyed-waiting');
    const lease = await pool.connect();
    const stream = pool.query(open());
    stream.on('error', () => undefined).destroy();
    lease.release();
    await pidOf(pool);
    await expectNothingLeft(pool);
  });

  it('tells who waits in vain, by the pool’s errors', async () => {
    const { pool } = await openPoolOfOne('copy-late', { pool: { max: 1, acquireTimeoutMillis: 50 } });
    const lease = await pool.connect();
    const late = { code: 'PG_ACQUIRE_TIMEOUT' };
    await Promise.all([
      expect(buffer(pool.query(copyTo(COPY_OUT)))).rejects.toMatchObject(late),
      expect(pipeline(lines(10), pool.query(copyFrom(COPY_IN)))).rejects.toMatchObject(late),
    ]);
    lease.release();
    await expectNothingLeft(pool);
    const closed = { code: 'PG_POOL_CLOSED' };
    await expect(buffer(pool.query(copyTo(COPY_OUT)))).rejects.toMatchObject(closed);
    await expect(pipeline(lines(10), pool.query(copyFrom(COPY_IN)))).rejects.toMatchObject(closed);
    expect(await stored()).toBe(0);
  });

  it('notices that a connection is gone which has served a COPY and rests', async () => {
    const { pool, pid } = await openPoolOfOne('rests');
    await buffer(pool.query(copyTo(COPY_OUT)));
    await pipeline(lines(10), pool.query(copyFrom(COPY_IN)));
    await waitFor(() => pool.idleCount === 1, { message: 'the connection to rest' });
    await kill(pid);
    await waitFor(() => pool.totalCount === 0, { message: 'the pool to notice' });
    await expectNothingLeft(pool);
  });

  it('copies from one connection into another of the same pool, and many at once', async () => {
    const { pool } = await openPoolOfOne('between', { pool: { max: 4 } });
    const copy = (): Promise<void> => pipeline(pool.query(copyTo(COPY_OUT)), pool.query(copyFrom(COPY_IN)));
    await Promise.all([copy(), copy()]);
    expect(await stored()).toBe(20_000);
    expect(pool.stats().retired).toEqual({});
    await expectNothingLeft(pool);
  });

  it('lets a pool end that has a COPY nobody goes on with', async () => {
    const { pool } = await openPoolOfOne('unread', { pool: { max: 2 } });
    const out = pool.query(copyTo(COPY_MUCH_OUT));
    const into = pool.query(copyFrom(COPY_IN));
    await Promise.all([once(out, 'readable'), new Promise((resolve) => into.write('1\n', resolve))]);
    const told = [out, into].map((stream) => once(stream, 'error'));
    const { holders } = await pool.drain(1);
    expect(holders).toHaveLength(2);
    for (const [error] of await Promise.all(told)) expect(error).toBeInstanceOf(Error);
    await expectNoSessions(pool);
    expect(await stored()).toBe(0);
  });

  it('lets a pool end that has a COPY whose stream is destroyed', async () => {
    const { pool } = await openPoolOfOne('abandoned');
    const stream = pool.query(copyTo(COPY_MUCH_OUT));
    for await (const chunk of stream) {
      expect(chunk).toBeInstanceOf(Buffer);
      break;
    }
    await pool.drain(1);
    await expectNoSessions(pool);
  });
});

describe('a lease with a COPY', () => {
  it('goes on inside of its transaction', async () => {
    const { pool, pid } = await openPoolOfOne('transaction');
    const lease = await pool.connect();
    await lease.query('BEGIN');
    await pipeline(lines(1000), lease.query(copyFrom(COPY_IN)));
    await lease.query('SAVEPOINT good');
    await expect(pipeline(lines(1000, 500), lease.query(copyFrom(COPY_IN)))).rejects.toMatchObject({ code: '22P02' });
    await lease.query('ROLLBACK TO SAVEPOINT good');
    expect((await buffer(lease.query(copyTo('COPY item TO STDOUT')))).toString()).toMatch(/^0\n1\n.*\n999\n$/s);
    await lease.query('COMMIT');
    lease.release();
    expect(await pidOf(pool)).toBe(pid);
    expect(await stored()).toBe(1000);
    expect(warningsOf(pool)).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('may be released by the stream’s own events', async () => {
    const { pool, pid } = await openPoolOfOne('on-end');
    const released = (stream: Readable | Writable, release: () => void): Promise<void> =>
      new Promise((resolve) => {
        const done = (): void => {
          release();
          resolve();
        };
        stream.once('end', done).once('finish', done).once('error', done);
      });
    for (const sql of [COPY_OUT, `COPY (${FAILS_AT_5000}) TO STDOUT`, 'COPY nonsense TO STDOUT']) {
      const lease = await pool.connect();
      await released(lease.query(copyTo(sql)).resume(), () => lease.release());
    }
    for (const bad of [undefined, 5]) {
      const lease = await pool.connect();
      const stream = lease.query(copyFrom(COPY_IN));
      lines(10, bad).pipe(stream);
      await released(stream, () => lease.release());
    }
    expect(await pidOf(pool)).toBe(pid);
    expect(warningsOf(pool)).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('closes its connection when it is released with its COPY half done, which then stores nothing', async () => {
    const stream = copyFrom(COPY_IN);
    stream.on('error', () => undefined);
    const outcome = await onOneConnection(BY_LEASE, stream, async () => {
      await new Promise((resolve) => stream.write('1\n', resolve));
    });
    expect(outcome).toBe('replaced');
    expect(await stored()).toBe(0);
  });

  it('closes its connection when the source fails and it is released at once', async () => {
    const outcome = await onOneConnection(BY_LEASE, copyFrom(COPY_IN), async (stream) => {
      await expect(pipeline(failingSource(), stream)).rejects.toThrow('the source failed');
    });
    expect(outcome).toBe('replaced');
    expect(await stored()).toBe(0);
  });
});

function failingSource(): Readable {
  return Readable.from(
    (function* () {
      yield '1\n2\n';
      throw new Error('the source failed');
    })(),
  );
}
