import type { EventEmitter } from 'node:events';
import { createRequire } from 'node:module';
import { Duplex } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PgClient } from '../../../lib/client/pg-client.js';
import { StatementCatalog } from '../../../lib/client/statement-catalog.js';
import { settle } from '../../support/manual-clock.js';
import { message } from '../../support/scripted-server.js';

/**
 * A server that does not keep to the protocol. Whatever it says, a statement ends: with what the server said, if that
 * can be understood, or else with an error and the connection's end. What can be understood is judged here by a reader
 * of its own, written from the protocol's description ("Message Flow" and "Message Formats").
 */

const CASES = 5_000;

// ---------------------------------------------------------------- the messages of a good answer

const int16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
};

const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};

interface Part {
  type: string;
  body: Buffer;
  /** What the message says of its length, if that is not the truth. */
  length?: number;
}

const part = (type: string, body: Buffer | string = ''): Part => ({ type, body: Buffer.from(body) });

function description(columns: readonly (readonly [name: string, oid: number])[]): Part {
  const fields = columns.map(([name, oid], index) =>
    Buffer.concat([
      Buffer.from(`${name}\0`),
      int32(16_384),
      int16(index + 1),
      int32(oid),
      int16(-1),
      int32(-1),
      int16(0),
    ]),
  );
  return part('T', Buffer.concat([int16(columns.length), ...fields]));
}

function row(...values: (string | null)[]): Part {
  const columns = values.map((value) =>
    value === null ? int32(-1) : Buffer.concat([int32(Buffer.byteLength(value)), Buffer.from(value)]),
  );
  return part('D', Buffer.concat([int16(values.length), ...columns]));
}

const complete = (tag: string): Part => part('C', `${tag}\0`);
const parsed = part('1');
const bound = part('2');
const noData = part('n');
const ready = part('Z', 'I');
const notice = part('N', 'SNOTICE\0VNOTICE\0C00000\0Mby the way\0\0');
const status = part('S', 'TimeZone\0UTC\0');
const failure = part('E', 'SERROR\0VERROR\0C22012\0Mdivision by zero\0\0');

const bytesOf = ({ type, body, length }: Part): Buffer => {
  const bytes = message(type, body);
  if (length !== undefined) bytes.writeInt32BE(length | 0, 1);
  return bytes;
};
const stream = (...parts: readonly Part[]): Buffer => Buffer.concat(parts.map(bytesOf));

// ---------------------------------------------------------------- what an answer means

/** How the statement was sent, which decides what may be answered. */
type Mode = 'simple' | 'unnamed' | 'named' | 'warm' | 'warm without rows';

interface Column {
  readonly name: string;
  readonly oid: number;
}

interface Row {
  readonly columns: readonly Column[];
  readonly values: readonly (string | null)[];
}

interface Outcome {
  readonly command: string | null;
  readonly rowCount: number | null;
  readonly columns: readonly Column[];
  readonly rows: readonly Row[];
}

type Verdict =
  | { is: 'result'; outcome: Outcome; rest: Buffer }
  | { is: 'error'; text: string | undefined; rest: Buffer }
  | { is: 'violation'; what: string }
  | { is: 'incomplete' };

class Violation extends Error {}

function* messagesOf(bytes: Buffer): Generator<{ type: string; body: Buffer; end: number } | undefined, void> {
  for (let start = 0; ;) {
    if (bytes.length < start + 5) {
      yield undefined;
      return;
    }
    const type = String.fromCharCode(bytes[start]!);
    const length = bytes.readInt32BE(start + 1);
    if (length < 4) throw new Violation(`length ${length}`);
    // libpq's rule for a stream that is out of step.
    if (length > 30_000 && !'DTENAVd'.includes(type)) throw new Violation(`${type} of ${length} bytes`);
    const end = start + 1 + length;
    if (end > bytes.length) {
      yield undefined;
      return;
    }
    if (!'123ACDEGHIKNRSTVWZcdnstv'.includes(type)) throw new Violation(`type ${type}`);
    yield { type, body: bytes.subarray(start + 5, end), end };
    start = end;
  }
}

function columnsOf(body: Buffer): Column[] {
  const columns: Column[] = [];
  let at = 2;
  const count = body.length >= 2 ? body.readInt16BE(0) : -1;
  if (count < 0) throw new Violation('a description without a count');
  for (let column = 0; column < count; column++) {
    const nul = body.indexOf(0, at);
    if (nul === -1 || nul + 19 > body.length) throw new Violation('a description that ends early');
    columns.push({ name: body.toString('utf8', at, nul), oid: body.readUInt32BE(nul + 7) });
    at = nul + 19;
  }
  if (at !== body.length) throw new Violation('a description that does not end');
  return columns;
}

function valuesOf(body: Buffer, columns: readonly Column[]): (string | null)[] {
  const values: (string | null)[] = [];
  if (body.length < 2 || body.readInt16BE(0) !== columns.length) throw new Violation('a row of other columns');
  let at = 2;
  for (const _ of columns) {
    const length = at + 4 <= body.length ? body.readInt32BE(at) : -2;
    at += 4;
    if (length < -1 || at + length > body.length) throw new Violation('a column that does not fit');
    values.push(length === -1 ? null : body.toString('utf8', at, at + length));
    if (length > 0) at += length;
  }
  if (at !== body.length) throw new Violation('a row that does not end');
  return values;
}

/** The text of an ErrorResponse, or `undefined` if it is none. */
function errorText(body: Buffer): string | undefined {
  let text: string | undefined;
  let at = 0;
  while (at < body.length && body[at] !== 0) {
    const end = body.indexOf(0, at + 1);
    if (end === -1) return undefined;
    if (body[at] === 0x4d) text = body.toString('utf8', at + 1, end);
    at = end + 1;
  }
  return at === body.length - 1 ? text : undefined;
}

/** Whether the body of a NoticeResponse, ParameterStatus or NotificationResponse is none. */
function isShaky(type: string, body: Buffer): boolean {
  if (type === 'N') return errorText(body) === undefined;
  const strings = type === 'S' ? body : body.subarray(4);
  return strings.at(-1) !== 0 || strings.filter((byte) => byte === 0).length !== 2;
}

/** What must come, in this order, before the rows. */
const BEFORE: Readonly<Record<Mode, string>> = {
  simple: '',
  unnamed: '12',
  named: '12',
  warm: '2',
  'warm without rows': '2',
};

interface Reading {
  /**
   * Acknowledgements (ParseComplete, BindComplete, CloseComplete) may come, or not, at any time, as libpq has it. What
   * errors, notices, parameters and notifications say may be cut off.
   */
  readonly isLenient: boolean;
}

function judge(bytes: Buffer, mode: Mode, reading: Reading): Verdict {
  try {
    return understand(bytes, mode, reading);
  } catch (error) {
    if (error instanceof Violation) return { is: 'violation', what: error.message };
    throw error;
  }
}

function understand(bytes: Buffer, mode: Mode, { isLenient }: Reading): Verdict {
  let outcome: Outcome | undefined;
  let before = isLenient ? '' : BEFORE[mode];
  let columns: readonly Column[] | undefined = undefined;
  let isDescribed = mode === 'simple';
  const rows: Row[] = [];
  let error: { text: string | undefined } | undefined;
  for (const next of messagesOf(bytes)) {
    if (!next) return { is: 'incomplete' };
    const { type, body, end } = next;
    if ('NSA'.includes(type) && !isLenient && isShaky(type, body)) throw new Violation(`${type} of no meaning`);
    if ('NSA'.includes(type) || (isLenient && '123'.includes(type))) continue;
    if (type === 'Z') {
      if (body.length !== 1 || !'ITE'.includes(body.toString('latin1'))) throw new Violation('a status of no meaning');
      const rest = bytes.subarray(end);
      if (error) return { is: 'error', text: error.text, rest };
      if (!outcome) throw new Violation('the end before the end');
      return { is: 'result', outcome, rest };
    }
    // It says nothing, and pg passes it over.
    if (error && isLenient && type === 'n' && body.length === 0) continue;
    if (error) throw new Violation(`${type} behind an error`);
    if (type === 'E') {
      if (!isLenient && errorText(body) === undefined) throw new Violation('an error without a text');
      error = { text: errorText(body) };
      continue;
    }
    if (outcome) throw new Violation(`${type} behind the end`);
    if (before !== '') {
      if (type !== before[0] || body.length > 0) throw new Violation(`${type} before ${before[0]}`);
      before = before.slice(1);
    } else if (type === 'T' && (mode === 'simple' || !isDescribed)) {
      // More than one for a statement, in the simple protocol: a rule adds queries to it.
      columns = columnsOf(body);
      isDescribed = true;
    } else if (type === 'n' && !isDescribed && body.length === 0) {
      isDescribed = true;
    } else if (type === 'D' && columns) {
      rows.push({ columns, values: valuesOf(body, columns) });
    } else if (type === 'C' && isDescribed) {
      if (body.length < 2 || body.indexOf(0) !== body.length - 1) throw new Violation('a tag that is no string');
      const match = /^([A-Za-z]+)(?: (\d+))?(?: (\d+))?/.exec(body.toString('utf8'));
      const count = match?.[3] ?? match?.[2];
      outcome = {
        command: match?.[1] ?? null,
        rowCount: count === undefined ? null : Number(count),
        columns: columns ?? [],
        rows,
      };
    } else throw new Violation(`${type} out of order`);
  }
  return { is: 'incomplete' };
}

const parserOf = pg.types.getTypeParser as (oid: number) => (text: string) => unknown;

/** The result as stock pg makes it. */
function expected({ command, rowCount, columns, rows }: Outcome): unknown {
  return {
    command,
    rowCount,
    fields: columns.map(({ name, oid }) => ({ name, dataTypeID: oid })),
    rows: rows.map((row) =>
      Object.fromEntries(
        row.columns.map(({ name, oid }, column) => {
          const text = row.values[column] ?? null;
          return [name, text === null ? null : parserOf(oid)(text)];
        }),
      ),
    ),
  };
}

function seen(result: unknown): unknown {
  if (Array.isArray(result)) return result;
  const { command, rowCount, fields, rows } = result as pg.QueryResult;
  return { command, rowCount, fields: fields.map(({ name, dataTypeID }) => ({ name, dataTypeID })), rows };
}

// ---------------------------------------------------------------- a client and its server, in memory

/** The server's side of a stream: each request is answered by the next answer of the script. */
class ServerSide extends Duplex {
  readonly script: ((requests: Buffer) => void)[] = [];

  constructor() {
    // As sockets do it: the end of the one direction is the end of the other.
    super({ allowHalfOpen: false });
  }

  override _read(): void {
    return undefined;
  }

  override _write(request: Buffer, _: unknown, done: () => void): void {
    done();
    this.script.shift()?.(request);
  }

  /** What arrives in this order, cut as given. */
  say(bytes: Buffer, cuts: readonly number[] = []): void {
    let from = 0;
    for (const cut of [...cuts].sort((one, other) => one - other)) {
      if (cut <= from || cut >= bytes.length) continue;
      this.push(Buffer.from(bytes.subarray(from, cut)));
      from = cut;
    }
    if (from < bytes.length) this.push(Buffer.from(bytes.subarray(from)));
  }

  hangUp(): void {
    if (!this.destroyed) this.push(null);
  }
}

const greeting = stream(part('R', int32(0)), part('K', Buffer.concat([int32(7), int32(8)])), ready);

async function connected(): Promise<{ client: PgClient; server: ServerSide }> {
  const server = new ServerSide();
  const client = new PgClient({
    stream: server,
    security: { encrypted: false, tlsVersion: undefined, verified: 'none' },
    host: 'server.example',
    port: 5432,
    user: 'me',
    database: 'mine',
    password: () => 'secret',
    authentication: { requireAuth: undefined, channelBinding: 'disable', encrypted: false, certificateMissing: false },
    session: {},
    queryTimeoutMillis: 0,
    types: undefined,
    wantsWrites: false,
    statements: new StatementCatalog(100, () => undefined),
    dialAgain: () => Promise.reject(new Error('there is no second stream')),
  });
  server.script.push(() => server.say(greeting));
  await client.connect();
  return { client, server };
}

const COLUMNS = [
  ['id', 23],
  ['name', 25],
  ['at', 1184],
  ['note', 25],
] as const;
const ROWS = [
  row('1', 'one', '2026-11-22 12:34:56.789+00', null),
  row('-2', '', null, 'zwei ✓'),
  row('30000', 'three', '0044-03-15 00:00:00+00 BC', 'x'.repeat(40)),
];
const TAG = complete('SELECT 3');

const GOOD: Readonly<Record<Mode, readonly Part[]>> = {
  simple: [description(COLUMNS), ...ROWS, TAG, ready],
  unnamed: [parsed, bound, description(COLUMNS), ...ROWS, TAG, ready],
  named: [parsed, bound, description(COLUMNS), ...ROWS, TAG, ready],
  warm: [bound, description(COLUMNS), ...ROWS, TAG, ready],
  'warm without rows': [bound, noData, complete('UPDATE 7'), ready],
};
const T = description(COLUMNS);

/** The answer to the statement behind. */
const FIVE = stream(description([['five', 23]]), row('5'), complete('SELECT 1'), ready);
const MODES = Object.keys(GOOD) as Mode[];

interface Script {
  /** The same statement as often as it takes to be sent in this way, well answered. */
  readonly earlier: readonly (readonly Part[])[];
  readonly text: string;
  readonly values: readonly unknown[] | undefined;
}

const NO_ROWS = [parsed, bound, noData, complete('UPDATE 7'), ready];
const scriptOf = (mode: Mode): Script => {
  const values = mode === 'simple' ? undefined : [1];
  const text = `SELECT * FROM ${mode}`;
  if (mode === 'warm without rows') return { earlier: [NO_ROWS, NO_ROWS], text: 'UPDATE item SET id = $1', values };
  const uses = mode === 'warm' ? 2 : mode === 'named' ? 1 : 0;
  return { earlier: Array.from({ length: uses }, () => GOOD.unnamed), text, values };
};

type Settled = { is: 'open' } | { is: 'result'; result: unknown } | { is: 'error'; error: Error };

function watch(promise: Promise<unknown>): { now: Settled } {
  const watched: { now: Settled } = { now: { is: 'open' } };
  promise.then(
    (result) => (watched.now = { is: 'result', result }),
    (error: unknown) => (watched.now = { is: 'error', error: error as Error }),
  );
  return watched;
}

// ---------------------------------------------------------------- what the process would die of

const uncaught: unknown[] = [];
const takeNote = (error: unknown): void => void uncaught.push(error);
const EVENTS = ['uncaughtException', 'unhandledRejection'] as const;
let before: [string, (...args: unknown[]) => void][] = [];

beforeAll(() => {
  before = EVENTS.flatMap((event) =>
    (process as EventEmitter).listeners(event).map((listener): [string, () => void] => [event, listener as () => void]),
  );
  for (const event of EVENTS) process.removeAllListeners(event).on(event, takeNote);
});

afterAll(() => {
  for (const event of EVENTS) process.removeAllListeners(event);
  for (const [event, listener] of before) process.on(event, listener);
});

/**
 * pg's parser looks for the end of an ErrorResponse or NoticeResponse that has none for ever. A test that stands still
 * tells nothing, so the search is ended here.
 */
const requireOfPg = createRequire(createRequire(import.meta.url).resolve('pg'));
const { BufferReader } = requireOfPg('pg-protocol/dist/buffer-reader.js') as {
  BufferReader: { prototype: { offset: number; buffer: Buffer; string(length: number): string } };
};
const { string: readString } = BufferReader.prototype;
let standsStill = false;

beforeAll(() => {
  BufferReader.prototype.string = function (length): string {
    standsStill ||= this.offset > this.buffer.length + 16;
    if (standsStill) throw new Error('the parser reads behind the end of its message');
    return readString.call(this, length);
  };
});

afterAll(() => {
  BufferReader.prototype.string = readString;
});

// ---------------------------------------------------------------- one case

interface Case {
  /** How the statements are sent, one behind the other. */
  readonly modes: readonly Mode[];
  /** All at once, instead of each when the one before it has been answered. */
  readonly isPipelined?: boolean;
  /** What the server says to them. Behind it stands a good answer to one more, in the simple protocol. */
  readonly bytes: Buffer;
  readonly cuts?: readonly number[];
}

async function run({ modes, isPipelined = false, bytes, cuts = [] }: Case): Promise<void> {
  const { client, server } = await connected();
  const scripts = modes.map(scriptOf);
  for (const { earlier, text, values } of scripts) {
    for (const answer of earlier) {
      server.script.push(() => server.say(stream(...answer)));
      await client.query(text, values as unknown[]);
    }
  }
  client.setPipelining(isPipelined);
  server.script.push(() => server.say(isPipelined ? Buffer.concat([bytes, FIVE]) : bytes, cuts));
  const watched = scripts.map(({ text, values }) => watch(client.query(text, values as unknown[])));
  // Another statement waits behind them. What is wrong with an answer must not become the next one's.
  if (!isPipelined) server.script.push(() => server.say(FIVE));
  watched.push(watch(client.query('SELECT 5 AS five')));
  await settle();
  await settle();
  try {
    const hung = standsStill;
    standsStill = false;
    expect(hung, 'the process stands still: an endless loop').toBe(false);
    let rest: Buffer | undefined = bytes;
    for (const [index, { now }] of watched.entries()) {
      // The last answer comes when it is asked for.
      if (rest && index === (isPipelined ? 0 : modes.length)) rest = Buffer.concat([rest, FIVE]);
      if (rest) rest = checkOne(rest, modes[index] ?? 'simple', now, client);
      else expect(now.is, 'there is a result behind the end of the connection').not.toBe('result');
    }
    server.hangUp();
    await settle();
    await settle();
    for (const { now } of watched) expect(now.is, 'a statement hangs').not.toBe('open');
    expect(client.isClosed, 'the connection is open behind its end').toBe(true);
    expect(uncaught.splice(0)).toEqual([]);
  } finally {
    server.destroy();
  }
}

/** @returns what stands behind the answer, if it has been understood */
function checkOne(bytes: Buffer, mode: Mode, settled: Settled, client: PgClient): Buffer | undefined {
  let verdict = judge(bytes, mode, { isLenient: false });
  if (verdict.is === 'violation') {
    const { what } = verdict;
    // Either way is right, as long as the connection is not used any further after an error.
    if (client.isClosed && settled.is === 'error') return undefined;
    verdict = judge(bytes, mode, { isLenient: true });
    if (verdict.is === 'violation') {
      expect(settled.is, `${what}: that is no answer`).toBe('error');
      expect(client.isClosed, `${what}: the connection is still in use`).toBe(true);
    }
  }
  if (verdict.is === 'incomplete') expect(settled.is, 'there is a result before the end').not.toBe('result');
  else if (verdict.is === 'error') {
    expect(settled.is).toBe('error');
    if (verdict.text !== undefined) expect((settled as { error: Error }).error.message).toBe(verdict.text);
    return verdict.rest;
  } else if (verdict.is === 'result') {
    expect(settled.is, String((settled as { error?: Error }).error)).toBe('result');
    const got = seen((settled as { result: unknown }).result);
    const wanted = expected(verdict.outcome);
    if (!isDeepStrictEqual(got, wanted)) expect(got).toStrictEqual(wanted);
    return verdict.rest;
  }
  return undefined;
}

// ---------------------------------------------------------------- mutations

function overwritten(one: Part, offset: number, bytes: Buffer): Part {
  const body = Buffer.from(one.body);
  bytes.copy(body, offset);
  return { ...one, body };
}

type Mutation =
  | { do: 'drop' | 'repeat'; at: number }
  | { do: 'move'; at: number; to: number }
  | { do: 'insert'; at: number; part: Part }
  | { do: 'retype'; at: number; type: string }
  | { do: 'relength'; at: number; length: number; isRelative: boolean }
  | { do: 'overwrite'; at: number; offset: number; bytes: Buffer }
  | { do: 'lengthen' | 'shorten'; at: number; by: number };

function mutate(parts: readonly Part[], mutation: Mutation): Part[] {
  const all = parts.map((one): Part => ({ ...one, body: Buffer.from(one.body) }));
  if (all.length === 0) return all;
  const at = mutation.at % all.length;
  const one = all[at]!;
  switch (mutation.do) {
    case 'drop':
      all.splice(at, 1);
      break;
    case 'repeat':
      all.splice(at, 0, one);
      break;
    case 'move':
      all.splice(mutation.to % all.length, 0, ...all.splice(at, 1));
      break;
    case 'insert':
      all.splice(at, 0, mutation.part);
      break;
    case 'retype':
      one.type = mutation.type;
      break;
    case 'relength':
      one.length = mutation.isRelative ? one.body.length + 4 + mutation.length : mutation.length;
      break;
    case 'overwrite':
      if (one.body.length > 0) mutation.bytes.copy(one.body, mutation.offset % one.body.length);
      break;
    case 'lengthen':
      one.body = Buffer.concat([one.body, Buffer.alloc(mutation.by)]);
      break;
    case 'shorten':
      one.body = one.body.subarray(0, Math.max(0, one.body.length - mutation.by));
      break;
  }
  return all;
}

/** Numbers that mean something where the protocol has a length or a count. */
const NUMBERS = [0, 1, 2, 3, 4, 5, 6, 7, 16, 255, 1_000, 30_001, 2 ** 30, 2 ** 31 - 1, -1, -2, -3, -4, -5, -(2 ** 31)];
const at = fc.nat({ max: 30 });
const int16s = fc.constantFrom(...NUMBERS.filter((value) => Math.abs(value) < 2 ** 15)).map(int16);
const int32s = fc.constantFrom(...NUMBERS).map(int32);
const anyBody = fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes));
const knownType = fc.constantFrom(...Array.from('123ACDEGHIKNRSTVWZcdnstv'));
const anyType = fc.oneof(
  knownType,
  fc.nat({ max: 255 }).map((code) => String.fromCharCode(code)),
);
const usual = fc.constantFrom(
  ...[parsed, bound, noData, ready, notice, status, failure, TAG, ROWS[0]!, description(COLUMNS), row('1')],
  ...[part('3'), part('I'), part('s'), part('c'), part('Z', 'T'), part('Z', 'X'), part('Z'), part('C'), part('d', 'x')],
  ...[part('C', '\0'), part('G', '\0\0\0'), part('H', '\0\0\0'), part('R', int32(0)), part('R', int32(3)), part('t')],
);
const insertion = fc.oneof(usual, fc.record({ type: anyType, body: anyBody }));
const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.record({ do: fc.constantFrom('drop', 'repeat'), at }),
  fc.record({ do: fc.constant('move'), at, to: at }),
  fc.record({ do: fc.constant('insert'), at, part: insertion }),
  fc.record({ do: fc.constant('retype'), at, type: anyType }),
  fc.record({
    do: fc.constant('relength'),
    at,
    length: fc.oneof(fc.constantFrom(...NUMBERS), fc.integer({ min: -40, max: 40 })),
    isRelative: fc.boolean(),
  }),
  fc.record({ do: fc.constant('overwrite'), at, offset: fc.nat({ max: 200 }), bytes: fc.oneof(int16s, int32s) }),
  fc.record({ do: fc.constant('overwrite'), at, offset: fc.constant(0), bytes: int16s }),
  fc.record({ do: fc.constantFrom('lengthen', 'shorten'), at, by: fc.integer({ min: 1, max: 20 }) }),
);

/** All places of a stream. */
const everywhere = (bytes: Buffer): number[] => Array.from(bytes, (_, index) => index);

const cuts = fc.array(fc.nat({ max: 400 }), { maxLength: 8 });

describe('a good answer', () => {
  const asynchronous = [notice, status, part('A', Buffer.concat([int32(7), Buffer.from('channel\0payload\0')]))];

  it.each(MODES)('is understood wherever the stream is cut (%s)', async (mode) => {
    const bytes = stream(...GOOD[mode]);
    expect(judge(bytes, mode, { isLenient: false }).is).toBe('result');
    for (let cut = 0; cut < bytes.length; cut++) await run({ modes: [mode], bytes, cuts: [cut] });
    await run({ modes: [mode], bytes, cuts: everywhere(bytes) });
  });

  it.each(MODES)('is an error and no hang if the stream ends anywhere within (%s)', async (mode) => {
    const bytes = stream(...GOOD[mode]);
    for (let end = 0; end < bytes.length; end++) await run({ modes: [mode], bytes: bytes.subarray(0, end) });
  });

  it.each(MODES)('may have notices, parameters and notifications anywhere (%s)', async (mode) => {
    const good = GOOD[mode];
    for (let index = 0; index <= good.length; index++) {
      const bytes = stream(...good.slice(0, index), ...asynchronous, ...good.slice(index));
      await run({ modes: [mode], bytes });
    }
  });

  it.each(MODES)('may be an error anywhere before the end (%s)', async (mode) => {
    const good = GOOD[mode];
    for (let index = 0; index < good.length; index++) {
      await run({ modes: [mode], bytes: stream(...good.slice(0, index), failure, notice, ready) });
    }
  });

  it('may have rows of several descriptions, of a rule', async () => {
    const other = [description([['five', 23]]), row('5')];
    await run({
      modes: ['simple'],
      bytes: stream(description(COLUMNS), ...ROWS, ...other, complete('INSERT 0 1'), ready),
    });
    await run({ modes: ['simple'], bytes: stream(...other, ...other, complete('INSERT 0 1'), ready) });
    await run({ modes: ['simple'], bytes: stream(...other, description([]), complete('INSERT 0 1'), ready) });
  });
});

describe('an answer that breaks the protocol', () => {
  const [one, two, three] = ROWS as [Part, Part, Part];
  const withLength = (of: Part, length: number): Part => ({ ...of, length });

  it.each<[what: string, mode: Mode, ...Part[]]>([
    ['ReadyForQuery before the rows', 'simple', T, ready, one, two, three, TAG],
    ['ReadyForQuery without a CommandComplete', 'named', parsed, bound, T, one, two, three, ready],
    ['a row behind the CommandComplete', 'named', parsed, bound, T, one, two, TAG, three, ready],
    ['a row behind the CommandComplete of a warm statement', 'warm', bound, T, one, two, TAG, three, ready],
    ['a second CommandComplete', 'named', parsed, bound, T, one, TAG, TAG, ready],
    ['a second CommandComplete of a simple statement', 'simple', T, one, TAG, TAG, ready],
    ['a second description between the rows', 'named', parsed, bound, T, one, T, two, three, TAG, ready],
    ['a second description of a warm statement', 'warm', bound, T, one, T, two, three, TAG, ready],
    ['NoData and then rows', 'warm', bound, noData, one, two, three, TAG, ready],
    ['no NoData and no description', 'named', parsed, bound, TAG, ready],
    ['rows without a description', 'named', parsed, bound, one, TAG, ready],
    ['rows of a statement that has none', 'warm without rows', bound, noData, one, complete('UPDATE 7'), ready],
    ['a row with a column too few', 'warm', bound, T, row('1', 'one', null), TAG, ready],
    ['a row with a column too many', 'warm', bound, T, row('1', 'one', null, null, null), TAG, ready],
    ['an empty row', 'warm', bound, T, part('D'), TAG, ready],
    ['an EmptyQueryResponse for a statement', 'warm', bound, part('I'), ready],
    ['a suspended portal', 'warm', bound, T, one, part('s'), ready],
    ['a description with one field fewer than it has', 'simple', overwritten(T, 0, int16(3)), TAG, ready],
    ['a description with one field more than it has', 'simple', overwritten(T, 0, int16(5)), TAG, ready],
    ['a description with a negative count', 'simple', overwritten(T, 0, int16(-1)), TAG, ready],
    ['COPY out', 'simple', part('H', '\0\0\0'), part('d', 'x'), part('c'), complete('COPY 1'), ready],
    ['COPY in', 'simple', part('G', '\0\0\0'), complete('COPY 1'), ready],
    ['a request for a password', 'warm', bound, T, part('R', int32(3)), one, two, three, TAG, ready],
    ['a message of no type', 'warm', bound, T, one, part('!', 'what?'), two, three, TAG, ready],
    ['a message of no type before the end', 'warm', bound, T, one, two, three, TAG, part('\xff'), ready],
    ['a status of no meaning', 'warm', bound, T, one, two, three, TAG, part('Z', 'X')],
    ['an empty status', 'warm', bound, T, one, two, three, TAG, part('Z')],
    ['a status of two letters', 'warm', bound, T, one, two, three, TAG, part('Z', 'II')],
    ['an empty tag', 'warm', bound, T, one, two, three, part('C', '\0'), ready],
    ['a tag without an end', 'warm', bound, T, one, two, three, part('C', 'SELECT 3'), ready],
    ['a length below the least', 'warm', bound, T, withLength(one, 3), two, three, TAG, ready],
    ['a length of -1', 'warm', bound, T, withLength(one, -1), two, three, TAG, ready],
    ['the least length there is', 'warm', bound, T, withLength(one, -(2 ** 31)), two, three, TAG, ready],
    ['a short message of a gigabyte', 'warm', withLength(bound, 2 ** 30), T, one, two, three, TAG, ready],
    ['a row behind an error', 'warm', bound, T, one, failure, two, TAG, ready],
  ])('%s: an error, and the end of the connection', async (_, mode, ...parts) => {
    const bytes = stream(...parts);
    expect(judge(bytes, mode, { isLenient: true }).is).toBe('violation');
    await run({ modes: [mode], bytes });
    // The same, one byte at a time.
    await run({ modes: [mode], bytes, cuts: everywhere(bytes) });
  });

  it.each<[what: string, ...Part[]]>([
    ['an ErrorResponse without an end', part('E', 'SERROR\0Mcut')],
    ['an empty ErrorResponse', part('E')],
    ['a NoticeResponse without an end', part('N', 'SNOTICE\0Mcut\0')],
    ['an empty NoticeResponse', part('N')],
  ])('%s does not stop the process', async (_, cut) => {
    await run({ modes: ['warm'], bytes: stream(bound, T, cut, ...ROWS, TAG, ready) });
    await run({ modes: ['simple'], bytes: stream(T, ...ROWS, cut) });
  });

  it('does not reach the statement behind', async () => {
    // What stands behind the end is nobody's answer. The statement behind may fail, and must not be answered by it.
    for (const surplus of [[ready], [TAG, ready], [T, ready], [part('Z', 'T')]]) {
      await run({ modes: ['warm'], bytes: stream(...GOOD.warm, ...surplus) });
    }
  });

  it.each(MODES)(
    'is an error and the end of the connection, never a hang and never a wrong row (%s)',
    async (mode) => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(mutation, { minLength: 1, maxLength: 3 }),
          fc.option(fc.nat({ max: 400 }), { nil: undefined, freq: 4 }),
          cuts,
          async (mutations, end, where) => {
            const whole = stream(...mutations.reduce(mutate, [...GOOD[mode]]));
            await run({ modes: [mode], bytes: whole.subarray(0, end), cuts: where });
          },
        ),
        { numRuns: Math.ceil(CASES / MODES.length) },
      );
    },
    600_000,
  );

  it('is an error of its own statement and of those behind it, when several have been sent', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.constantFrom(...MODES), { minLength: 2, maxLength: 4 }),
        fc.array(mutation, { minLength: 1, maxLength: 3 }),
        cuts,
        async (modes, mutations, where) => {
          const good = modes.flatMap((mode) => GOOD[mode]);
          await run({ modes, isPipelined: true, bytes: stream(...mutations.reduce(mutate, good)), cuts: where });
        },
      ),
      { numRuns: 1_000 },
    );
  }, 600_000);
});

describe('statements behind a reset of the session', () => {
  const done = complete('DISCARD ALL');
  it.each<[what: string, ...Part[]]>([
    ['fails', failure, ready],
    ['leaves a transaction open', done, part('Z', 'T')],
    ['is answered by rows', T, ...ROWS, TAG, part('Z', 'E')],
  ])('are not answered if it %s', async (_, ...parts) => {
    for (const isOneChunk of [true, false]) {
      const { client, server } = await connected();
      const { earlier, text, values } = scriptOf('warm');
      for (const answer of earlier) {
        server.script.push(() => server.say(stream(...answer)));
        await client.query(text, values as unknown[]);
      }
      const bytes = stream(...parts, description([['five', 23]]), row('5'), complete('SELECT 1'), ready);
      server.script.push(
        () => undefined,
        () => server.say(bytes, isOneChunk ? [] : everywhere(bytes)),
      );
      client.resetSession('discard-all');
      const watched = watch(client.query('SELECT 5 AS five'));
      await settle();
      await settle();
      expect(watched.now).toMatchObject({ is: 'error', error: { code: 'PG_CONNECTION_LOST' } });
      expect(client.isClosed).toBe(true);
      expect(uncaught.splice(0)).toEqual([]);
      server.destroy();
    }
  });

  it('are answered if it succeeds', async () => {
    const { client, server } = await connected();
    const bytes = stream(done, ready);
    server.script.push(
      () => undefined,
      () => server.say(Buffer.concat([bytes, FIVE])),
    );
    client.resetSession('discard-all');
    expect(seen(await client.query('SELECT 5 AS five'))).toMatchObject({ rows: [{ five: 5 }] });
    server.destroy();
  });
});

describe('an exception of the application', () => {
  const broken = new Error('a bug of the application');
  const fail = (): never => {
    throw broken;
  };

  it.each<[where: string, cause: (client: PgClient, script: Script) => void, ...Part[]]>([
    ['in a callback', (client, { text, values }) => client.query(text, values as unknown[], fail), ...GOOD.warm],
    [
      'in a callback that is told of an error',
      (client, { text, values }) => client.query(text, values as unknown[], fail),
      ...[failure, ready],
    ],
    [
      'in a callback that is told of what a parser has thrown',
      (client, { text, values }) => {
        let hasThrown = false;
        client.setTypeParser(pg.types.builtins.INT4, (parsedText) => {
          if (hasThrown) return Number(parsedText);
          hasThrown = true;
          throw new Error('a parser');
        });
        client.query(text, values as unknown[], fail);
      },
      ...GOOD.warm,
    ],
    [
      'in a listener of drain',
      (client, { text, values }) => {
        client.once('drain', fail);
        client.query(text, values as unknown[], () => undefined);
      },
      ...GOOD.warm,
    ],
    [
      'in a listener of notice',
      (client, { text, values }) => {
        client.once('notice', fail);
        client.query(text, values as unknown[], () => undefined);
      },
      ...[notice, ...GOOD.warm],
    ],
  ])("%s is the process's, and the connection goes on", async (_, cause, ...parts) => {
    const { client, server } = await connected();
    const script = scriptOf('warm');
    for (const answer of script.earlier) {
      server.script.push(() => server.say(stream(...answer)));
      await client.query(script.text, script.values as unknown[]);
    }
    server.script.push(() => server.say(stream(...parts)));
    cause(client, script);
    await settle();
    await settle();
    expect(uncaught.splice(0)).toEqual([broken]);
    server.script.push(() => server.say(FIVE));
    expect(seen(await client.query('SELECT 5 AS five'))).toMatchObject({ rows: [{ five: 5 }] });
    server.destroy();
  });
});
