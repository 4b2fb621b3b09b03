import { runInNewContext } from 'node:vm';
import pg from 'pg';
import { describe, expect, it, vi } from 'vitest';
import { columnReader, hasReader, readText, type TypeParser } from '../../../lib/client/column-reader.js';
import type { TypeParsers } from '../../../lib/client/row-decoder.js';

const parserOf = (oid: number): TypeParser => (pg.types as unknown as TypeParsers).getTypeParser(oid, 'text');

/** What the reader for `parse` makes of a text that stands in the midst of other bytes. */
function read(parse: TypeParser, text: string): unknown {
  const before = Buffer.from('\x01\x02t1');
  const bytes = Buffer.concat([before, Buffer.from(text), Buffer.from('9f-')]);
  return columnReader(parse)(bytes, before.length, bytes.length - 3);
}

const { builtins } = pg.types;
const BOOL: number = builtins.BOOL;
const READ: [name: keyof typeof builtins, oid: number][] = (
  ['INT2', 'INT4', 'OID', 'INT8', 'BOOL', 'TEXT', 'VARCHAR', 'TIMESTAMPTZ', 'TIMESTAMP', 'DATE'] as const
).map((name) => [name, builtins[name]]);
const CALLED: [name: keyof typeof builtins, oid: number][] = (
  ['FLOAT4', 'FLOAT8', 'BYTEA', 'JSON', 'JSONB', 'INTERVAL'] as const
).map((name) => [name, builtins[name]]);

describe('the readers for the parsers of the installed pg-types', () => {
  it.each(READ)('%s has one', (_, oid) => expect(hasReader(parserOf(oid))).toBe(true));
  it.each(CALLED)('%s has none: its parser is called', (_, oid) => expect(hasReader(parserOf(oid))).toBe(false));
  it('types that pg-types does not know are text', () => expect(hasReader(parserOf(4_294_967_295))).toBe(true));
});

const INTEGERS = [
  ...[
    '0',
    '-0',
    '1',
    '-1',
    '9',
    '10',
    '00',
    '007',
    '-007',
    '32767',
    '-32768',
    '2147483647',
    '-2147483648',
    '4294967295',
  ],
  ...['999999999999999', '-999999999999999', '1000000000000000', '9007199254740993', '-9223372036854775808'],
  ...['', '-', '--1', '+1', ' 1', '1 ', '1.5', '1e3', '0x10', 'NaN', 'Infinity', 'null', '1_000', '-a', 'a', '１'],
  '123456789012345678901234567890',
];

describe.each(['INT2', 'INT4', 'OID', 'INT8'] as const)('%s', (name) => {
  const parse = parserOf(builtins[name]);

  it.each(INTEGERS)('reads %j as pg does', (text) => {
    expect(Object.is(read(parse, text), parse(text))).toBe(true);
  });

  it('reads random numbers as pg does', () => {
    for (let round = 0; round < 20_000; round++) {
      const digits = 1 + (round % 20);
      const text = (round & 1 ? '-' : '') + String(Math.random()).replace('.', '').slice(0, digits);
      if (!Object.is(read(parse, text), parse(text))) expect([text, read(parse, text)]).toEqual([text, parse(text)]);
    }
  });
});

describe('BOOL', () => {
  const parse = parserOf(builtins.BOOL);
  it.each(['t', 'f', 'true', 'TRUE', 'false', 'y', 'yes', 'on', '1', '0', 'T', '', 'tt', 'x'])(
    'reads %j as pg does',
    (text) => expect(read(parse, text)).toBe(parse(text)),
  );
});

describe.each(['TEXT', 'VARCHAR', 'NUMERIC', 'UUID', 'INT8'] as const)('%s', (name) => {
  const parse = parserOf(builtins[name]);
  it.each([
    '',
    'a',
    'ä',
    '€',
    '💚',
    '\u0000'.slice(1),
    '\ufeffa',
    'a\r\n',
    '12',
    ' ',
    '\u{10ffff}',
    'x'.repeat(100_000),
  ])('reads %j as pg does', (text) => expect(read(parse, text)).toBe(parse(text)));

  it('reads bytes that are no UTF-8 as Buffer does', () => {
    const bytes = Buffer.from([0x61, 0xff, 0xc3, 0x62, 0xed, 0xa0, 0x80, 0xf0, 0x9f]);
    expect(columnReader(parse)(bytes, 1, bytes.length)).toBe(bytes.toString('utf8', 1));
    expect(readText(bytes, 0, 3)).toBe(bytes.toString('utf8', 0, 3));
  });
});

describe('a parser of the application', () => {
  it.each(READ)('is called in the place of %s, with the text', (_, oid) => {
    const parse = vi.fn<TypeParser>((text) => ({ text }));
    expect(hasReader(parse)).toBe(false);
    const text = oid === BOOL ? 't' : '2026';
    expect(read(parse, text)).toEqual({ text });
    expect(parse.mock.calls).toEqual([[text]]);
  });

  it('is called whatever it throws or gives', () => {
    const thrown = new Error('mine');
    const throwing: TypeParser = () => {
      throw thrown;
    };
    expect(() => read(throwing, '1')).toThrow(thrown);
    for (const value of [undefined, null, NaN, Symbol.iterator]) expect(read(() => value, '1')).toBe(value);
  });

  it.each([
    ['a native function', Number],
    ['a bound function', parserOf(builtins.INT4).bind(undefined)],
    ['a method', { parse: (text: string) => `<${text}>` }.parse],
    ['a proxy', new Proxy(parserOf(builtins.INT4), { apply: () => 'of the proxy' })],
  ] as [string, TypeParser][])('may be %s', (_, parse) => {
    expect(read(parse, '1')).toEqual(parse('1'));
  });

  it('that looks like one of pg-types, but for its names, is called', () => {
    const ours = vi.fn((value: string) => parseInt(value, 8));
    const parseInteger: TypeParser = function (value) {
      return ours(value);
    };
    expect(read(parseInteger, '10')).toBe(8);
    expect(ours).toHaveBeenCalledOnce();
  });

  // The digest knows the source, not what its names stand for.
  it.fails('that has the very source of one of pg-types and other names in its scope is called', () => {
    const source = Function.prototype.toString.call(parserOf(builtins.INT4));
    const parse = runInNewContext(`(${source})`, { parseInt: () => 'mine' }) as TypeParser;
    expect(read(parse, '10')).toBe('mine');
  });

  it("that wraps pg's own is called, and pg's own is read", () => {
    const own = parserOf(builtins.INT4);
    const wrapped: TypeParser = (text) => [own(text)];
    expect(read(wrapped, '12')).toEqual([12]);
    expect(read(own, '12')).toBe(12);
  });
});

describe('columnReader', () => {
  it('is made once for a parser', () => {
    const parse: TypeParser = (text) => text;
    expect(columnReader(parse)).toBe(columnReader(parse));
    expect(columnReader(parserOf(builtins.INT4))).toBe(columnReader(parserOf(builtins.INT2)));
  });
});
