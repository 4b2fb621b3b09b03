import { EventEmitter } from 'node:events';
import { PassThrough, type Duplex } from 'node:stream';
import pg from 'pg';
import { describe, expect, it, vi } from 'vitest';
import { message } from '../../support/scripted-server.js';

/**
 * Every private part of pg that lib/client touches, by name. When a version of pg moves one, the test of that name
 * fails, and says where to look.
 */
const client = new pg.Client({
  connection: new pg.Connection({ stream: new PassThrough() as never, ssl: false }),
} as pg.ClientConfig);
const connection = client.connection;

describe('private parts of pg.Client', () => {
  it.each([
    ...['_queryable', '_ending', '_ended', '_activeQuery', '_queryQueue', '_sentQueryQueue', '_types'],
    ...['binary', 'pipeline', 'processID', 'secretKey', 'connectionParameters', 'enableChannelBinding'],
  ])('%s is a field', (name) => {
    expect(Object.keys(client)).toContain(name);
  });

  it.each(['_queryQueue', '_sentQueryQueue'])('%s is an array', (name) => {
    expect(client).toHaveProperty(name, []);
  });

  it.each(['_handleReadyForQuery', '_handleAuthSASLContinue', 'getTransactionStatus'])('%s is a method', (name) => {
    expect(pg.Client.prototype).toHaveProperty(name, expect.any(Function));
  });

  it('_types finds the parsers, those of setTypeParser included', () => {
    const own = new pg.Client();
    const { _types: types } = own as unknown as { _types: { getTypeParser(oid: number, format: string): unknown } };
    expect(types.getTypeParser(23, 'text')).toBe(pg.types.getTypeParser(pg.types.builtins.INT4, 'text'));
    const parse = (): string => 'mine';
    own.setTypeParser(pg.types.builtins.INT4, parse);
    expect(types.getTypeParser(pg.types.builtins.INT4, 'text')).toBe(parse);
  });

  it('connectionParameters.query_timeout is what query() goes by', () => {
    const own = new pg.Client({ query_timeout: 1234 });
    expect(own).toHaveProperty('connectionParameters.query_timeout', 1234);
  });

  it('saslSession is the state of SCRAM, and password the text by then', async () => {
    const link = new pg.Connection({ stream: new PassThrough() as never, ssl: false });
    const own = new pg.Client({ connection: link, password: () => 'pencil' } as pg.ClientConfig);
    Object.assign(link, { connect: () => undefined });
    own.connect(() => undefined);
    link.emit('authenticationSASL', { mechanisms: ['SCRAM-SHA-256'] });
    await vi.waitFor(() => expect(own).toHaveProperty('saslSession.message', 'SASLInitialResponse'));
    expect(own.password).toBe('pencil');
    expect((own as unknown as { saslSession: object }).saslSession).toMatchObject({
      mechanism: 'SCRAM-SHA-256',
      clientNonce: expect.any(String) as string,
      scramMaxIterations: 100_000,
      response: expect.stringMatching(/^n,,n=\*,r=/) as string,
    });
  });

  it('the server is believed only if it signs as saslSession.serverSignature has it', () => {
    const heard: unknown[] = [];
    for (const signature of ['YQ==', 'YWE=']) {
      const link = new pg.Connection({ stream: new PassThrough() as never, ssl: false });
      const own = new pg.Client({ connection: link } as pg.ClientConfig);
      Object.assign(link, { connect: () => undefined });
      own.connect((error?: Error) => heard.push(error?.message));
      Object.assign(own, { saslSession: { message: 'SASLResponse', serverSignature: 'YQ==' } });
      link.emit('authenticationSASLFinal', { data: `v=${signature}` });
    }
    expect(heard).toEqual(['SASL: SCRAM-SERVER-FINAL-MESSAGE: server signature does not match']);
  });

  it('getStartupConf makes the startup message', () => {
    expect(pg.Client.prototype).toHaveProperty('getStartupConf', expect.any(Function));
  });

  it('config.connection replaces the connection, and config.password may be a function', () => {
    expect(client.connection).toBe(connection);
    expect(new pg.Client({ password: () => 'x' }).password).toBeTypeOf('function');
  });
});

describe('private parts of pg.Connection', () => {
  it.each(['_ending', 'stream', 'parsedStatements', 'submittedNamedStatements'])('%s is a field', (name) => {
    expect(Object.keys(connection)).toContain(name);
  });

  it.each(['attachListeners', 'connect', 'query', 'sendSCRAMClientFinalMessage'])('%s is a method', (name) => {
    expect(pg.Connection.prototype).toHaveProperty(name, expect.any(Function));
  });

  it('_connecting is what end() goes by', () => {
    const stream = new PassThrough();
    const written: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => written.push(chunk));
    const saysGoodbye = new pg.Connection({ stream: stream as never, ssl: false });
    Object.assign(saysGoodbye, { _connecting: true });
    saysGoodbye.end();
    expect(Buffer.concat(written).toString('latin1')).toBe('X\0\0\0\x04');
  });
});

/** A client as it is between two queries: what it writes is kept, what it reads comes from `answer`. */
function openClient(): { own: pg.Client & Internals; answer(...messages: Buffer[]): void } {
  const stream = new PassThrough();
  const link = new pg.Connection({ stream: stream as never, ssl: false });
  const own = new pg.Client({ connection: link } as pg.ClientConfig) as pg.Client & Internals;
  Object.assign(link, { connect: () => undefined });
  own.connect(() => undefined);
  const forPg = new EventEmitter();
  (link as unknown as Attaching).attachListeners(forPg as Duplex);
  const answer = (...messages: Buffer[]): void => void forPg.emit('data', Buffer.concat(messages));
  answer(message('Z', 'I'));
  return { own, answer };
}

interface Attaching {
  attachListeners(stream: Duplex): void;
}

interface Internals {
  _activeQuery: object | null | undefined;
  _queryQueue: object[];
  _handleReadyForQuery(message: object): void;
  readyForQuery: boolean;
}

/** What pg asks of something that it keeps in its queue, and nothing else. */
function queued(): Record<
  'submit' | 'handleReadyForQuery' | 'handleError' | 'handleRowDescription',
  ReturnType<typeof vi.fn>
> {
  return {
    submit: vi.fn(() => null),
    handleReadyForQuery: vi.fn(),
    handleError: vi.fn(),
    handleRowDescription: vi.fn(),
  };
}

describe('how pg.Client treats what it has queued', () => {
  it('submits it when its turn has come, and it is the active one until it has ended', () => {
    const { own } = openClient();
    const [one, two] = [queued(), queued()];
    own.query(one as never);
    own._queryQueue.push(two);
    expect(own._activeQuery).toBe(one);
    expect(two.submit).not.toHaveBeenCalled();
    own._handleReadyForQuery({ name: 'readyForQuery', length: 5, status: 'T' });
    expect(one.handleReadyForQuery).toHaveBeenCalledOnce();
    expect(own._activeQuery).toBe(two);
    expect((own as unknown as pg.Client & { getTransactionStatus(): string }).getTransactionStatus()).toBe('T');
  });

  it('tells it of its error at once, and of nothing at the end that follows', () => {
    const { own, answer } = openClient();
    const one = queued();
    own.query(one as never);
    answer(message('E', 'SERROR\0C22012\0Mdivision by zero\0Rint4div\0\0'));
    expect(one.handleError.mock.calls[0]?.[0]).toMatchObject({ code: '22012', routine: 'int4div' });
    expect(own._activeQuery).toBeNull();
    // A query that is put in front of the others now is the next one.
    const [again, waiting] = [queued(), queued()];
    own._queryQueue.push(waiting);
    own._queryQueue.unshift(again);
    answer(message('Z', 'I'));
    expect(one.handleReadyForQuery).not.toHaveBeenCalled();
    expect(again.submit).toHaveBeenCalledOnce();
    expect(waiting.submit).not.toHaveBeenCalled();
  });

  it('tells it of the error that its submit() gives, on the next tick, and goes on', async () => {
    const { own } = openClient();
    const [one, two] = [queued(), queued()];
    const error = new Error('mine');
    one.submit.mockReturnValue(error);
    own.query(one as never);
    own.query(two as never);
    expect(one.handleError).not.toHaveBeenCalled();
    await new Promise(setImmediate);
    expect(one.handleError.mock.calls[0]?.[0]).toBe(error);
    expect(own._activeQuery).toBe(two);
  });

  it('tells it of its description', () => {
    const { own, answer } = openClient();
    const one = queued();
    own.query(one as never);
    const column = Buffer.alloc(18);
    column.writeUInt32BE(23, 6);
    answer(message('T', Buffer.concat([Buffer.from([0, 1]), Buffer.from('a\0'), column])));
    expect(one.handleRowDescription.mock.calls[0]?.[0]).toMatchObject({
      fields: [{ name: 'a', dataTypeID: 23, tableID: 0, columnID: 0, format: 'text' }],
    });
  });

  it('reads query_timeout and callback off it', async () => {
    const { own } = openClient();
    const told = vi.fn();
    const one = { ...queued(), query_timeout: 1, callback: told };
    own.query(one as never);
    await vi.waitFor(() => expect(one.handleError).toHaveBeenCalled());
    expect(told.mock.calls[0]?.[0]).toMatchObject({ message: 'Query read timeout' });
    expect(one.callback).not.toBe(told);
  });

  it('takes an instance of pg.Query for one that may be pipelined', async () => {
    for (const isQuery of [false, true]) {
      const { own } = openClient();
      Object.assign(own, { pipeline: true, _connected: true });
      const one = Object.assign(isQuery ? (Object.create(pg.Query.prototype) as object) : {}, queued());
      own.query(one as never);
      await new Promise(setImmediate);
      expect(one.submit).toHaveBeenCalledTimes(isQuery ? 1 : 0);
      expect(one.handleError).toHaveBeenCalledTimes(isQuery ? 0 : 1);
    }
  });

  it.each([
    'handleDataRow',
    'handleCommandComplete',
    'handleEmptyQuery',
    'handlePortalSuspended',
    'handleCopyInResponse',
    'handleCopyData',
  ])('pg.Query.prototype has %s, which a query of ours inherits', (name) =>
    expect(pg.Query.prototype).toHaveProperty(name, expect.any(Function)),
  );
});

describe('private parts of pg.Connection that read', () => {
  it("attachListeners takes any emitter, reads its 'data' and nothing else of it", () => {
    const own = new pg.Connection({ stream: new PassThrough() as never, ssl: false });
    const heard: unknown[] = [];
    own.on('readyForQuery', (one: unknown) => heard.push(one));
    own.on('errorMessage', (one: unknown) => heard.push(one));
    const emitter = new EventEmitter();
    (own as unknown as Attaching).attachListeners(emitter as Duplex);
    expect(emitter.listenerCount('data')).toBe(1);
    emitter.emit('data', Buffer.concat([message('Z', 'I'), message('E', 'SERROR\0Mx\0\0')]));
    expect(heard).toEqual([
      expect.objectContaining({ name: 'readyForQuery', length: 5, status: 'I' }),
      expect.objectContaining({ message: 'x' }),
    ]);
  });

  it('emits before it returns: whose message the next one is has been decided', () => {
    const own = new pg.Connection({ stream: new PassThrough() as never, ssl: false });
    const heard = vi.fn();
    own.on('readyForQuery', heard);
    const emitter = new EventEmitter();
    (own as unknown as Attaching).attachListeners(emitter as Duplex);
    for (let count = 1; count <= 3; count++) {
      emitter.emit('data', message('Z', 'I'));
      expect(heard).toHaveBeenCalledTimes(count);
    }
  });
});

describe('private parts of pg.Result', () => {
  interface Result {
    rows: unknown[];
    fields: pg.FieldDef[];
    command: string | null;
    rowCount: number | null;
    oid: number | null;
    _parsers: unknown[] | undefined;
    _prebuiltEmptyResultObject: object | null;
    _types: unknown;
    addFields(fields: pg.FieldDef[]): void;
    addCommandComplete(message: { text: string }): void;
    parseRow(texts: (string | null)[]): unknown;
  }
  const { Result: ResultOf } = pg as unknown as { Result: new (rowMode?: string, types?: unknown) => Result };
  const field = (name: string): pg.FieldDef => ({
    ...{ name, dataTypeID: 23, tableID: 0, columnID: 0, dataTypeSize: 4, dataTypeModifier: -1, format: 'text' },
  });

  it('has these fields, and no others', () => {
    expect(Object.keys(new ResultOf()).sort()).toEqual(
      [
        ...['RowCtor', '_parsers', '_prebuiltEmptyResultObject', '_types', 'command', 'fields', 'oid', 'rowAsArray'],
        ...['rowCount', 'rows'],
      ].sort(),
    );
    expect(Object.keys(new ResultOf('array'))).toContain('parseRow');
  });

  it('addFields sets fields, _parsers and _prebuiltEmptyResultObject', () => {
    const result = new ResultOf(undefined, pg.types);
    expect(result).toMatchObject({
      fields: [],
      _parsers: undefined,
      _prebuiltEmptyResultObject: null,
      _types: pg.types,
    });
    result.addFields([]);
    expect(result).toMatchObject({ fields: [], _parsers: undefined, _prebuiltEmptyResultObject: {} });
    result.addFields([field('a'), field('b')]);
    const parse = pg.types.getTypeParser(pg.types.builtins.INT4, 'text');
    expect(result._parsers).toEqual([parse, parse]);
    expect(result._prebuiltEmptyResultObject).toEqual({ a: null, b: null });
    expect(Object.getPrototypeOf(result._prebuiltEmptyResultObject)).toBe(Object.prototype);
  });

  it.each([
    ['SELECT 5', { command: 'SELECT', rowCount: 5, oid: null }],
    ['INSERT 0 7', { command: 'INSERT', rowCount: 7, oid: 0 }],
    ['BEGIN', { command: 'BEGIN', rowCount: null, oid: null }],
    ['CREATE TABLE', { command: 'CREATE', rowCount: null, oid: null }],
  ])('addCommandComplete reads the tag %s', (text, expected) => {
    const result = new ResultOf();
    result.addCommandComplete({ text });
    expect(result).toMatchObject(expected);
  });
});

describe('pg.utils', () => {
  it('prepareValue gives what is sent for a value', () => {
    const { utils } = pg as unknown as { utils: { prepareValue(value: unknown): unknown } };
    expect([1, null, undefined, true, [1, null], { a: 1 }, 'x'].map((value) => utils.prepareValue(value))).toEqual([
      '1',
      null,
      null,
      'true',
      '{"1",NULL}',
      '{"a":1}',
      'x',
    ]);
    const bytes = Buffer.from('x');
    expect(utils.prepareValue(bytes)).toBe(bytes);
  });
});
