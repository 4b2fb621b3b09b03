import pg from 'pg';
import { serialize } from 'pg-protocol';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { prepareValues, requests } from '../../../lib/client/request-writer.js';

const { utils } = pg as unknown as { utils: { prepareValue(value: unknown): string | Buffer | null } };

afterEach(() => void vi.restoreAllMocks());

/** Not by `toEqual`, which takes seconds for a megabyte. */
function expectBytes(ours: Buffer, stock: Buffer): void {
  if (ours.equals(stock)) return;
  const at = ours.findIndex((byte, index) => byte !== stock[index]);
  const where = at === -1 ? 'the end' : `byte ${at}`;
  expect.fail(`${where} differs, of ${ours.length} bytes where ${stock.length} were expected`);
}

/** As pg writes it, but for its one format for all results, which says no more than none: text. */
function stockBind(statement: string, values: unknown[]): Buffer {
  const bytes = serialize.bind({ statement, values, valueMapper: utils.prepareValue });
  expect(bytes.subarray(-4)).toEqual(Buffer.from([0, 1, 0, 0]));
  const ours = Buffer.concat([bytes.subarray(0, -4), Buffer.from([0, 0])]);
  ours.writeInt32BE(ours.length - 1, 1);
  return ours;
}

const TEXTS = [
  '',
  'SELECT 1',
  "SELECT 'ä€💚'",
  'x'.repeat(4_095),
  'x'.repeat(4_096),
  'x'.repeat(4_097),
  '€'.repeat(4_096),
  '€'.repeat(4_097),
  '💚'.repeat(2_048),
  '💚'.repeat(30_000),
  'x'.repeat(65_520),
  'x'.repeat(65_536),
  'x'.repeat(200_000),
  // A surrogate that is alone.
  'a\ud800b\udc00',
  '\ud83d',
];

class Money {
  readonly #cents: number;
  constructor(cents: number) {
    this.#cents = cents;
  }
  toPostgres(): string {
    return `$${this.#cents / 100}`;
  }
}

const VALUES: [what: string, values: unknown[]][] = [
  ['none', []],
  ['null and undefined', [null, undefined, null]],
  ['a hole', [1, , 3]], // eslint-disable-line no-sparse-arrays
  ['texts', TEXTS],
  ['numbers', [0, -0, 1, -1, 1.5, 1e21, 1e-7, NaN, Infinity, -Infinity, 2 ** 53]],
  ['bigints', [0n, -1n, 2n ** 70n]],
  ['booleans', [true, false]],
  ['dates', [new Date(0), new Date('2026-11-22T12:34:56.789Z'), new Date('-000043-03-15T00:00:00Z')]],
  ['bytes', [Buffer.alloc(0), Buffer.from([0, 1, 255]), Buffer.alloc(100_000, 7), Buffer.from('text')]],
  ['views', [new Uint8Array([1, 2]), new Uint16Array([1, 2]).subarray(1), new DataView(new ArrayBuffer(3))]],
  ['a slice of bytes', [Buffer.from('abcdef').subarray(2, 4)]],
  ['arrays', [[], [1, null, 'a"b\\c'], [[1], [2]], [Buffer.from('x')], [new Date(0)], [undefined]]],
  ['objects', [{ a: 1 }, { toJSON: () => 'mine' }, { toJSON: () => undefined }, {}]],
  [
    'objects that say what they are',
    [new Money(150), { toPostgres: () => [1, 2] }, { toPostgres: () => Buffer.from('b') }],
  ],
  ['an object that gives null', [{ toPostgres: () => null }]],
  ['text and bytes by turns', [Buffer.from('a'), 'b', Buffer.from('c'), null, Buffer.from('d'), 'e']],
  ['many', Array.from({ length: 1_000 }, (_, at) => (at % 3 ? at : null))],
  ['as many as can be', Array.from({ length: 65_535 }, (_, at) => at % 10)],
];

describe('a request has the very bytes that pg would write', () => {
  it.each(TEXTS.map((text) => [text.slice(0, 20), text.length, text]))('query and parse: %j, of %i', (_, __, text) => {
    expectBytes(requests.begin().query(text).end(), serialize.query(text));
    expectBytes(requests.begin().parse('', text).end(), serialize.parse({ text }));
    expectBytes(requests.begin().parse('näme', text).end(), serialize.parse({ text, name: 'näme' }));
  });

  it.each(VALUES)('bind: %s', (_, values) => {
    for (const name of ['', 'nestjs_pg_1']) {
      expectBytes(requests.begin().bind(name, prepareValues(values)).end(), stockBind(name, values));
    }
  });

  it('describe, execute, sync, close', () => {
    expectBytes(requests.begin().describePortal().end(), serialize.describe({ type: 'P' }));
    expectBytes(requests.begin().execute().end(), serialize.execute());
    expectBytes(requests.begin().sync().end(), serialize.sync());
    expectBytes(
      requests.begin().closeStatement('nestjs_pg_1').end(),
      serialize.close({ type: 'S', name: 'nestjs_pg_1' }),
    );
  });

  it.each(VALUES)('all of them in one: %s', (_, values) => {
    const text = 'SELECT 1';
    const request = requests
      .begin()
      .closeStatement('old')
      .parse('new', text)
      .bind('new', prepareValues(values))
      .describePortal()
      .execute()
      .sync()
      .end();
    expectBytes(
      request,
      Buffer.concat([
        serialize.close({ type: 'S', name: 'old' }),
        serialize.parse({ name: 'new', text }),
        stockBind('new', values),
        serialize.describe({ type: 'P' }),
        serialize.execute(),
        serialize.sync(),
      ]),
    );
  });
});

describe('a request', () => {
  it('stays as it is while others are written', () => {
    const texts = ['SELECT 1', 'x'.repeat(100_000), 'SELECT 2', 'y'.repeat(70_000), ''];
    const written = texts.map((text) => requests.begin().query(text).end());
    texts.forEach((text, at) => expectBytes(written[at] as Buffer, serialize.query(text)));
  });

  it('is whole wherever it outgrows its buffer', () => {
    for (let length = 65_300; length < 65_560; length++) {
      const text = 'x'.repeat(length);
      // What came before has left a buffer of the usual size.
      requests.begin().query('x'.repeat(100_000)).end();
      const request = requests
        .begin()
        .parse('', text)
        .bind('', ['€'.repeat(50), Buffer.from('é'), null])
        .sync()
        .end();
      const whole = Buffer.concat([
        serialize.parse({ text }),
        stockBind('', ['€'.repeat(50), Buffer.from('é'), null]),
        serialize.sync(),
      ]);
      if (!request.equals(whole)) expect([length, request]).toEqual([length, whole]);
    }
  });

  it('has nothing of one that was not finished', () => {
    requests.begin().parse('half', 'SELECT 1').bind('half', ['a']);
    expectBytes(requests.begin().sync().end(), serialize.sync());
  });

  it('has nothing of one that failed', () => {
    const endless = { length: 2 ** 31 } as Buffer;
    expect(() => requests.begin().bind('', [endless]).end()).toThrow();
    expectBytes(requests.begin().query('SELECT 1').end(), serialize.query('SELECT 1'));
  });

  it.each([
    ['one value', [2 ** 31 - 1]],
    ['whose length comes round to a small one', [2 ** 32 + 4]],
    ['all of it together', [1_000, 2 ** 31 - 1_000]],
  ])('is refused where the protocol could not count it: %s', (_, lengths) => {
    const values = lengths.map((length) => (length < 2_000 ? Buffer.alloc(length) : ({ length } as Buffer)));
    expect(() => requests.begin().bind('', values).end()).toThrow(
      expect.objectContaining({ code: 'PG_CONFIG_INVALID', message: expect.stringMatching(/2147483647 bytes/) }),
    );
    expectBytes(requests.begin().sync().end(), serialize.sync());
  });

  it('of a huge one leaves no huge buffer behind', () => {
    const allocated: number[] = [];
    const alloc = Buffer.allocUnsafe.bind(Buffer);
    vi.spyOn(Buffer, 'allocUnsafe').mockImplementation((size) => {
      allocated.push(size);
      return alloc(size);
    });
    requests.begin().query('x'.repeat(10_000_000)).end();
    expect(Math.max(...allocated)).toBeGreaterThanOrEqual(10_000_000);
    expect(allocated.at(-1)).toBeLessThanOrEqual(65_536);
  });
});

describe('values', () => {
  it('are prepared one by one, before anything is written, so that they may start requests of their own', () => {
    const nested = {
      toPostgres: (): string => requests.begin().query('from within').end().toString('latin1', 5, 9),
    };
    const values = prepareValues(['a', nested]);
    expectBytes(requests.begin().bind('', values).end(), stockBind('', ['a', 'from']));
  });

  it('throw what they throw', () => {
    const thrown = new Error('mine');
    const throwing = {
      toPostgres: () => {
        throw thrown;
      },
    };
    expect(() => prepareValues([1, throwing])).toThrow(thrown);
    const circular: Record<string, unknown> = {};
    circular['self'] = circular;
    expect(() => prepareValues([circular])).toThrow(TypeError);
  });

  it('are counted: the protocol has sixteen bits for that', () => {
    expect(prepareValues(new Array(65_535).fill(1))).toHaveLength(65_535);
    expect(() => prepareValues(new Array(65_536).fill(1))).toThrow(
      expect.objectContaining({ code: 'PG_CONFIG_INVALID', message: expect.stringMatching(/65535.*65536/) }),
    );
  });

  it('say for a million what to do', () => {
    expect(() => prepareValues(new Array(1_000_000).fill(1))).toThrow(/pass an array, or split it/);
  });
});
