import { createPool, copyFrom, type PgPool } from 'nestjs-pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { copyColumns } from '../../../lib/stream/copy-columns.js';
import { BinaryRows } from '../../../lib/stream/copy-rows.js';
import { useServer } from '../../support/postgres.js';

const server = useServer();
let pool: PgPool;

beforeAll(async () => {
  pool = createPool({ connectionString: server().connectionString, pool: { max: 2 } });
  await pool.query(`
    CREATE EXTENSION IF NOT EXISTS citext;
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'ha"pp,y \\');
    CREATE DOMAIN small AS int CHECK (value < 1000);
    CREATE DOMAIN smaller AS small CHECK (value < 500);
    CREATE DOMAIN words AS text[];
    CREATE TYPE pair AS (a int, b text);`);
});

afterAll(() => pool.end());

class Wrapped {
  constructor(readonly inner: unknown) {}
  toPostgres(prepare: (value: unknown) => unknown): unknown {
    return prepare(this.inner);
  }
}

type Outcome = string | null | { readonly refused: unknown };

const refusal = (error: unknown): Outcome => ({ refused: (error as { code?: string }).code ?? String(error) });

/** What becomes of each value in a column, as the server prints it. */
function inserted(place: string, values: readonly unknown[]): Promise<Outcome[]> {
  const text = `INSERT INTO column_${place} VALUES ($1) RETURNING value::text`;
  return Promise.all(
    values.map((value) =>
      pool.query<[string | null]>({ text, values: [value], rowMode: 'array' }).then(({ rows }) => rows[0]![0], refusal),
    ),
  );
}

async function copied(place: string, values: readonly unknown[], rowFormat?: 'binary' | 'text'): Promise<Outcome[]> {
  const table = `column_${place}`;
  try {
    await copyFrom(
      pool,
      { table, columns: ['value', 'place'], ...(rowFormat && { rowFormat }) },
      values.map((value, index) => [value, index]),
    );
  } catch (error) {
    return [refusal(error)];
  }
  const text = `WITH gone AS (DELETE FROM ${table} WHERE place IS NOT NULL RETURNING *) SELECT value::text FROM gone ORDER BY place`;
  const { rows } = await pool.query<[string | null]>({ text, rowMode: 'array' });
  return rows.map(([stored]) => stored);
}

const date = (year: number, ...rest: [number, number, number?, number?, number?, number?]): Date => {
  const made = new Date(2000, ...rest);
  made.setFullYear(year);
  return made;
};

const DATES: unknown[] = [
  new Date(0),
  new Date('2026-02-03T04:05:06.789Z'),
  new Date('1999-12-31T23:59:59.999Z'),
  new Date('2000-01-01T00:00:00Z'),
  new Date(-1),
  date(1880, 5, 1, 12, 30, 15, 7),
  date(1, 0, 1),
  date(0, 0, 1),
  date(-43, 2, 15, 10),
  date(99, 11, 31),
  date(-4712, 0, 1),
  date(-4720, 0, 1),
  date(12345, 6, 7, 8, 9, 10, 11),
  date(200000, 1, 1),
  new Date(8.64e15),
  new Date(-8.64e15),
  'infinity',
  '-infinity',
  'Infinity',
  '2026-02-03',
  '2026-02-30',
  '2024-02-29',
  '1900-02-29',
  '0000-01-01',
  '0001-01-01',
  '9999-12-31T23:59:59.999999Z',
  '2026-02-03T04:05',
  '2026-02-03 04:05:06.123456+02',
  '2026-02-03T04:05:06.1-03:30',
  '2026-02-03 24:00:00Z',
  '2026-02-03 23:59:60Z',
  '2026-02-03T04:05:06.1234567Z',
  '1950-06-01 12:00:00.5Z',
  '0044-03-15 BC',
  'Feb 3 2026 04:05:06 Europe/Berlin',
  '20260203T040506Z',
  'epoch',
  '',
  'never',
  0,
  true,
];

const NUMBERS: unknown[] = [
  ...[
    0,
    -0,
    1,
    -1,
    0.1,
    -0.1,
    1.5,
    NaN,
    Infinity,
    -Infinity,
    1e21,
    1e-7,
    1e300,
    -1e300,
    5e-324,
    1.7976931348623157e308,
  ],
  ...[32767, 32768, -32768, -32769, 2147483647, 2147483648, -2147483648, -2147483649, 4294967296, -4294967297],
  ...[2 ** 53, 2 ** 53 - 1, -(2 ** 53), 2 ** 62, 2 ** 63, -(2 ** 63), 9007199254740994, 1e18, 123456789012],
  ...[0n, -1n, 2n ** 31n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 63n, 10n ** 40n, 10n ** 400n],
  ...['0', '-0', '+1', ' 7 ', '007', '1.50', '-1.500', '.5', '5.', '1e3', '1E-3', '12345678901234567890.12345', '0x10'],
  ...[
    '9223372036854775807',
    '9223372036854775808',
    '-9223372036854775808',
    'NaN',
    'Infinity',
    '-Infinity',
    'inf',
    '1_000',
  ],
  ...[
    '1e400',
    '1e-400',
    '-0.0',
    '0e5',
    '0.00001',
    '10000',
    '9999.9999',
    '100000000',
    '0.0001',
    '1e131072',
    '--1',
    '.',
    '',
    'x',
  ],
  ...[true, false, new Date(0), [1], { a: 1 }],
  // Singles: in the middle between two, beyond the greatest, below the smallest.
  ...[
    1 + 2 ** -24,
    1 + 3 * 2 ** -24,
    16777217,
    16777219,
    3.4028235677973366e38,
    3.5e38,
    3.4e38,
    1e-45,
    7e-46,
    1e-50,
    2 ** -150,
  ],
  ...[0.30000001192092896, 1.0000000596046448, 1.1754943508222875e-38],
];

const TEXTS: unknown[] = [
  ...[
    '',
    ' ',
    'x',
    'a\tb\nc\rd\\e',
    '\\N',
    '\\.',
    '\\x00',
    'é',
    'ß'.repeat(100),
    '日本語',
    '😀',
    '\ud800',
    'a\udc00b',
    '\0',
    'a\0b',
  ],
  ...[
    'x'.repeat(5000),
    '😀'.repeat(3000),
    '"quoted"',
    "it's",
    '{1,2}',
    'NULL',
    'null',
    '\b\f\v\u007f\u0080\uffff',
    'sad',
    'ok',
    'ha"pp,y \\',
  ],
  ...[
    0,
    -0,
    1.5,
    10n,
    true,
    false,
    new Date(0),
    [1, 'a"b\\', null, undefined, [1]],
    { a: [1, 'é'] },
    {},
    null,
    undefined,
  ],
  ...[
    Buffer.from('bytes \\ \t\n'),
    Buffer.from([0xff, 0xfe]),
    new Uint8Array([104, 105]),
    new Uint16Array([26985]),
    Buffer.alloc(0),
  ],
  ...[
    new Wrapped('wrapped\t'),
    new Wrapped(null),
    new Wrapped([1, 2]),
    new Wrapped(Buffer.from('raw')),
    new Wrapped(new Wrapped(7)),
  ],
  Symbol('s'),
  () => 1,
  { toJSON: () => 'json' },
  new Map([[1, 2]]),
];

const ARRAYS: unknown[] = [
  ...[
    [],
    [null],
    [undefined, null],
    [1, 2, 3],
    ['1', '2'],
    [1n, -1n],
    [1.5, NaN],
    [true, false],
    ['a', 'b\\"c', 'NULL', '', ' '],
  ],
  ...[
    [
      [1, 2],
      [3, 4],
    ],
    [[1], [2, 3]],
    [[]],
    [[], []],
    [[[1]], [[2]]],
    [[[[[[1]]]]]],
    [[[[[[[1]]]]]]],
    [1, [2]],
    [[1], 2],
    [null, [1]],
  ],
  ...[
    [new Date(0), new Date(1e12)],
    [Buffer.from([1, 255])],
    [new Uint8Array([1])],
    [{ a: 1 }, { b: [] }],
    [new Wrapped(5)],
  ],
  ...[
    [new Wrapped(null)],
    ['{1}'],
    '{1,2}',
    '{}',
    '{a,"b c"}',
    '[0:1]={1,2}',
    { a: 1 },
    7,
    'x',
    new Float64Array([1]),
    ['sad', null],
  ],
  ...[['2026-01-01', 'infinity'], ['00000000-0000-0000-0000-00000000000f'], [600], [70000], ['x'.repeat(30), 'é']],
];

const OTHERS: unknown[] = [
  ...['t', 'f', 'true', 'FALSE', 'yes', 'off', '1', 'maybe'],
  ...[
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',
    '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}',
  ],
  ...[
    'a0eebc999c0b4ef8bb6d6bb9bd380a11',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1',
    'g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
  ],
  ...[
    '00:00',
    '23:59:59.999999',
    '24:00:00',
    '12:30:45.5',
    '04:05 PM',
    '12:30:45.1234567',
    '25:00',
    '1 day 02:03:04',
    'P1Y2M',
  ],
  ...[
    '{"a": [1, 2.50]}',
    '[1,"é"]',
    '"\\u0000"',
    'null',
    '{',
    '127.0.0.1/8',
    '08:00:2b:01:02:03',
    '(1,2)',
    '[1,5)',
    '(1,"x,y")',
  ],
  ...['\\xdeadbeef', '\\x0', '\\\\001', '101', '<a/>', "'a' & 'b'"],
  Buffer.from([0, 1, 255]),
  Buffer.from([0, 0, 0, 7]),
  Buffer.alloc(0),
  new DataView(new ArrayBuffer(3)),
];

const TYPES = [
  ...['bool', 'int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'numeric(6,2)', 'money', 'oid'],
  ...[
    'text',
    'varchar',
    'varchar(3)',
    'char(3)',
    'citext',
    'name',
    '"char"',
    'mood',
    'json',
    'jsonb',
    'xml',
    'bytea',
    'uuid',
  ],
  ...['date', 'time', 'time(2)', 'timetz', 'timestamp', 'timestamp(1)', 'timestamptz', 'timestamptz(0)', 'interval'],
  ...['small', 'smaller', 'words', 'pair', 'inet', 'macaddr', 'point', 'int4range', 'bit(3)', 'tsquery'],
  ...[
    'int2[]',
    'int4[]',
    'int8[]',
    'float8[]',
    'numeric[]',
    'bool[]',
    'text[]',
    'varchar(3)[]',
    'bytea[]',
    'uuid[]',
    'date[]',
  ],
  ...[
    'timestamptz[]',
    'timestamp[]',
    'jsonb[]',
    'json[]',
    'mood[]',
    'smaller[]',
    'time[]',
    'interval[]',
    'box[]',
    'point[]',
  ],
];

const isRefused = (outcome: Outcome): boolean => typeof outcome === 'object' && outcome !== null;
const VALUES = [...NUMBERS, ...TEXTS, ...DATES, ...ARRAYS, ...OTHERS];

const TAKES_BYTES: ReadonlySet<string> = new Set([
  'bytea',
  'text',
  'varchar',
  'varchar(3)',
  'char(3)',
  'citext',
  'mood',
  'json',
]);

describe.each(TYPES.map((type, place) => ({ type, place })))('$type', ({ type, place }) => {
  const take = async (name: string, values: readonly unknown[]): Promise<void> => {
    await pool.query(`DROP TABLE IF EXISTS column_${name}; CREATE TABLE column_${name} (value ${type}, place int)`);
    const outcomes = await inserted(name, values);
    const expected = values.map((value, index) => ({ value, outcome: outcomes[index]! }));
    const taken = expected.filter(({ outcome }) => !isRefused(outcome));
    const refused = expected.filter(({ outcome }) => isRefused(outcome));
    const columns = await copyColumns(pool as never, `column_${name}`, ['value']);
    const binary = BinaryRows.of(columns);
    const suitsBinary = ({ value }: { value: unknown }): boolean => {
      try {
        return binary instanceof BinaryRows && binary.write([value], 1) === undefined;
      } catch {
        return false;
      }
    };
    const compare = async (some: typeof taken, rowFormat?: 'binary' | 'text'): Promise<void> => {
      const found = await copied(
        name,
        some.map(({ value }) => value),
        rowFormat,
      );
      expect(some.map(({ value }, index) => ({ value, outcome: found[index] }))).toEqual(some);
    };

    if (binary instanceof BinaryRows) await compare(taken.filter(suitsBinary), 'binary');
    // Bytes are the type's binary format to INSERT, which is nothing that a text can say.
    const isSayable = ({ value }: { value: unknown }): boolean =>
      TAKES_BYTES.has(type) || !ArrayBuffer.isView(value instanceof Wrapped ? value.inner : value);
    await compare(taken.filter(isSayable), 'text');
    await compare(taken.filter(isSayable));
    // What has a binary form and is refused by INSERT must be refused as well; and some of the others.
    for (const { value } of [
      ...refused.filter(suitsBinary),
      ...refused.filter((_, index) => index % 40 === place % 40),
    ]) {
      expect({ value, isRefused: isRefused((await copied(name, [value]))[0]!) }).toEqual({ value, isRefused: true });
    }
  };

  it('takes each value as INSERT does', () => take(String(place), VALUES));

  // Before time zones were of whole minutes, pg leaves the seconds out.
  const zones = /^(date|time)/.test(type) ? ['Europe/Berlin', 'Africa/Monrovia', 'America/St_Johns'] : [];
  for (const [index, zone] of zones.entries()) {
    it(`takes each Date as INSERT does, in ${zone}`, async () => {
      const before = process.env.TZ;
      process.env.TZ = zone;
      try {
        await take(`${place}_${index}`, DATES);
      } finally {
        if (before === undefined) delete process.env.TZ;
        else process.env.TZ = before;
      }
    });
  }
});
