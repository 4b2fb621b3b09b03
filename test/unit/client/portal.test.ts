import pg from 'pg';
import { describe, expect, it, vi } from 'vitest';
import type { Portal, PortalRequest } from '../../../lib/client/portal.js';
import { settle } from '../../support/manual-clock.js';
import {
  bound,
  closed,
  complete,
  described,
  failed,
  noData,
  openSession,
  parsed,
  ready,
  row,
  type MemorySession,
} from '../../support/memory-session.js';
import { message } from '../../support/scripted-server.js';

const suspended = message('s');
const empty = message('I');

const REQUEST: PortalRequest = {
  text: 'SELECT a FROM t WHERE b = $1',
  values: ['x'],
  isArrayMode: false,
  types: undefined,
  queryTimeoutMillis: undefined,
  batchSize: 2,
  isShared: false,
};

function open(session: MemorySession, request: Partial<PortalRequest> = {}): Portal {
  const portal = session.client.portal({ ...REQUEST, ...request });
  if (!portal) throw new Error('this version of pg has no short way');
  return portal;
}

const batch = (rows: unknown[], hasMore: boolean, error?: unknown): unknown => ({ rows, hasMore, error });

describe('a portal with a connection of its own', () => {
  it('asks for its rows in batches, and ends with a Sync', async () => {
    const session = await openSession();
    const portal = open(session);
    let reading = portal.read();
    const sent = session.messages();
    expect(sent.map(({ type }) => type).join('')).toBe('PBDEH');
    expect(sent[3]?.body).toEqual(Buffer.from([0, 0, 0, 0, 2]));
    await session.answer(parsed, bound, described('a'), row('1'), row('2'), suspended);
    expect(await reading).toEqual(batch([{ a: '1' }, { a: '2' }], true));
    expect(session.client.isReady).toBe(false);
    expect(session.sent()).toBe('');

    reading = portal.read();
    expect(session.sent()).toBe('Execute Flush');
    await session.answer(row('3'), complete('SELECT 1'));
    expect(await reading).toEqual(batch([{ a: '3' }], true));
    expect(session.sent()).toBe('Sync');

    reading = portal.read();
    expect(session.sent()).toBe('');
    await session.answer(ready('I'));
    expect(await reading).toEqual(batch([], false));
    expect(session.client.isReady).toBe(true);
    expect(await portal.read()).toEqual(batch([], false));
  });

  it('writes a request at once, and not when the consumer lets the event loop go on', async () => {
    const session = await openSession();
    const portal = open(session);
    void portal.read();
    expect(session.writes()).toBe(1);
    await session.answer(parsed, bound, described('a'), row('1'), row('2'), suspended);
    void portal.read();
    expect(session.writes()).toBe(1);
  });

  it('gives what the Sync brings as an answer of its own: an error of the commit', async () => {
    const session = await openSession();
    const portal = open(session);
    const last = portal.read();
    await session.answer(parsed, bound, described('a'), row('1'), complete('INSERT 0 1'));
    expect(await last).toEqual(batch([{ a: '1' }], true));
    const end = portal.read();
    await session.answer(failed('23503'), ready('I'));
    expect(await end).toMatchObject({ rows: [], hasMore: false, error: { code: '23503' } });
    expect(session.sent()).toBe('Parse Bind Describe Execute Flush Sync');
    expect(session.client.isReady).toBe(true);
  });

  it.each([
    ['no rows', noData, complete('CREATE TABLE')],
    ['no statement', noData, empty],
  ])('ends without rows where there are %s', async (_, description, end) => {
    const session = await openSession();
    const portal = open(session);
    const first = portal.read();
    await session.answer(parsed, bound, description, end);
    expect(await first).toEqual(batch([], true));
    const last = portal.read();
    await session.answer(ready('I'));
    expect(await last).toEqual(batch([], false));
  });

  it('gives the rows that came before an error with it, and syncs once', async () => {
    const session = await openSession();
    const portal = open(session);
    const reading = portal.read();
    await session.answer(parsed, bound, described('a'), row('1'), failed('22012'));
    expect(await reading).toMatchObject({ rows: [{ a: '1' }], hasMore: false, error: { code: '22012' } });
    portal.close();
    expect(session.sent()).toBe('Parse Bind Describe Execute Flush Sync');
    expect(session.client.isSettling).toBe(true);
    await session.answer(ready('I'));
    expect(session.client.isReady).toBe(true);
  });

  it('ends by close() between two batches, and in the middle of one whose rows nobody wants', async () => {
    for (const isInTheMiddle of [false, true]) {
      const session = await openSession();
      const portal = open(session);
      void portal.read();
      await session.answer(parsed, bound, described('a'), row('1'), row('2'), suspended);
      const reading = isInTheMiddle ? portal.read() : undefined;
      session.sent();
      portal.close();
      portal.close();
      expect(session.sent()).toBe('Sync');
      if (isInTheMiddle) await session.answer(row('3'), row('4'), suspended);
      await session.answer(ready('I'));
      if (reading) expect(await reading).toEqual(batch([], true));
      expect(session.client.isReady).toBe(true);
    }
  });

  it('tells what a parser throws behind the rows before, and reads on to the end of the batch', async () => {
    const session = await openSession();
    const portal = open(session, {
      types: {
        getTypeParser: () => (text: string) => {
          if (text === 'bad') throw new Error('not mine');
          return text.toUpperCase();
        },
      },
    });
    const reading = portal.read();
    await session.answer(parsed, bound, described('a'), row('x'), row('bad'), row('y'), suspended);
    expect(await reading).toEqual(batch([{ a: 'X' }], false, new Error('not mine')));
    portal.close();
    await session.answer(ready('I'));
    expect(session.client.isReady).toBe(true);
  });

  it('tells of a value that cannot be sent, having sent nothing', async () => {
    const session = await openSession();
    const toPostgres = (): never => {
      throw new Error('no value');
    };
    const portal = open(session, { values: [{ toPostgres }] });
    expect(await portal.read()).toEqual(batch([], false, new Error('no value')));
    portal.close();
    await settle();
    expect(session.sent()).toBe('');
    expect(session.client.isReady).toBe(true);
  });

  it('tells of the end of the connection, once', async () => {
    const session = await openSession();
    const portal = open(session);
    void portal.read();
    await session.answer(parsed, bound, described('a'), row('1'), row('2'), suspended);
    const reading = portal.read();
    session.stream.destroy(new Error('cut'));
    expect(await reading).toMatchObject({ rows: [], hasMore: false, error: { message: 'cut' } });
    expect(await portal.read()).toEqual(batch([], false));
  });

  it('tells of the end of the connection at the next call, if nothing was asked: the rows are not at their end', async () => {
    const session = await openSession();
    const portal = open(session);
    void portal.read();
    await session.answer(parsed, bound, described('a'), row('1'), row('2'), suspended);
    session.stream.destroy(new Error('cut'));
    await settle();
    expect(await portal.read()).toMatchObject({ rows: [], hasMore: false, error: { message: 'cut' } });
    expect(await portal.read()).toEqual(batch([], false));
  });

  it.each([
    ['a row before its description', [parsed, bound, row('1')]],
    ['a description before its portal', [parsed, described('a')]],
    ['a portal before its statement', [bound]],
    ['a second end', [parsed, bound, described('a'), suspended, suspended]],
    ['a row of nobody', [parsed, bound, described('a'), suspended, row('1')]],
    ['a ReadyForQuery without a Sync', [parsed, bound, described('a'), suspended, ready('I')]],
    ['the beginning of a COPY', [parsed, bound, noData, message('H', Buffer.from([0, 0, 0]))]],
  ])('ends the connection at %s', async (_, answers) => {
    const session = await openSession();
    const portal = open(session);
    const reading = portal.read();
    await session.answer(...answers);
    expect(session.client.isClosed).toBe(true);
    const { error } = await reading;
    if (error) expect(error).toMatchObject({ code: 'PG_CONNECTION_LOST' });
  });
});

describe('a portal of a transaction', () => {
  it('has a name, and leaves the connection between its batches', async () => {
    const session = await openSession();
    const portal = open(session, { isShared: true });
    let reading = portal.read();
    const [, bind] = session.messages();
    const name = bind?.body.toString('latin1').split('\0')[0] ?? '';
    expect(name).toMatch(/^nestjs_pg_rows_\d+$/);
    await session.answer(parsed, bound, described('a'), row('1'), row('2'), suspended, ready('T'));
    expect(await reading).toEqual(batch([{ a: '1' }, { a: '2' }], true));
    expect(session.client.isReady).toBe(true);

    const other = session.client.query('UPDATE t SET a = $1', [1]);
    await settle();
    expect(session.sent()).toBe('Parse Bind Describe Execute Sync');
    await session.answer(parsed, bound, noData, complete('UPDATE 1'), ready('T'));
    await other;

    reading = portal.read();
    const [execute] = session.messages();
    expect(execute?.body.toString('latin1')).toBe(`${name}\0\0\0\0\u0002`);
    await session.answer(row('3'), complete('SELECT 1'), ready('T'));
    expect(await reading).toEqual(batch([{ a: '3' }], false));

    // It goes with whatever is sent next, and costs no round trip.
    expect(session.sent()).toBe('');
    const next = session.client.query('SELECT 1');
    await settle();
    const [close, query] = session.messages();
    expect([close?.type, close?.body.toString('latin1'), query?.type]).toEqual(['C', `P${name}\0`, 'Q']);
    await session.answer(closed, described('a'), row('1'), complete('SELECT 1'), ready('T'));
    expect((await next).rows).toEqual([{ a: '1' }]);
  });

  it.each(['a named statement', 'another portal'])('is closed ahead of %s', async (what) => {
    const session = await openSession();
    const portal = open(session, { isShared: true });
    void portal.read();
    await session.answer(parsed, bound, described('a'), row('1'), row('2'), suspended, ready('T'));
    portal.close();
    portal.close();
    session.sent();
    if (what === 'another portal') void open(session, { isShared: true }).read();
    else void session.client.query('SELECT a FROM t WHERE b = $1', [1]);
    await settle();
    expect(session.sent()).toBe('Close Parse Bind Describe Execute Sync');
    await session.answer(closed, parsed, bound, described('a'), row('1'), complete('SELECT 1'), ready('T'));
    expect(session.client.isReady).toBe(true);
  });

  it('is not closed after an error, which has ended it', async () => {
    const session = await openSession();
    const portal = open(session, { isShared: true });
    const reading = portal.read();
    await session.answer(parsed, bound, described('a'), row('1'), failed('22012'), ready('E'));
    expect(await reading).toMatchObject({ rows: [{ a: '1' }], hasMore: false, error: { code: '22012' } });
    portal.close();
    session.sent();
    void session.client.query('ROLLBACK').catch(() => undefined);
    await settle();
    expect(session.sent()).toBe('Query');
  });
});

describe('query_timeout', () => {
  it('is for each answer, and ends the connection where none comes', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const session = await openSession({ queryTimeoutMillis: 1_000 });
      const portal = open(session);
      const first = portal.read();
      vi.advanceTimersByTime(900);
      await session.answer(parsed, bound, described('a'), row('1'), row('2'), suspended);
      expect(await first).toMatchObject({ hasMore: true });
      // Nothing is awaited: the consumer takes its time.
      vi.advanceTimersByTime(10_000);
      await settle();
      expect(session.client.isClosed).toBe(false);
      const second = portal.read();
      vi.advanceTimersByTime(999);
      await settle();
      expect(session.client.isClosed).toBe(false);
      vi.advanceTimersByTime(1);
      expect(await second).toEqual(batch([], false, new Error('Query read timeout')));
      expect(session.client.isClosed).toBe(true);
      expect((session.client as unknown as { connectionParameters: object }).connectionParameters).toMatchObject({
        query_timeout: 1_000,
      });
    } finally {
      vi.useRealTimers();
    }
  });

  it('finds an answer that had arrived while the application kept the event loop to itself', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const session = await openSession();
      const portal = open(session, { queryTimeoutMillis: 10 });
      const reading = portal.read();
      vi.advanceTimersByTime(10);
      await session.answer(parsed, bound, described('a'), row('1'), row('2'), suspended);
      void portal.read();
      await settle();
      expect(await reading).toMatchObject({ rows: [{ a: '1' }, { a: '2' }], hasMore: true });
      expect(session.client.isClosed).toBe(false);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('who watches pg', () => {
  it('is told of the end of a portal by its callback, once for each time that it is queued', async () => {
    const told = vi.fn();
    const stock = Object.getOwnPropertyDescriptor(pg.Client.prototype, 'query')!;
    const query = function (this: pg.Client, config: { text: string; callback: (error: unknown) => void }): unknown {
      const { callback, text } = config;
      config.callback = (error) => {
        told(text, error);
        callback(error);
      };
      return (stock.value as (...args: unknown[]) => unknown).call(this, config);
    };
    Object.defineProperty(pg.Client.prototype, 'query', { ...stock, value: query });
    try {
      const session = await openSession();
      const portal = open(session, { isShared: true });
      for (let count = 1; count <= 3; count++) {
        void portal.read();
        const opened = count === 1 ? [parsed, bound, described('a')] : [];
        await session.answer(...opened, row('1'), row('2'), suspended, ready('T'));
        expect(told).toHaveBeenCalledTimes(count);
      }
      expect(told).toHaveBeenLastCalledWith(REQUEST.text, null);
    } finally {
      Object.defineProperty(pg.Client.prototype, 'query', stock);
    }
  });
});

it('is not there for a client of binary results', async () => {
  const session = await openSession();
  Object.assign(session.client, { binary: true });
  expect(session.client.portal(REQUEST)).toBeUndefined();
});
