import { describe, expect, it } from 'vitest';
import type { FlightCallback, FlightOutcome } from '../../../lib/client/flight.js';
import { plainQuery, type PlainQuery } from '../../../lib/client/plain-query.js';
import { settle } from '../../support/manual-clock.js';
import {
  bound,
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

const STEPS = 'Parse Bind Describe Execute';

function plain(session: MemorySession, text: string, values?: unknown[]): PlainQuery {
  const found = plainQuery(session.catalog, text, values, true);
  if (!found) throw new Error(`${text} is not plain`);
  return found;
}

/** Flies, and keeps what it was told. */
function fly(session: MemorySession, ...plains: PlainQuery[]): { told: [Error | null, FlightOutcome][] } {
  const told: [Error | null, FlightOutcome][] = [];
  const callback: FlightCallback = (error, outcome) => told.push([error, outcome]);
  session.client.fly(plains, callback);
  return { told };
}

const done = (tag: string): Buffer[] => [parsed, bound, noData, complete(tag)];
const rowsOf = (outcome: FlightOutcome | undefined): unknown[] =>
  (outcome?.results ?? []).map((result) => (result as { rows: unknown[] }).rows);

describe('a flight', () => {
  it('is one write with one Sync at its end, whatever its statements are', async () => {
    const session = await openSession({ limit: 0 });
    fly(session, plain(session, 'BEGIN'), plain(session, 'SELECT $1', [1]), plain(session, 'LOCK TABLE t'));
    await settle();
    expect(session.writes()).toBe(1);
    const messages = session.messages();
    expect(messages.map(({ type }) => type).join('')).toBe('PBDE'.repeat(3) + 'S');
    expect(messages.filter(({ type }) => type === 'P').map(({ body }) => body.toString('utf8').split('\0')[1])).toEqual(
      [...['BEGIN', 'SELECT $1', 'LOCK TABLE t']],
    );
  });

  it('gives the results in their order, once, when the server is ready', async () => {
    const session = await openSession({ limit: 0 });
    const { told } = fly(session, plain(session, 'BEGIN'), plain(session, 'SELECT 1'), plain(session, 'SELECT 2'));
    await settle();
    await session.answer(...done('BEGIN'), parsed, bound, described('a'), row('1'), row('2'), complete('SELECT 2'));
    await session.answer(parsed, bound, described('b'), complete('SELECT 0'));
    expect(told).toEqual([]);
    await session.answer(ready('T'));
    expect(told).toHaveLength(1);
    const [[error, outcome] = []] = told;
    expect(error).toBeNull();
    expect(outcome).toMatchObject({ isSent: true, isTogether: true, failedAt: 3 });
    expect(rowsOf(outcome)).toEqual([[], [{ a: '1' }, { a: '2' }], []]);
    expect((outcome?.results as { command: string }[]).map(({ command }) => command)).toEqual([
      'BEGIN',
      'SELECT',
      'SELECT',
    ]);
    expect(session.client.isReady).toBe(true);
    expect(session.client.getTransactionStatus()).toBe('T');
  });

  it.each([0, 1, 2])('whose statement %i fails says which, and what was done before it', async (index) => {
    const session = await openSession({ limit: 0 });
    const { told } = fly(session, ...['BEGIN', 'SELECT 1', 'SELECT 2'].map((text) => plain(session, text)));
    await settle();
    for (let before = 0; before < index; before++) await session.answer(...done('SELECT 0'));
    await session.answer(parsed, failed('22012'));
    expect(told).toHaveLength(1);
    expect(told[0]?.[0]).toMatchObject({ code: '22012' });
    expect(told[0]?.[1]).toMatchObject({ failedAt: index, isSent: true });
    expect(told[0]?.[1].results).toHaveLength(index);
    expect(session.client.isSettling).toBe(true);
    await session.answer(ready('E'));
    expect(told).toHaveLength(1);
    expect(session.client.isReady).toBe(true);
    // The next one is none of its business.
    const next = session.client.query('SELECT 3');
    await settle();
    await session.answer(described('c'), row('3'), complete('SELECT 1'), ready('I'));
    expect((await next).rows).toEqual([{ c: '3' }]);
  });

  it('with a value that cannot be converted is not sent at all', async () => {
    const session = await openSession();
    const mine = new Error('mine');
    const toPostgres = (): never => {
      throw mine;
    };
    const { told } = fly(session, plain(session, 'BEGIN'), plain(session, 'SELECT $1', [{ toPostgres }]));
    await settle();
    expect(session.sent()).toBe('');
    expect(told).toMatchObject([[mine, { failedAt: 1, isSent: false, results: [] }]]);
    expect(session.client.isReady).toBe(true);
    const thrown = fly(
      session,
      plain(session, 'SELECT $1', [
        {
          toPostgres: () => {
            // eslint-disable-next-line @typescript-eslint/only-throw-error -- applications do
            throw undefined;
          },
        },
      ]),
    );
    await settle();
    expect(thrown.told[0]?.[0]?.message).toBe('A parameter could not be converted: undefined');
  });

  it('whose values start other requests as they are converted is sent in whole behind them', async () => {
    const session = await openSession({ limit: 0 });
    const value = {
      toPostgres: () => {
        void session.client.query('SELECT 0').catch(() => undefined);
        return 'x';
      },
    };
    fly(session, plain(session, 'BEGIN'), plain(session, 'SELECT $1', [value]));
    await settle();
    expect(session.sent()).toBe(`${STEPS} ${STEPS} Sync`);
    await session.answer(...done('BEGIN'), parsed, bound, described('a'), complete('SELECT 0'), ready('T'));
    expect(session.sent()).toBe('Query');
  });

  it('tells of a parser that throws when everything has been done, and where', async () => {
    const mine = new Error('mine');
    const types = {
      getTypeParser: () => (text: string) => {
        if (text === 'bad') throw mine;
        return text;
      },
    };
    const session = await openSession({ limit: 0, types: types });
    const { told } = fly(session, plain(session, 'SELECT 1'), plain(session, 'SELECT 2'), plain(session, 'COMMIT'));
    await settle();
    await session.answer(parsed, bound, described('a'), row('good'), complete('SELECT 1'));
    await session.answer(parsed, bound, described('a'), row('bad'), row('good'), complete('SELECT 2'));
    await session.answer(...done('COMMIT'), ready('I'));
    expect(told).toHaveLength(1);
    expect(told[0]?.[0]).toBe(mine);
    expect(told[0]?.[1]).toMatchObject({ failedAt: 1 });
    expect(told[0]?.[1].results).toHaveLength(3);
  });

  it('that loses its connection says how far it has come', async () => {
    const session = await openSession({ limit: 0 });
    const { told } = fly(session, plain(session, 'BEGIN'), plain(session, 'SELECT 1'), plain(session, 'COMMIT'));
    await settle();
    await session.answer(...done('BEGIN'), ...done('SELECT 0'));
    session.stream.destroy();
    await settle();
    await settle();
    expect(told).toHaveLength(1);
    expect(told[0]?.[0]).toBeInstanceOf(Error);
    expect(told[0]?.[1]).toMatchObject({ failedAt: 2, isSent: true });
    expect(told[0]?.[1].results).toHaveLength(2);
  });

  it('whose callback throws is the application’s accident, and not the connection’s', async () => {
    const session = await openSession({ limit: 0 });
    const thrown = new Promise((resolve) => {
      const listeners = process.listeners('uncaughtException');
      process.removeAllListeners('uncaughtException');
      process.once('uncaughtException', (error) => {
        for (const listener of listeners) process.on('uncaughtException', listener);
        resolve(error);
      });
    });
    const mine = new Error('mine');
    session.client.fly([plain(session, 'BEGIN')], () => {
      throw mine;
    });
    await settle();
    await session.answer(...done('BEGIN'), ready('T'));
    expect(await thrown).toBe(mine);
    expect(session.client.isReady).toBe(true);
  });

  it.each<[string, Buffer[]]>([
    ['ReadyForQuery before its end', [...done('BEGIN'), ready('T')]],
    ['a message too many', [...done('BEGIN'), ...done('SELECT 0'), parsed]],
    ['an answer to a Parse that was not sent', [parsed, parsed]],
    ['a row before its description', [parsed, bound, row('1')]],
    ['a completion out of turn', [parsed, complete('BEGIN')]],
    ['no description', [parsed, described('a')]],
    ['data of nobody', [...done('BEGIN'), ...done('SELECT 0'), row('1')]],
    ['a second end', [...done('BEGIN'), ...done('SELECT 0'), complete('SELECT 0')]],
    ['no data of nobody', [...done('BEGIN'), ...done('SELECT 0'), noData]],
    ['a binding of nobody', [...done('BEGIN'), ...done('SELECT 0'), bound]],
    ['a description of nobody', [...done('BEGIN'), ...done('SELECT 0'), described('a')]],
  ])('takes no %s: the connection ends with the reason', async (_, answers) => {
    const session = await openSession({ limit: 0 });
    const { told } = fly(session, plain(session, 'BEGIN'), plain(session, 'SELECT 1'));
    await settle();
    await session.answer(...answers);
    await settle();
    expect(told).toHaveLength(1);
    expect(told[0]?.[0]).toMatchObject({ code: 'PG_CONNECTION_LOST' });
    expect(session.client.isClosed).toBe(true);
  });
});

describe('the names of a flight', () => {
  /** The names that were parsed, bound and closed. */
  const names = (session: MemorySession): string[] =>
    session
      .messages()
      .filter(({ type }) => 'PBC'.includes(type))
      .map(({ type, body }) => {
        const [first = '', second = ''] = body.toString('latin1').split('\0');
        const name = type === 'B' ? second : type === 'C' ? first.slice(1) : first;
        return `${type}${name === '' ? '' : ' named'}`;
      });

  it('are parsed once in it, and bound as often as they come', async () => {
    const session = await openSession();
    const texts = ['SELECT 1', 'SELECT 1', 'SELECT 1'];
    fly(session, ...texts.map((text) => plain(session, text)));
    await settle();
    // The uses are counted before the first is sent: it is worth a name at once.
    expect(names(session)).toEqual(['P named', 'B named', 'B named', 'B named']);
    const answer = [bound, described('a'), row('1'), complete('SELECT 1')];
    await session.answer(parsed, ...answer, ...answer, ...answer, ready('I'));
    fly(session, ...texts.map((text) => plain(session, text)));
    await settle();
    expect(names(session)).toEqual(['B named', 'B named', 'B named']);
  });

  it('that were passed over are parsed again by the next', async () => {
    const session = await openSession();
    const flight = (): FlightOutcome[] => {
      const { told } = fly(session, plain(session, 'SELECT 1'), plain(session, 'SELECT 2'), plain(session, 'SELECT 2'));
      return told.map(([, outcome]) => outcome);
    };
    plain(session, 'SELECT 1');
    flight();
    await settle();
    expect(names(session)).toEqual(['P named', 'B named', 'P named', 'B named', 'B named']);
    await session.answer(parsed, bound, described('a'), failed('22012'), ready('E'));
    flight();
    await settle();
    // The first is known by now, the second was never parsed; its old name is closed, which is no error.
    expect(names(session)).toEqual(['C named', 'B named', 'P named', 'B named', 'B named']);
  });

  it('that make room for each other are closed in the midst of it', async () => {
    const session = await openSession({ limit: 1 });
    for (const text of ['SELECT 1', 'SELECT 2']) plain(session, text);
    fly(session, plain(session, 'SELECT 1'), plain(session, 'SELECT 2'), plain(session, 'SELECT 1'));
    await settle();
    expect(names(session)).toEqual([
      'P named',
      'B named',
      'C named',
      'P named',
      'B named',
      'C named',
      'P named',
      'B named',
    ]);
  });
});

describe('the names that a flight closes', () => {
  it('are closed by the next request if the server has passed over it', async () => {
    const session = await openSession({ limit: 1 });
    const closes = (): string[] =>
      session
        .messages()
        .filter(({ type }) => type === 'C')
        .map(({ body }) => body.toString('latin1', 1, body.length - 1));
    for (const text of ['SELECT 1', 'SELECT 2']) plain(session, text);
    fly(session, plain(session, 'SELECT 1'), plain(session, 'SELECT 2'));
    await settle();
    const closed = closes();
    expect(closed).toHaveLength(1);
    await session.answer(parsed, failed('22012'), ready('I'));
    fly(session, plain(session, 'SELECT 2'));
    await settle();
    expect(closes()).toEqual(expect.arrayContaining(closed));
  });
});

describe('what flies one by one', () => {
  it('and has a value that cannot be converted is told of once', async () => {
    const session = await openSession({ limit: 0 });
    Object.assign(session.client, { binary: true });
    const toPostgres = (): never => {
      throw new Error('mine');
    };
    const { told } = fly(session, plain(session, 'SELECT $1', [{ toPostgres }]), plain(session, 'SELECT 2'));
    await settle();
    session.sent();
    // pg calls back again, without an error, when the server is ready.
    await session.answer(parsed, ready('I'));
    expect(session.sent()).toBe('');
    expect(told).toMatchObject([[{ message: 'mine' }, { failedAt: 0, results: [] }]]);
  });

  it('is told of once, in the same way, and each is sent after the answer to the one before', async () => {
    const session = await openSession({ limit: 0 });
    Object.assign(session.client, { binary: true });
    const { told } = fly(session, plain(session, 'BEGIN'), plain(session, 'SELECT $1', [1]));
    await settle();
    expect(session.sent()).toBe('Query');
    await session.answer(complete('BEGIN'), ready('T'));
    expect(session.sent()).toBe(`${STEPS} Sync`);
    await session.answer(parsed, bound, described('a'), row('1'), complete('SELECT 1'), ready('T'));
    expect(told).toHaveLength(1);
    expect(told[0]).toMatchObject([null, { isSent: true, failedAt: 2 }]);
    expect(told[0]?.[1].isTogether).toBeUndefined();
    expect(rowsOf(told[0]?.[1])).toEqual([[], [{ a: '1' }]]);
  });
});
