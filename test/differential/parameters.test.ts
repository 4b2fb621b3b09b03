import { inspect } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { useServer } from '../support/postgres.js';
import { expectSame, type Rival } from './rivals.js';
import { SessionPair } from './session-pair.js';

/** Whatever is given as a parameter, the server gets the same as from stock pg, or the call fails with the same error. */
const server = useServer();
let pair: SessionPair;
beforeAll(async () => {
  pair = await SessionPair.open(server());
});
afterAll(() => pair[Symbol.asyncDispose]());

const circular: { toPostgres: () => unknown; self?: unknown } = { toPostgres: () => circular };
class Temperature {
  constructor(readonly celsius: number) {}
}
class Named {
  toString(): string {
    return 'a name';
  }
}
const frozen = Object.freeze([1, Object.freeze(['a'])]);
const sparse = [1, , 3]; // eslint-disable-line no-sparse-arrays -- that is the point
const withNothing = Object.assign(Object.create(null) as object, { a: 1 });

const VALUES: readonly unknown[] = [
  ...[
    undefined,
    null,
    true,
    false,
    0,
    -0,
    1,
    -1,
    1.5,
    1e21,
    1e-7,
    NaN,
    Infinity,
    -Infinity,
    Number.MAX_SAFE_INTEGER + 2,
  ],
  ...[0n, 2n ** 63n - 1n, -(2n ** 80n), Symbol('s'), () => 1, Temperature],
  ...[
    '',
    ' ',
    'a',
    "it's",
    '"',
    '\\',
    '\\x41',
    '{}',
    '{1,2}',
    'null',
    'ä€😀',
    '\ufeffx',
    'line\nbreak',
    'x'.repeat(5_000),
  ],
  ...['\ud800', 'a\udc00b', '\ud83d', 'a\0b', '\0', 'ä'.repeat(2_000), '€'.repeat(40_000)],
  ...[
    new Date(0),
    new Date('2026-11-22T12:34:56.789Z'),
    new Date(-1),
    new Date('-000043-03-15T00:00:00Z'),
    new Date(8.64e15),
  ],
  ...[new Date('+020000-01-01T00:00:00Z'), new Date('0050-06-01T00:00:00Z'), new Date(NaN)],
  ...[Buffer.alloc(0), Buffer.from('text'), Buffer.from([0, 255, 1]), Buffer.alloc(70_000, 'x')],
  ...[
    new Uint8Array([65, 66]),
    new Uint8Array(Buffer.from('abcdef')).subarray(2, 4),
    new Float64Array([1.5]),
    new Int16Array(0),
  ],
  ...[new DataView(Buffer.from('abcdefghij').buffer, 0, 4), new ArrayBuffer(3), new BigInt64Array([1n])],
  ...[
    [],
    [1, 2],
    [1, null, undefined],
    ['a,b', 'c"d', 'e\\f', '', 'NULL', '{'],
    [
      ['a', 'b'],
      ['c', null],
    ],
    [[], []],
    frozen,
    sparse,
  ],
  ...[
    [new Date(0)],
    [Buffer.from([0, 255])],
    [new Uint8Array([1])],
    [true, 1n, NaN],
    [{ a: 1 }],
    [[{ a: [1] }]],
    [Symbol('s')],
  ],
  ...[
    {},
    { a: 1, b: [2, null], c: { d: undefined } },
    { 'quo"te': "it's" },
    new Temperature(20),
    new Named(),
    withNothing,
  ],
  ...[
    new Map([[1, 2]]),
    new Set([1]),
    /x/g,
    new Error('e'),
    Promise.resolve(1),
    new String('boxed'),
    new Number(5),
    new Boolean(false),
  ],
  ...[
    { toPostgres: () => 'plain' },
    { toPostgres: () => null },
    { toPostgres: () => undefined },
    { toPostgres: () => [1, 'a'] },
  ],
  ...[
    { toPostgres: () => Buffer.from('b') },
    { toPostgres: () => ({ toPostgres: () => 'twice' }) },
    { toPostgres: () => new Date(0) },
  ],
  ...[
    { toPostgres: (prepare: (value: unknown) => unknown) => `<${String(prepare([1, { a: 'b' }]))}>` },
    circular,
    { toPostgres: 5 },
  ],
  ...[
    { toJSON: () => ({ made: true }) },
    { toJSON: () => undefined },
    { toJSON: () => 'text' },
    { toString: () => 'not asked' },
  ],
  ...[{ big: 1n }, [{ toJSON: () => undefined }], Object.assign([], { toPostgres: () => 'not asked' })],
  {
    toPostgres: () => {
      throw new RangeError('mine');
    },
  },
  {
    get toPostgres() {
      throw new TypeError('not yet');
    },
  },
];
const named = VALUES.map((value, index) => [index, short(value), value] as const);

function short(value: unknown): string {
  const text = inspect(value, { breakLength: Infinity, getters: false });
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

describe('one value', () => {
  beforeAll(() => {
    // pg warns of a date that is none.
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    return () => warn.mockRestore();
  });

  it.each(named)('%i: %s', async (index, _, value) => {
    const of = `of the value ${index}`;
    await expectSame(pair, `as text ${of}`, (rival) => rival.query('SELECT $1::text AS v', [value]));
    await expectSame(pair, `untyped ${of}`, (rival) => rival.query({ text: 'SELECT $1 AS v', values: [value] }));
    await expectSame(pair, `beside others ${of}`, (rival) =>
      rival.query('SELECT $2::text AS v, $1::int AS a, $3::text AS b, $4::bytea', [7, value, 'end', Buffer.from([1])]),
    );
  });

  it.each([
    'int4',
    'int8',
    'numeric',
    'float8',
    'bool',
    'bytea',
    'timestamptz',
    'date',
    'jsonb',
    'text[]',
    'int4[]',
    'bytea[]',
  ])('as %s', async (type) => {
    for (const [index, , value] of named) {
      const text = `SELECT $1::${type} AS v`;
      await expectSame(pair, `${type}, the value ${index}`, (rival) => rival.query(text, [value]));
    }
  });
});

describe('parameters as a whole', () => {
  const SHAPES: readonly (readonly [string, string, unknown])[] = [
    ['none, and none asked for', 'SELECT 1 AS v', []],
    ['none, and one asked for', 'SELECT $1::int AS v', []],
    ['too few', 'SELECT $1::int, $2::int', [1]],
    ['too many', 'SELECT $1::int', [1, 2]],
    ['some where none is asked for', 'SELECT 1 AS v', [1]],
    ['null', 'SELECT 1 AS v', null],
    ['a gap in the numbers', 'SELECT $1::int, $3::int', [1, 2, 3]],
    ['the same twice', 'SELECT $1::int, $1::text', [1]],
    ['of a type that nothing tells', 'SELECT $1 IS NULL AS v', [null]],
    [
      'a thousand',
      `SELECT ${Array.from({ length: 1_000 }, (_, at) => `$${at + 1}::int`).join(' + ')} AS v`,
      Array(1_000).fill(1),
    ],
    ['a sparse array', 'SELECT $1::int AS a, $2::int AS b', Array(2)],
  ];

  it.each(SHAPES)('%s', async (what, text, values) => {
    await expectSame(pair, what, (rival) => rival.query(text, values));
    await expectSame(pair, `${what}, in a config`, (rival) => rival.query({ text, values }));
  });

  it('65 535 of them', async () => {
    const values = Array.from({ length: 65_535 }, (_, at) => at);
    const text = `SELECT v FROM (VALUES ${values.map((at) => `($${at + 1}::int)`).join(',')}) AS t(v) ORDER BY v DESC LIMIT 2`;
    const { result } = await expectSame(pair, '65 535', (rival) => rival.query(text, values));
    expect(result).toMatchObject({ rows: [{ v: 65_534 }, { v: 65_533 }] });
  });

  it('are those of the moment of the call', async () => {
    for (const rival of [pair.stock, pair.ours] as unknown as Rival[]) {
      for (let use = 0; use < 3; use++) {
        const bytes = Buffer.from('before');
        const values = [bytes, ['a']];
        const answer = rival.query('SELECT $1::bytea AS a, $2::text[] AS b', values);
        values[1] = ['b'];
        expect(((await answer) as { rows: unknown }).rows).toEqual([{ a: Buffer.from('before'), b: ['a'] }]);
      }
    }
  });

  it('call toPostgres as often', async () => {
    await expectSame(pair, 'the count of its calls', async (rival) => {
      const toPostgres = vi.fn(() => 'x');
      await rival.query('SELECT $1::text, $2::text', [{ toPostgres }, 1]);
      return toPostgres.mock.calls.length;
    });
  });
});

it('what throws no Error fails with one, which tells what was thrown: pg takes some of it for success', async () => {
  for (const thrown of ['a text', undefined]) {
    const value = {
      toJSON: () => {
        throw thrown; // eslint-disable-line @typescript-eslint/only-throw-error -- that is the point
      },
    };
    await expect(pair.ours.query('SELECT $1::text', [value])).rejects.toThrow(
      `A parameter could not be converted: ${String(thrown)}`,
    );
  }
});

const seed = Number(process.env['DIFFERENTIAL_SEED'] ?? Date.now() % 2 ** 31);

it(`values by chance: DIFFERENTIAL_SEED=${seed}`, async () => {
  const anything = fc.anything({
    ...{ withBigInt: true, withDate: true, withTypedArray: true, withNullPrototype: true, withObjectString: true },
    ...{ withMap: true, withSet: true, withSparseArray: true, withBoxedValues: true, maxDepth: 3 },
  });
  await fc.assert(
    fc.asyncProperty(anything, fc.array(anything, { maxLength: 4 }), async (one, several) => {
      await expectSame(pair, 'a value', (rival) => rival.query('SELECT $1::text AS v', [one]));
      await expectSame(pair, 'an array', (rival) => rival.query('SELECT $1::text AS v', [several]));
    }),
    { numRuns: 150, seed },
  );
});
