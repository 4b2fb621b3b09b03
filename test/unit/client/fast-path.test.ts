import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text as read } from 'node:stream/consumers';
import pg from 'pg';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { FastPath } from '../../../lib/client/fast-path.js';
import { FastQuery } from '../../../lib/client/fast-query.js';
import { compileLibrary } from '../../support/compiled-library.js';
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
import { startScriptedServer } from '../../support/scripted-server.js';

const { builtins } = pg.types;

const SIMPLE = 'Query';
const UNNAMED = 'Parse Bind Describe Execute Sync';
const FIRST_NAMED = UNNAMED;
const NAMED = 'Bind Describe Execute Sync';

/** The name in a Parse, Bind or Close. */
function nameIn(body: Buffer, type: string): string {
  const [first = '', second = ''] = body.toString('latin1').split('\0');
  if (type === 'C') return first.slice(1);
  return type === 'B' ? second : first;
}

function names(session: MemorySession): string[] {
  return session
    .messages()
    .filter(({ type }) => 'PBC'.includes(type))
    .map(({ type, body }) => `${type} ${nameIn(body, type)}`);
}

/** Runs a statement of one column until it is named, parsed and described, and returns its name. */
async function warmUp(session: MemorySession, text: string, values: unknown[] = []): Promise<string> {
  session.messages();
  for (let use = 0; use < 3; use++) {
    const result = session.client.query(text, values);
    await settle();
    const sent = session.messages();
    const answers = sent.flatMap(
      ({ type }) => ({ C: [closed], P: [parsed], B: [bound], D: [described('a')] })[type] ?? [],
    );
    const simple = sent[0]?.type === 'Q' ? [described('a')] : [];
    await session.answer(...simple, ...answers, row('1'), complete('SELECT 1'), ready('I'));
    await result;
    const parse = sent.find(({ type }) => type === 'P');
    const name = parse ? nameIn(parse.body, 'P') : '';
    if (name !== '') return name;
  }
  throw new Error(`${text} is never named`);
}

const outcome = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    (result) => (result as pg.QueryResult).rows,
    (error: unknown) => error,
  );

/** Collects what would have ended the process. */
async function uncaughtDuring(work: () => Promise<void>): Promise<unknown[]> {
  const uncaught: unknown[] = [];
  const before = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', (error) => uncaught.push(error));
  try {
    await work();
    await settle();
  } finally {
    process.removeAllListeners('uncaughtException');
    for (const listener of before) process.on('uncaughtException', listener);
  }
  return uncaught;
}

afterEach(() => void vi.restoreAllMocks());

describe('what is sent', () => {
  it.each([
    ['without values', undefined, SIMPLE],
    ['with values', [1], UNNAMED],
  ])('%s: unnamed first, then named, then by its name alone', async (_, values, first) => {
    const session = await openSession();
    const { client } = session;
    const answers = [
      [...(values ? [parsed, bound] : []), described('a')],
      [parsed, bound, described('a')],
      [bound, described('a')],
      [bound, described('a')],
    ];
    const sent: string[] = [];
    for (const answer of answers) {
      const result = client.query('SELECT a', values);
      await settle();
      sent.push(session.sent());
      expect(session.writes()).toBe(1);
      await session.answer(...answer, row('x'), row(null), complete('SELECT 2'), ready('I'));
      expect(await result).toMatchObject({
        command: 'SELECT',
        rowCount: 2,
        rows: [{ a: 'x' }, { a: null }],
        fields: [{ name: 'a', dataTypeID: 25 }],
      });
    }
    expect(sent).toEqual([first, FIRST_NAMED, NAMED, NAMED]);
  });

  it('knows a statement that has no rows', async () => {
    const session = await openSession();
    const sent: string[] = [];
    for (const answer of [
      [parsed, bound, noData],
      [parsed, bound, noData],
      [bound, noData],
      [bound, noData],
    ]) {
      const result = session.client.query('INSERT INTO t VALUES ($1)', [1]);
      await settle();
      sent.push(session.sent());
      await session.answer(...answer, complete('INSERT 0 1'), ready('I'));
      expect(await result).toMatchObject({ command: 'INSERT', rowCount: 1, rows: [], fields: [] });
    }
    expect(sent).toEqual([UNNAMED, FIRST_NAMED, NAMED, NAMED]);
  });

  it('names nothing with a limit of 0', async () => {
    const session = await openSession({ limit: 0 });
    for (const values of [undefined, [1], undefined, [1], undefined, [1]]) {
      const result = session.client.query('SELECT a', values);
      await settle();
      const sent = names(session);
      expect(sent).toEqual(values ? ['P ', 'B '] : []);
      await session.answer(...(values ? [parsed, bound] : []), described('a'), complete('SELECT 0'), ready('I'));
      await result;
    }
  });

  it('closes an evicted one with the request of another, before it parses that', async () => {
    const session = await openSession({ limit: 1 });
    const old = await warmUp(session, 'SELECT 1');
    const young = await warmUp(session, 'SELECT 2');
    const result = session.client.query('SELECT 1');
    await settle();
    expect(session.writes()).toBeGreaterThan(0);
    const [close, parse, bind, ...rest] = names(session);
    expect(close).toBe(`C ${young}`);
    expect(rest).toEqual([]);
    expect(parse?.slice(2)).toBe(bind?.slice(2));
    expect([old, young]).not.toContain(parse?.slice(2));
    await session.answer(closed, parsed, bound, described('a'), row('1'), complete('SELECT 1'), ready('I'));
    expect((await result).rows).toEqual([{ a: '1' }]);
  });

  it.each(['DISCARD ALL', 'DEALLOCATE ALL'])('parses anew after %s, and closes nothing', async (text) => {
    const session = await openSession({ limit: 1 });
    const old = await warmUp(session, 'SELECT 1');
    const discarded = session.client.query(text);
    await session.answer(complete(text), ready('I'));
    await discarded;
    session.messages();
    const again = session.client.query('SELECT 1');
    await settle();
    const [parse, bind] = names(session);
    expect(parse).toMatch(/^P /);
    expect(parse?.slice(2)).toBe(bind?.slice(2));
    expect(parse?.slice(2)).not.toBe(old);
    await session.answer(parsed, bound, described('a'), row('1'), complete('SELECT 1'), ready('I'));
    expect((await again).rows).toEqual([{ a: '1' }]);
  });

  it.each(['DISCARD PLANS', 'DISCARD TEMP', 'RESET ALL'])('goes on by name after %s', async (text) => {
    const session = await openSession();
    await warmUp(session, 'SELECT 1');
    const discarded = session.client.query(text);
    await session.answer(complete(text), ready('I'));
    await discarded;
    session.messages();
    void session.client.query('SELECT 1').catch(() => undefined);
    await settle();
    expect(session.sent()).toBe(NAMED);
    await session.client.close();
  });

  it('parses anew behind a reset that is sent ahead', async () => {
    const session = await openSession();
    await warmUp(session, 'SELECT 1');
    session.client.resetSession('discard-all');
    const again = session.client.query('SELECT 1');
    await settle();
    expect(session.sent()).toBe(`Query ${FIRST_NAMED}`);
    await session.answer(complete('DISCARD ALL'), ready('I'), parsed, bound, described('a'));
    await session.answer(row('1'), complete('SELECT 1'), ready('I'));
    expect((await again).rows).toEqual([{ a: '1' }]);
  });

  it('is one write for all that is asked in a tick, where statements travel together', async () => {
    const session = await openSession();
    const { client } = session;
    Object.assign(client, { pipeline: true });
    const results = ['SELECT a', 'SELECT b', 'SELECT a'].map((text) => client.query(text, [1]));
    await new Promise((resolve) => process.nextTick(resolve));
    await new Promise((resolve) => process.nextTick(resolve));
    expect(session.writes()).toBe(1);
    expect(session.sent()).toBe(`${UNNAMED} ${UNNAMED} ${UNNAMED}`);
    for (const name of ['a', 'b', 'a']) {
      await session.answer(parsed, bound, described(name), row('1'), complete('SELECT 1'), ready('I'));
    }
    expect((await Promise.all(results)).map(({ rows }) => rows as unknown)).toEqual([
      [{ a: '1' }],
      [{ b: '1' }],
      [{ a: '1' }],
    ]);
  });

  it('is the same statement in all forms of a call', async () => {
    const session = await openSession();
    const text = 'SELECT a WHERE $1';
    await warmUp(session, text, [true]);
    const forms: (() => Promise<unknown>)[] = [
      () => session.client.query(text, [true]),
      () => session.client.query({ text, values: [true] }),
      () => session.client.query({ text }, [true]),
      () => session.client.query({ text, values: [false] }, [true]),
      () => session.client.query({ text, values: [true], name: undefined, types: undefined } as pg.QueryConfig),
      () => session.client.query({ text, values: [true], rowMode: 'array' }),
      () => new Promise((done) => session.client.query(text, [true], (_, result) => done(result))),
      () => new Promise((done) => session.client.query({ text, values: [true] }, (_, result) => done(result))),
    ];
    for (const form of forms) {
      const result = form() as Promise<pg.QueryResult>;
      await settle();
      expect(session.sent()).toBe(NAMED);
      await session.answer(bound, described('a'), row('1'), complete('SELECT 1'), ready('I'));
      expect(await result).toMatchObject({ rowCount: 1 });
    }
  });
});

describe('what is left to pg', () => {
  class Submitted {
    readonly text = 'SELECT 1';
    readonly values = undefined;
    submit(connection: pg.Connection): void {
      connection.query("SELECT 'its own'");
    }
    handleError(): void {
      return undefined;
    }
    handleReadyForQuery(): void {
      return undefined;
    }
    handleCommandComplete(): void {
      return undefined;
    }
  }

  it.each([
    ['something to be submitted', new Submitted()],
    ['a query of pg', new pg.Query('SELECT 1')],
    ['a name', { text: 'SELECT 1', name: 'mine' }],
    ['a name that the class has', Object.assign(Object.create({ name: 'mine' }) as object, { text: 'SELECT 1' })],
    [
      'a name behind a getter',
      new (class {
        text = 'SELECT 1';
        get name(): string {
          return 'mine';
        }
      })(),
    ],
    [
      'types behind a getter',
      new (class {
        text = 'SELECT 1';
        get types(): unknown {
          return { getTypeParser: () => String };
        }
      })(),
    ],
    ['types', { text: 'SELECT 1', types: pg.types }],
    ['rows', { text: 'SELECT 1', rows: 1 }],
    ['binary', { text: 'SELECT 1', binary: true }],
    ['a portal', { text: 'SELECT 1', portal: 'mine' }],
    ['a mode', { text: 'SELECT 1', queryMode: 'extended' }],
    ['a callback', { text: 'SELECT 1', callback: () => undefined }],
    ['what nobody knows', { text: 'SELECT 1', whatever: 1 }],
    ['a utility statement', 'SET a = 1'],
    ['several statements', 'SELECT 1; SELECT 2'],
    ['COPY', 'COPY t TO STDOUT'],
    ['nothing', ''],
  ])('%s', async (_, config) => {
    const session = await openSession();
    const { client } = session;
    const active = (): unknown => (client as unknown as { _activeQuery: unknown })._activeQuery;
    const query = client.query as unknown as (config: unknown) => Promise<unknown> | undefined;
    for (let use = 0; use < 3; use++) {
      void query.call(client, config);
      await settle();
      expect(active()).toBeTruthy();
      expect(active()).not.toBeInstanceOf(FastQuery);
      await session.answer(complete('SELECT 0'), ready('I'));
    }
  });

  it('binary results', async () => {
    const session = await openSession();
    Object.assign(session.client, { binary: true });
    void session.client.query('SELECT 1').catch(() => undefined);
    await settle();
    const { _activeQuery: active } = session.client as unknown as { _activeQuery: unknown };
    expect(active).not.toBeInstanceOf(FastQuery);
    await session.client.close();
  });

  it('its errors for what is no query', async () => {
    const { client } = await openSession();
    const query = client.query.bind(client) as (...args: unknown[]) => unknown;
    expect(() => query(null)).toThrow(TypeError);
    expect(() => query(undefined)).toThrow(TypeError);
    expect(() => query('SELECT 1', [], 'no function')).toThrow(TypeError);
    await expect(query('SELECT 1', 'no array')).rejects.toThrow('Query values must be an array');
    await expect(query({})).rejects.toThrow(/must have either text or a name/);
  });
});

const STALE = ['0A000', 'cached plan must not change result type', 'RevalidateCachedQuery'] as const;

describe('healing', () => {
  it('runs a statement whose plan is out of date again, under another name, and closes the old one', async () => {
    const session = await openSession();
    const old = await warmUp(session, 'SELECT a');
    const result = session.client.query('SELECT a');
    await settle();
    session.messages();
    await session.answer(failed(...STALE), ready('I'));
    const sent = names(session);
    expect(sent[0]).toBe(`C ${old}`);
    expect(sent.slice(1)).toHaveLength(2);
    expect(sent.join()).not.toContain(`P ${old}`);
    await session.answer(closed, parsed, bound, described('a', 'b'), row('1', '2'), complete('SELECT 1'), ready('I'));
    expect(await result).toMatchObject({ rows: [{ a: '1', b: '2' }], fields: [{ name: 'a' }, { name: 'b' }] });
  });

  it('comes before what has been asked for meanwhile', async () => {
    const session = await openSession();
    await warmUp(session, 'SELECT a');
    const order: string[] = [];
    const stale = session.client.query('SELECT a').then(() => order.push('stale'));
    const next = session.client.query('SELECT b').then(() => order.push('next'));
    await session.answer(failed(...STALE), ready('I'));
    await session.answer(closed, parsed, bound, described('a'), complete('SELECT 0'), ready('I'));
    await session.answer(described('b'), complete('SELECT 0'), ready('I'));
    await Promise.all([stale, next]);
    expect(order).toEqual(['stale', 'next']);
  });

  it('is tried twice, the second time without a name, and the text has none any more after that', async () => {
    const session = await openSession();
    await warmUp(session, 'SELECT a');
    const result = outcome(session.client.query('SELECT a'));
    await settle();
    session.messages();
    await session.answer(failed(...STALE), ready('I'));
    expect(session.sent()).toBe(`Close ${FIRST_NAMED}`);
    await session.answer(closed, parsed, failed(...STALE), ready('I'));
    expect(session.sent()).toBe(`Close ${SIMPLE}`);
    await session.answer(closed, failed(...STALE), ready('I'));
    expect(await result).toMatchObject({ code: '0A000' });
    const next = session.client.query('SELECT a');
    await settle();
    expect(session.sent()).toBe(SIMPLE);
    await session.answer(described('a'), complete('SELECT 0'), ready('I'));
    expect((await next).rows).toEqual([]);
  });

  it('is not tried inside a transaction: the error is told, and the next use parses anew', async () => {
    const session = await openSession();
    await warmUp(session, 'SELECT a');
    const begun = session.client.query('BEGIN');
    await session.answer(complete('BEGIN'), ready('T'));
    await begun;
    const result = outcome(session.client.query('SELECT a'));
    await session.answer(failed(...STALE), ready('E'));
    expect(await result).toMatchObject({ code: '0A000' });
    const back = session.client.query('ROLLBACK');
    await session.answer(complete('ROLLBACK'), ready('I'));
    await back;
    session.messages();
    const next = session.client.query('SELECT a');
    await settle();
    expect(session.sent()).toBe(`Close ${FIRST_NAMED}`);
    await session.answer(closed, parsed, bound, described('a'), complete('SELECT 0'), ready('I'));
    await next;
  });

  it.each([
    ['another routine', ['0A000', 'WITH HOLD is not supported', 'transformX']],
    ['another error', ['22012', 'division by zero', 'int4div']],
    [
      'an unknown statement of another name',
      ['26000', 'prepared statement "theirs" does not exist', 'FetchPreparedStatement'],
    ],
    [
      'a taken name that is not ours',
      ['42P05', 'prepared statement "theirs" already exists', 'StorePreparedStatement'],
    ],
  ] as [string, [string, string, string]][])('is not for %s', async (_, error) => {
    const session = await openSession();
    await warmUp(session, 'SELECT a');
    const result = outcome(session.client.query('SELECT a'));
    await settle();
    session.messages();
    await session.answer(bound, failed(...error), ready('I'));
    expect(await result).toMatchObject({ code: error[0] });
    expect(session.sent()).toBe('');
    expect(session.warnings).toEqual([]);
  });

  it('sends the values that were given, whatever has become of them since', async () => {
    const session = await openSession();
    await warmUp(session, 'SELECT $1', ['first']);
    const values = ['given'];
    const result = session.client.query('SELECT $1', values);
    values[0] = 'changed later';
    await settle();
    session.messages();
    await session.answer(failed(...STALE), ready('I'));
    const bind = session.messages().find(({ type }) => type === 'B');
    expect(bind?.body.toString()).toContain('given');
    await session.answer(closed, parsed, bound, described('a'), complete('SELECT 0'), ready('I'));
    await result;
  });

  it('asks an object for its value once', async () => {
    const session = await openSession();
    await warmUp(session, 'SELECT $1', ['first']);
    const toPostgres = vi.fn(() => 'mine');
    const result = session.client.query('SELECT $1', [{ toPostgres }]);
    await session.answer(failed(...STALE), ready('I'));
    await session.answer(closed, parsed, bound, described('a'), complete('SELECT 0'), ready('I'));
    await result;
    expect(toPostgres).toHaveBeenCalledTimes(1);
  });

  it('parses anew after an error before the values were taken: the types of the parameters may have changed', async () => {
    const session = await openSession();
    const old = await warmUp(session, 'SELECT $1', ['1']);
    const result = outcome(session.client.query('SELECT $1', ['9999999999']));
    await settle();
    session.messages();
    await session.answer(
      failed('22003', 'value "9999999999" is out of range for type integer', 'pg_strtoint32'),
      ready('I'),
    );
    // Whether it runs again by itself or the next use does it: never again under the old name.
    const next = outcome(session.client.query('SELECT $1', ['9999999999']));
    await settle();
    expect(names(session)).not.toContain(`B ${old}`);
    await session.client.close();
    await Promise.all([result, next]);
  });

  describe('where named statements are not kept', () => {
    const UNKNOWN = (name: string): Buffer =>
      failed('26000', `prepared statement "${name}" does not exist`, 'exec_bind_message');

    it('runs the statement again without a name, warns once, and names nothing any more', async () => {
      const session = await openSession();
      const first = await warmUp(session, 'SELECT a');
      const second = await warmUp(session, 'SELECT b');
      const lost = session.client.query('SELECT a');
      await settle();
      session.messages();
      await session.answer(UNKNOWN(first), ready('I'));
      expect(session.sent()).toBe(SIMPLE);
      await session.answer(described('a'), row('1'), complete('SELECT 1'), ready('I'));
      expect((await lost).rows).toEqual([{ a: '1' }]);
      expect(session.warnings).toEqual([expect.stringContaining(`"${first}" does not exist`)]);
      const other = session.client.query('SELECT b');
      await settle();
      expect(names(session)).not.toContain(`B ${second}`);
      await session.answer(described('b'), complete('SELECT 0'), ready('I'));
      await other;
    });

    it('does so for a name that is taken', async () => {
      const session = await openSession();
      const first = session.client.query('SELECT a');
      await session.answer(described('a'), complete('SELECT 0'), ready('I'));
      await first;
      session.messages();
      const second = session.client.query('SELECT a');
      await settle();
      const name = names(session)[0]?.slice(2) ?? '';
      await session.answer(failed('42P05', `prepared statement "${name}" already exists`), ready('I'));
      expect(session.sent()).toBe(SIMPLE);
      await session.answer(described('a'), row('1'), complete('SELECT 1'), ready('I'));
      expect((await second).rows).toEqual([{ a: '1' }]);
      expect(session.warnings).toHaveLength(1);
    });

    it('tells the error inside a transaction, and names nothing any more', async () => {
      const session = await openSession();
      const name = await warmUp(session, 'SELECT a');
      const begun = session.client.query('BEGIN');
      await session.answer(complete('BEGIN'), ready('T'));
      await begun;
      const lost = outcome(session.client.query('SELECT a'));
      await session.answer(UNKNOWN(name), ready('E'));
      expect(await lost).toMatchObject({ code: '26000' });
      expect(session.warnings).toHaveLength(1);
      session.messages();
      const next = outcome(session.client.query('SELECT a'));
      await settle();
      expect(session.sent()).toBe(SIMPLE);
      await session.answer(failed('25P02'), ready('E'));
      await next;
    });

    it("ends it for the pool's other connections at once", async () => {
      const one = await openSession();
      const other = await openSession({ statements: one.catalog });
      const name = await warmUp(one, 'SELECT a');
      const theirs = await warmUp(other, 'SELECT a');
      const lost = one.client.query('SELECT a');
      await one.answer(UNKNOWN(name), ready('I'));
      await one.answer(described('a'), complete('SELECT 0'), ready('I'));
      await lost;
      void other.client.query('SELECT a').catch(() => undefined);
      await settle();
      expect(names(other)).not.toContain(`B ${theirs}`);
      await other.client.close();
    });
  });
});

describe('what is read', () => {
  it('takes the rows that a rule adds to those of the statement, as pg does', async () => {
    const session = await openSession();
    const result = session.client.query('INSERT INTO t DEFAULT VALUES');
    await session.answer(
      described('a'),
      row('1'),
      described('b', 'c'),
      row('2', '3'),
      complete('INSERT 0 1'),
      ready('I'),
    );
    expect(await result).toMatchObject({
      command: 'INSERT',
      rowCount: 1,
      rows: [{ a: '1' }, { b: '2', c: '3' }],
      fields: [{ name: 'b' }, { name: 'c' }],
    });
  });

  it('reads each answer by its own description: a pooler may have another session behind the same name', async () => {
    const session = await openSession();
    await warmUp(session, 'SELECT *');
    for (const [description, values, expected] of [
      [['a', 'b'], ['1', '2'], { a: '1', b: '2' }],
      [['b', 'a'], ['1', '2'], { b: '1', a: '2' }],
      [[['a', builtins.INT4]], ['1'], { a: 1 }],
      [[['a', builtins.TEXT]], ['1'], { a: '1' }],
      [[], [], {}],
      [['a'], ['1'], { a: '1' }],
    ] as [(string | [string, number])[], string[], object][]) {
      const result = session.client.query('SELECT *');
      await session.answer(bound, described(...description), row(...values), complete('SELECT 1'), ready('I'));
      expect((await result).rows).toEqual([expected]);
      expect((await result).fields).toHaveLength(description.length);
    }
  });

  it('hears notices, notifications and parameters in between', async () => {
    const session = await openSession();
    const heard: string[] = [];
    session.client.on('notice', () => heard.push('notice'));
    session.client.on('notification', () => heard.push('notification'));
    const { message } = await import('../../support/scripted-server.js');
    const result = session.client.query('SELECT a');
    await session.answer(described('a'), message('N', 'SNOTICE\0Mx\0\0'), row('1'), message('S', 'TimeZone\0UTC\0'));
    await session.answer(message('A', '\0\0\0\x01c\0p\0'), row('2'), complete('SELECT 2'), ready('I'));
    expect((await result).rows).toEqual([{ a: '1' }, { a: '2' }]);
    expect(heard).toEqual(['notice', 'notification']);
    expect(session.client.parameter('TimeZone')).toBe('UTC');
  });

  it("tells what a parser of the application's throws when the statement has ended, and goes on", async () => {
    const session = await openSession();
    session.client.setTypeParser(builtins.TEXT, () => {
      throw new RangeError('mine');
    });
    const result = outcome(session.client.query('SELECT a'));
    const told = vi.fn();
    void result.then(told);
    await session.answer(described('a'), row('1'), row('2'), complete('SELECT 2'));
    expect(told).not.toHaveBeenCalled();
    await session.answer(ready('I'));
    expect(await result).toEqual(expect.objectContaining({ message: 'mine' }));
    const next = session.client.query('INSERT INTO t DEFAULT VALUES');
    await session.answer(complete('INSERT 0 1'), ready('I'));
    expect((await next).rowCount).toBe(1);
  });

  it('uses parsers that were set after the statement was described', async () => {
    const session = await openSession();
    await warmUp(session, 'SELECT a');
    session.client.setTypeParser(builtins.TEXT, (value: string) => `<${value}>`);
    for (let use = 0; use < 2; use++) {
      const result = session.client.query('SELECT a');
      await session.answer(bound, described('a'), row('1'), complete('SELECT 1'), ready('I'));
      expect((await result).rows).toEqual([{ a: '<1>' }]);
    }
  });

  it('reads the rows of statements without a name by the description of each, and by the parsers of the moment', async () => {
    const session = await openSession();
    const ask = async (text: string, column: string): Promise<unknown> => {
      const result = session.client.query(text);
      await session.answer(described(column), row('1'), complete('SELECT 1'), ready('I'));
      return result;
    };
    expect(await ask('SELECT 1', 'a')).toMatchObject({ rows: [{ a: '1' }], fields: [{ name: 'a' }] });
    expect(await ask('SELECT 2', 'a')).toMatchObject({ rows: [{ a: '1' }], fields: [{ name: 'a' }] });
    expect(await ask('SELECT 3', 'b')).toMatchObject({ rows: [{ b: '1' }], fields: [{ name: 'b' }] });
    session.client.setTypeParser(builtins.TEXT, (value: string) => `<${value}>`);
    expect(await ask('SELECT 4', 'b')).toMatchObject({ rows: [{ b: '<1>' }], fields: [{ name: 'b' }] });
  });

  it('takes parsers that are new ones at each question', async () => {
    const session = await openSession({
      types: { getTypeParser: (oid) => (value: unknown) => `${oid}:${String(value)}` },
    });
    await warmUp(session, 'SELECT a');
    const result = session.client.query('SELECT a');
    await session.answer(bound, described('a'), row('1'), complete('SELECT 1'), ready('I'));
    expect((await result).rows).toEqual([{ a: '25:1' }]);
  });

  it('gives each result fields of its own', async () => {
    const session = await openSession();
    await warmUp(session, 'SELECT a');
    const first = session.client.query('SELECT a');
    await session.answer(bound, described('a'), row('1'), complete('SELECT 1'), ready('I'));
    const { fields } = await first;
    for (const one of fields) one.name = one.name.toUpperCase();
    fields.push(...fields);
    const second = session.client.query('SELECT a');
    await session.answer(bound, described('a'), row('1'), complete('SELECT 1'), ready('I'));
    expect(await second).toMatchObject({ rows: [{ a: '1' }], fields: [{ name: 'a' }] });
    expect((await second).fields).toHaveLength(1);
  });
});

describe('an exception of the application', () => {
  const mine = new Error('mine');
  const throwing = (): never => {
    throw mine;
  };

  async function goesOn(session: MemorySession): Promise<void> {
    const next = outcome(session.client.query('SELECT b'));
    await session.answer(described('b'), row('1'), complete('SELECT 1'), ready('I'));
    expect(await next).toEqual([{ b: '1' }]);
  }

  it('in a callback is its own, and the session goes on', async () => {
    const session = await openSession();
    const uncaught = await uncaughtDuring(async () => {
      session.client.query('SELECT a', throwing);
      await session.answer(described('a'), complete('SELECT 0'), ready('I'));
      await goesOn(session);
    });
    expect(uncaught).toEqual([mine]);
  });

  it('in a callback that is told of an error is its own, and the session goes on', async () => {
    const session = await openSession();
    const uncaught = await uncaughtDuring(async () => {
      session.client.query('SELECT a', throwing);
      await session.answer(failed('22012'), ready('I'));
      await goesOn(session);
    });
    expect(uncaught).toEqual([mine]);
  });

  it('in a callback that is told of what a parser threw is its own, and the session goes on', async () => {
    const session = await openSession();
    session.client.setTypeParser(builtins.INT8, () => {
      throw new Error('of the parser');
    });
    const uncaught = await uncaughtDuring(async () => {
      session.client.query('SELECT a', throwing);
      await session.answer(described(['a', builtins.INT8]), row('1'), complete('SELECT 1'), ready('I'));
      await goesOn(session);
    });
    expect(uncaught).toEqual([mine]);
  });

  it('in a listener of "drain" is its own, and the session goes on', async () => {
    const session = await openSession();
    session.client.once('drain', throwing);
    const uncaught = await uncaughtDuring(async () => {
      const result = session.client.query('SELECT a');
      await session.answer(described('a'), complete('SELECT 0'), ready('I'));
      await result;
      await goesOn(session);
    });
    expect(uncaught).toEqual([mine]);
  });

  it.each([mine, 'text', 0, '', null, undefined])(
    'in toPostgres ends the query, whatever is thrown: %s',
    async (thrown) => {
      const session = await openSession();
      const toPostgres = (): never => {
        // eslint-disable-next-line @typescript-eslint/only-throw-error -- that is the point
        throw thrown;
      };
      const settled = vi.fn();
      session.client.query('SELECT $1', [{ toPostgres }]).then(settled, settled);
      await settle();
      await settle();
      expect(session.sent()).toBe('');
      expect(settled).toHaveBeenCalledTimes(1);
      await goesOn(session);
    },
  );
});

describe('a session that is over', () => {
  it.each([
    ['a row without a description', [row('1')]],
    ['a row of another length', [described('a'), row('1', '2')]],
    ['a row that is cut off', [described('a'), Buffer.concat([Buffer.from('D\0\0\0\x07'), Buffer.from([0, 1, 0])])]],
  ])('ends at %s', async (_, answer) => {
    const session = await openSession();
    const result = outcome(session.client.query('SELECT a'));
    await session.answer(...answer, complete('SELECT 1'), ready('I'));
    expect(await result).toMatchObject({ code: 'PG_CONNECTION_LOST' });
    expect(session.client.isClosed).toBe(true);
  });

  it('gives nothing away of what stands behind the reason in the same packet', async () => {
    const session = await openSession();
    await warmUp(session, 'SELECT a');
    session.client.resetSession('discard-all');
    const behind = outcome(session.client.query('SELECT a'));
    await settle();
    await session.answer(
      ...[complete('DISCARD ALL'), ready('T')],
      ...[parsed, bound, described('a'), row('1'), complete('SELECT 1'), ready('I')],
    );
    expect(await behind).toMatchObject({ code: 'PG_CONNECTION_LOST' });
    expect(session.client.isClosed).toBe(true);
  });

  it('rejects what is under way and what waits', async () => {
    const session = await openSession();
    const results = ['SELECT a', 'SELECT b'].map((text) => outcome(session.client.query(text)));
    await settle();
    session.stream.destroy(new Error('cut'));
    for (const result of results) expect(await result).toBeInstanceOf(Error);
  });
});

describe('query_timeout', () => {
  it('closes a statement whose Parse was under way, with the next request', async () => {
    const session = await openSession();
    const first = session.client.query('SELECT a');
    await session.answer(described('a'), complete('SELECT 0'), ready('I'));
    await first;
    session.messages();
    const config = { text: 'SELECT a', query_timeout: 1 };
    const late = await outcome(session.client.query(config));
    expect(late).toMatchObject({ message: 'Query read timeout' });
    const name = names(session)[0]?.slice(2) ?? '';
    expect(name).not.toBe('');
    await session.answer(parsed, bound, described('a'), complete('SELECT 0'), ready('I'));
    const next = session.client.query('SELECT a');
    await settle();
    // Either it is used, since the server has it, or it is closed: but not left behind.
    expect(names(session).filter((sent) => !sent.startsWith('P'))).toContainEqual(
      expect.stringMatching(new RegExp(`^[BC] ${name}$`)),
    );
    await session.client.close();
    await outcome(next);
  });
});

describe('the part of pg that is missing', () => {
  const client = new pg.Client();

  it('is none', () => expect(FastPath.obstacle(client)).toBeUndefined());

  it.each([
    '_activeQuery',
    '_queryQueue',
    '_sentQueryQueue',
    '_types',
    'binary',
    '_handleReadyForQuery',
    'getTransactionStatus',
  ])('is Client.%s', (name) => {
    const without = new Proxy(client, {
      has: (target, key) => key !== name && key in target,
      get: (target, key) => (key === name ? undefined : (Reflect.get(target, key) as unknown)),
    });
    expect(FastPath.obstacle(without)).toBe(`Client.${name}`);
  });

  const exported = pg as unknown as { Result: { prototype: object }; utils: object };
  it.each([
    ['pg.Result', exported, 'Result'],
    ['pg.utils', exported, 'utils'],
    ['pg.utils.prepareValue', exported.utils, 'prepareValue'],
    ['Result.addCommandComplete', exported.Result.prototype, 'addCommandComplete'],
  ])('is %s', (name, owner, key) => {
    const before = Object.getOwnPropertyDescriptor(owner, key)!;
    Reflect.deleteProperty(owner, key);
    try {
      expect(FastPath.obstacle(client)).toContain(name);
    } finally {
      Object.defineProperty(owner, key, before);
    }
  });

  const folders = ['client', 'config', 'connect', 'errors', 'pool', 'tls', 'util'];

  // pg itself goes on using what it has; only what it shows is less.
  it.each([
    ['pg.Result', 'delete pg.Result'],
    ['pg.utils', 'delete pg.utils'],
    ['pg.utils.prepareValue', 'pg.utils = {}'],
  ])('lets statements run the way of stock pg, with one warning: without %s', async (part, remove) => {
    await using server = await startScriptedServer(async (connection) => {
      await connection.startupWithoutEncryption();
      connection.sendReady();
      for (;;) {
        const { type } = await connection.message();
        if (type === 'X') return;
        if (type === 'P') connection.send(Buffer.concat([parsed, bound]));
        if (type === 'Q' || type === 'E')
          connection.send(Buffer.concat([described('a'), row('1'), complete('SELECT 1')]));
        if (type === 'Q' || type === 'S') connection.send(ready('I'));
      }
    });
    await using library = await compileLibrary(folders);
    const script = await library.script(
      'child.js',
      `import pg from 'pg';
        ${remove};
        const { PgClient } = await import('./client/pg-client.js');
        const { StatementCatalog } = await import('./client/statement-catalog.js');
        const { connect } = await import('node:net');
        const { once } = await import('node:events');
        const warnings = [];
        process.on('warning', ({ message }) => warnings.push(message));
        const rows = [];
        for (let client = 0; client < 2; client++) {
          const stream = connect(${server.port}, '${server.host}');
          await once(stream, 'connect');
          const session = new PgClient({
            stream, host: '', port: 1, user: 'me', database: 'mine', password: () => '', session: {}, queryTimeoutMillis: 0,
            security: { encrypted: false, verified: 'none' }, statements: new StatementCatalog(100, () => {}),
            authentication: { channelBinding: 'prefer', encrypted: false, certificateMissing: false },
          });
          await session.connect();
          for (let use = 0; use < 3; use++) {
            rows.push(...(await session.query('SELECT a')).rows, ...(await session.query('SELECT $1', [1])).rows);
          }
          await session.close();
        }
        await new Promise(setImmediate);
        console.log(JSON.stringify({ rows, warnings }));`,
    );
    const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'pipe'] });
    const [output, errors] = await Promise.all([read(child.stdout), read(child.stderr), once(child, 'close')]);
    expect(errors.replace(/^\(node.*\n|^\(Use .*\n/gm, '')).toBe('');
    const { rows, warnings } = JSON.parse(output) as { rows: unknown[]; warnings: string[] };
    expect(rows).toEqual(Array.from({ length: 12 }, () => ({ a: '1' })));
    expect(warnings).toEqual([expect.stringMatching(`no ${part}.*: nestjs-pg runs statements the way of stock pg`)]);
  });
});
