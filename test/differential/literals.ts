import { seededRandom } from '../support/libpq-corpus.js';

/** Values for the base types of PostgreSQL, as the server reads them. Every one has to be valid. */
export const LITERALS: Readonly<Record<string, readonly string[]>> = {
  bool: ['t', 'f'],
  int2: ['0', '-1', '32767', '-32768'],
  int4: ['0', '-1', '7', '2147483647', '-2147483648'],
  int8: ['0', '-1', '999999999999999', '9007199254740993', '9223372036854775807', '-9223372036854775808'],
  float4: ['0', '-0', 'NaN', 'Infinity', '-Infinity', '1e-45', '3.4028235e38', '0.1', '16777217'],
  float8: [
    '0',
    '-0',
    'NaN',
    'Infinity',
    '-Infinity',
    '5e-324',
    '1.7976931348623157e308',
    '0.1',
    '1e21',
    '-123456789.123',
  ],
  numeric: [
    ...['0', '0.00', 'NaN', 'Infinity', '-Infinity', '-0.000000000000000000001', '123456789012345678901234567890.5'],
    ...[`1e1000`, `-1e-1000`, '9'.repeat(400)],
  ],
  money: ['0', '-1.5', '1234567.89', '92233720368547758.07', '-92233720368547758.08'],
  oid: ['0', '1', '2147483648', '4294967295'],
  text: [
    ...[
      '',
      ' ',
      'null',
      'NULL',
      'a,b',
      '{}',
      '{"a"}',
      '(1,2)',
      '"',
      "'",
      '\\',
      '\\\\"',
      'line\nbreak\ttab\r',
      '\u0001\u007f',
    ],
    ...['ä', '漢字', '😀👩‍👩‍👧', '\ufeffmark', '\uffff', '\u2028', '__proto__', 'x'.repeat(3000), '0', 't', '2026-11-22'],
  ],
  varchar: ['', 'YES', 'NO', 'ä', 'a,"b"', '\\', 'null'],
  bpchar: ['', 'a  ', 'ä', 'a,"b"'],
  name: ['', 'a', 'Ä"x', 'n'.repeat(63)],
  char: ['', 'a', '"', '\\', '\\377', '\\001'],
  cstring: ['', 'a', 'ä"'],
  refcursor: ['', 'c'],
  bytea: ['', '\\x', '\\x00', '\\x00ff5c2722', '\\xdeadbeef', `\\x${'00017fff'.repeat(64)}`, 'a\\000b\\\\', '\\x5c78'],
  date: [
    ...[
      '2026-11-22',
      '1970-01-01',
      '1900-01-01',
      '0100-01-01',
      '0099-12-31',
      '0001-01-01',
      '0001-12-31 BC',
      '4713-01-01 BC',
    ],
    ...[
      '9999-12-31',
      '10000-01-01',
      '12345-06-07',
      '5874897-12-31',
      'infinity',
      '-infinity',
      '2024-02-29',
      '1582-10-10',
    ],
  ],
  timestamp: [
    ...['2026-11-22 12:34:56', '2026-11-22 12:34:56.7', '2026-11-22 12:34:56.789123', '2026-11-22 12:34:56.000001'],
    ...[
      '2026-11-22 00:00:00',
      '1969-12-31 23:59:59.999999',
      '0100-01-01 00:00',
      '0099-12-31 23:59:59.9',
      '0001-01-01 00:00',
    ],
    ...[
      '0044-03-15 10:00 BC',
      '4713-01-01 00:00 BC',
      '9999-12-31 23:59:59.999999',
      '10000-01-01 00:00:00.5',
      '123456-01-02 03:04',
    ],
    ...[
      '294276-12-31 23:59:59.999999',
      'infinity',
      '-infinity',
      '2026-03-29 02:30:00',
      '2026-10-25 02:30:00.1005',
      '1883-11-18 12:00',
    ],
  ],
  timestamptz: [
    ...[
      '2026-11-22 12:34:56+00',
      '2026-11-22 12:34:56.7+05:30',
      '2026-11-22 12:34:56.789123-03:30',
      '1891-03-15 00:00+00:09:21',
    ],
    ...[
      '1850-01-01 00:00+00',
      '0100-01-01 00:00+00',
      '0099-12-31 23:59:59.9+00',
      '0001-01-01 00:00+00',
      '0044-03-15 10:00+00 BC',
    ],
    ...['4713-01-02 00:00+00 BC', '9999-12-31 23:59:59.999+00', '10000-01-01 00:00:00.5+00', '123456-01-02 03:04+14'],
    ...[
      '294276-12-30 23:59:59.999999+00',
      'infinity',
      '-infinity',
      '2026-03-29 01:30:00+00',
      '2026-10-25 01:30:00+00',
      'epoch',
    ],
  ],
  time: ['00:00', '24:00', '12:34:56.789', '23:59:59.999999'],
  timetz: ['00:00+00', '24:00-15:59', '12:34:56.789+05:30', '23:59:59.999999+14'],
  interval: [
    ...[
      '0',
      '1 second',
      '-1 second',
      '1 year 2 mons 3 days 04:05:06.789',
      '-1 year -2 mons +3 days -04:05:06.7',
      '1 mon -1 day',
    ],
    ...[
      '0.000001 s',
      '-0.5 s',
      '178000000 years',
      '100:00:00',
      '-00:00:00.1',
      'infinity',
      '-infinity',
      '1 year -1 second',
    ],
  ],
  json: [
    ...[
      'null',
      '0',
      '-0',
      '1e400',
      '"a"',
      'true',
      '[]',
      '{}',
      '{"a":{"b":[1,{"c":null}]}}',
      '{"a":1,"a":2}',
      '{"__proto__":{"x":1}}',
    ],
    ...[
      ' [ 1 , 2 ] ',
      '"\\u00e4\\ud83d\\ude00\\n"',
      '9007199254740993',
      `${'['.repeat(50)}1${']'.repeat(50)}`,
      '{"constructor":1,"":2}',
    ],
  ],
  jsonb: [
    ...[
      'null',
      '0',
      '-0.0',
      '1e300',
      '"a"',
      'true',
      '[]',
      '{}',
      '{"a":{"b":[1,{"c":null}]}}',
      '{"a":1,"a":2}',
      '{"__proto__":{"x":1}}',
    ],
    ...[
      '"\\u00e4\\ud83d\\ude00\\n"',
      '9007199254740993',
      `${'['.repeat(50)}1${']'.repeat(50)}`,
      '{"constructor":1,"":2}',
    ],
  ],
  jsonpath: ['$', '$.a[*] ? (@.b > 1)', 'strict $."q\\"x"'],
  xml: ['', 'text', '<a/>', '<a b="c">d &amp; ä</a>', '<?xml version="1.0"?><x>"</x>'],
  uuid: [
    '00000000-0000-0000-0000-000000000000',
    'ffffffff-ffff-ffff-ffff-ffffffffffff',
    '0190163d-8694-739b-aea5-966c26f8ad91',
  ],
  bit: ['', '0', '1', '101', '0'.repeat(100)],
  varbit: ['', '0', '1', '101', '1'.repeat(100)],
  inet: ['127.0.0.1', '10.0.0.0/8', '::1', 'fe80::1/64', '::ffff:1.2.3.4', '0.0.0.0/0'],
  cidr: ['10.0.0.0/8', '192.168.1.1/32', '::/0', '2001:db8::/32'],
  macaddr: ['08:00:2b:01:02:03', '00:00:00:00:00:00'],
  macaddr8: ['08:00:2b:01:02:03:04:05', 'ff:ff:ff:ff:ff:ff:ff:ff'],
  point: ['(0,0)', '(1.5,-2.25)', '(NaN,Infinity)', '(-Infinity,1e300)', '(-0,5e-324)'],
  line: ['{1,-1,0}', '{0.1,2,3}'],
  lseg: ['[(0,0),(1,1)]', '[(-1.5,NaN),(1e300,2)]'],
  box: ['(0,0),(1,1)', '(3.5,-1),(Infinity,2)'],
  path: ['[(0,0),(1,1)]', '((0,0),(1,1),(2,0))', '[(0,0)]'],
  polygon: ['((0,0))', '((0,0),(1,1),(2,0))'],
  circle: ['<(0,0),0>', '<(1.5,-2),3.25>', '<(1e300,0),Infinity>', '<(0,0),NaN>'],
  tsvector: ['', "a:1A b:2,3 'it''s'", "'\\\\ x' 'ä'"],
  tsquery: ['', "a & !b | c <-> 'd e':*AB", "'it''s'"],
  int2vector: ['', '1', '1 -2 32767'],
  oidvector: ['', '1', '1 2 4294967295'],
  tid: ['(0,0)', '(4294967295,65535)'],
  xid: ['0', '4294967295'],
  xid8: ['0', '18446744073709551615'],
  cid: ['0', '4294967295'],
  pg_lsn: ['0/0', '16/B374D848', 'FFFFFFFF/FFFFFFFF'],
  pg_snapshot: ['10:20:10,14,15', '1:1:'],
  txid_snapshot: ['10:20:10,14,15', '1:1:'],
  aclitem: ['postgres=r/postgres', '=arwdDxt*/postgres'],
  regproc: ['-', 'now', 'pg_catalog.now'],
  regprocedure: ['-', 'now()', 'pg_catalog.abs(integer)'],
  regoper: ['0', '||/'],
  regoperator: ['0', '+(integer,integer)', '-(NONE,integer)'],
  regclass: ['-', 'pg_class', '4294967295'],
  regtype: ['-', 'integer', 'text[]', '"char"'],
  regrole: ['-', 'postgres', '4294967295'],
  regnamespace: ['-', 'pg_catalog', '4294967295'],
  regcollation: ['-', '"C"'],
  regconfig: ['-', 'english'],
  regdictionary: ['-', 'simple'],
  regdatabase: ['-', 'postgres'],
};

/** Seeded, so that a run can be repeated. */
export class RandomLiterals {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  /** From 0 up to, and without, `bound`. */
  below(bound: number): number {
    return Math.floor(this.#random() * bound);
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }

  /** Values of a base type, none for the types that the written list is enough for. */
  of(typname: string, count: number): string[] {
    const make = this.#makers[typname];
    return make ? Array.from({ length: count }, make) : [];
  }

  readonly #digits = (most: number): string =>
    Array.from({ length: 1 + this.below(most) }, () => this.below(10)).join('');

  readonly #padded = (bound: number, length = 2): string => String(this.below(bound)).padStart(length, '0');

  readonly #integer = (bits: number) => (): string => {
    const size = BigInt(1 + this.below(bits - 1));
    const value = BigInt.asUintN(Number(size), (BigInt(this.below(2 ** 32)) << 32n) | BigInt(this.below(2 ** 32)));
    return String(this.below(2) ? value : -value);
  };

  readonly #float = (): string => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32BE(this.below(2 ** 32));
    bytes.writeUInt32BE(this.below(2 ** 32), 4);
    return String(bytes.readDoubleBE());
  };

  readonly #text = (): string =>
    Array.from({ length: this.below(20) }, () =>
      this.below(4)
        ? this.pick([...Array.from('abc,"\'\\{}()[]; \n\t'), 'ä', '漢', '😀', 'NULL'])
        : String.fromCodePoint(
            this.pick([1 + this.below(0xd7ff), 0xe000 + this.below(0x2000), 0x10000 + this.below(0xfffff)]),
          ),
    ).join('');

  /** In a year up to one of `latest`. */
  readonly #date = (latest = [99, 2100, 9999, 250_000]): string =>
    `${String(1 + this.below(this.pick(latest))).padStart(4, '0')}-${this.pick(['01', '02', '03', '06', '10', '11', '12'])}-${String(1 + this.below(28)).padStart(2, '0')}`;

  readonly #time = (): string =>
    `${this.#padded(24)}:${this.#padded(60)}:${this.#padded(60)}${this.below(3) ? `.${this.#digits(6)}` : ''}`;

  readonly #offset = (): string =>
    `${this.pick(['+', '-'])}${this.#padded(15)}:${this.#padded(60)}${this.below(5) ? '' : `:${this.#padded(60)}`}`;

  readonly #json = (depth = 0): unknown => {
    switch (this.below(depth > 3 ? 4 : 6)) {
      case 0:
        return this.pick([null, true, false]);
      case 1:
        return this.below(2 ** 32) - 2 ** 31;
      case 2:
        return this.#random();
      case 3:
        return this.#text();
      case 4:
        return Array.from({ length: this.below(4) }, () => this.#json(depth + 1));
      default:
        return Object.fromEntries(Array.from({ length: this.below(4) }, () => [this.#text(), this.#json(depth + 1)]));
    }
  };

  readonly #makers: Readonly<Record<string, () => string>> = {
    int2: this.#integer(16),
    int4: this.#integer(32),
    int8: this.#integer(64),
    oid: () => String(this.below(2 ** 32)),
    float4: () => String(Math.fround(this.#random() * 10 ** (this.below(60) - 30))),
    float8: this.#float,
    numeric: () => `${this.pick(['', '-'])}${this.#digits(40)}.${this.#digits(40)}`,
    money: () => `${this.pick(['', '-'])}${this.#digits(15)}.${this.#padded(100)}`,
    text: this.#text,
    varchar: this.#text,
    bpchar: this.#text,
    bytea: () =>
      `\\x${Array.from({ length: this.below(40) }, () => this.below(256).toString(16).padStart(2, '0')).join('')}`,
    // The earliest of them is in 4713 BC.
    date: () => (this.below(10) === 0 ? `${this.#date([4712])} BC` : this.#date()),
    timestamp: () => `${this.#date()} ${this.#time()}`,
    timestamptz: () => `${this.#date()} ${this.#time()}${this.#offset()}`,
    time: this.#time,
    timetz: () => this.#time() + this.#offset(),
    interval: () =>
      `${this.below(400) - 200} years ${this.below(40) - 20} mons ${this.below(400) - 200} days ${this.below(400_000) - 200_000}.${this.#digits(6)} seconds`,
    json: () => JSON.stringify(this.#json(), null, this.pick([0, 1])),
    jsonb: () => JSON.stringify(this.#json()),
    uuid: () => Array.from({ length: 32 }, () => this.below(16).toString(16)).join(''),
    varbit: () => this.below(2 ** 32).toString(2),
    inet: () => `${[0, 0, 0, 0].map(() => this.below(256)).join('.')}/${this.below(33)}`,
    point: () => `(${this.#float()},${this.#float()})`,
    circle: () => `<(${this.#float()},${this.#float()}),${this.below(1000)}>`,
  };
}
