import pg from 'pg';
import type { FieldDef } from 'pg';
import { describe, expect, it, vi } from 'vitest';
import { RowDecoder, type TypeParsers } from '../../../lib/client/row-decoder.js';
import { ProtocolViolation } from '../../../lib/client/protocol-violation.js';

const { builtins } = pg.types;

/** pg's own way from a row to an object: what the decoder must equal. */
interface StockResult {
  fields: FieldDef[];
  addFields(fields: FieldDef[]): void;
  parseRow(texts: (string | null)[]): unknown;
}
const { Result } = pg as unknown as {
  Result: new (rowMode: 'array' | undefined, types: TypeParsers | undefined) => StockResult;
};

const types = pg.types as unknown as TypeParsers;

function field(name: string, dataTypeID: number): FieldDef {
  return { name, dataTypeID, tableID: 0, columnID: 0, dataTypeSize: -1, dataTypeModifier: -1, format: 'text' };
}

/** The body of a DataRow. */
function dataRow(texts: readonly (string | null)[]): Buffer {
  const count = Buffer.alloc(2);
  count.writeUInt16BE(texts.length);
  const values = texts.flatMap((text) => {
    const length = Buffer.alloc(4);
    length.writeInt32BE(text === null ? -1 : Buffer.byteLength(text));
    return text === null ? [length] : [length, Buffer.from(text)];
  });
  return Buffer.concat([count, ...values]);
}

/** Decodes a row that stands in the midst of others. */
function decode(decoder: RowDecoder, body: Buffer, asArray = false): unknown {
  const bytes = Buffer.concat([Buffer.alloc(7, 0xee), body, Buffer.alloc(300, 0x31)]);
  return decoder.decode(bytes, 7, 7 + body.length, asArray);
}

function stock(fields: FieldDef[], texts: (string | null)[], rowMode?: 'array'): unknown {
  const result = new Result(rowMode, types);
  result.addFields(fields);
  return result.parseRow(texts);
}

const COLUMNS: [name: string, oid: number, text: string | null][] = [
  ['id', builtins.INT4, '42'],
  ['big', builtins.INT8, '9007199254740993'],
  ['flag', builtins.BOOL, 't'],
  ['name', builtins.TEXT, 'Zoë 💚'],
  ['empty', builtins.TEXT, ''],
  ['nothing', builtins.TEXT, null],
  ['at', builtins.TIMESTAMPTZ, '2026-11-22 12:34:56.789012+00'],
  ['day', builtins.DATE, '2026-11-22'],
  ['ratio', builtins.FLOAT8, '0.1'],
  ['amount', builtins.NUMERIC, '12345678901234567890.12'],
  ['bytes', builtins.BYTEA, '\\x0001ff'],
  ['doc', builtins.JSONB, '{"a": [1, null, {"b": "c"}]}'],
  ['list', 1007, '{1,2,NULL}'],
  ['span', builtins.INTERVAL, '1 day 02:03:04'],
  ['unknown', 4_000_000_000, '(1,"x")'],
];
const FIELDS = COLUMNS.map(([name, oid]) => field(name, oid));
const TEXTS = COLUMNS.map(([, , text]) => text);

describe('RowDecoder', () => {
  it('gives the same row as pg, with the keys in the same order', () => {
    const row = decode(new RowDecoder(FIELDS, types), dataRow(TEXTS));
    expect(row).toEqual(stock(FIELDS, TEXTS));
    expect(Object.keys(row as object)).toEqual(COLUMNS.map(([name]) => name));
    expect(Object.getPrototypeOf(row)).toBe(Object.prototype);
  });

  it('gives the same array as pg', () => {
    const row = decode(new RowDecoder(FIELDS, types), dataRow(TEXTS), true);
    expect(row).toEqual(stock(FIELDS, TEXTS, 'array'));
    expect(row).toBeInstanceOf(Array);
  });

  it('gives rows that are their own', () => {
    const decoder = new RowDecoder(FIELDS, types);
    const rows = [1, 2].map(() => decode(decoder, dataRow(TEXTS)) as Record<string, unknown>);
    rows[0]!['id'] = 'changed';
    (rows[0]!['doc'] as { a: unknown }).a = 'changed';
    expect(rows[1]).toEqual(stock(FIELDS, TEXTS));
    expect(rows[1]).not.toBe(rows[0]);
  });

  it.each([
    ['none', []],
    ['a thousand and six hundred', Array.from({ length: 1_600 }, (_, at) => `c${at}`)],
    ['two of the same name', ['a', 'b', 'a']],
    ['numbers for names', ['2', '1', 'x', '0']],
    ['names with a meaning', ['constructor', 'toString', 'hasOwnProperty', 'prototype', 'valueOf']],
    ['__proto__', ['a', '__proto__', 'b']],
    ['nothing but __proto__', ['__proto__']],
    ['a name of nothing', ['', '?column?', '?column?']],
  ])('takes columns of any name: %s', (_, names) => {
    const fields = names.map((name) => field(name, builtins.INT4));
    for (const texts of [names.map((_name, at) => String(at)), names.map(() => null)]) {
      const row = decode(new RowDecoder(fields, types), dataRow(texts)) as object;
      const theirs = stock(fields, texts) as object;
      expect(Object.getOwnPropertyDescriptors(row)).toEqual(Object.getOwnPropertyDescriptors(theirs));
      expect(Object.keys(row)).toEqual(Object.keys(theirs));
      expect(Object.getPrototypeOf(row)).toBe(Object.prototype);
      expect(decode(new RowDecoder(fields, types), dataRow(texts), true)).toEqual(stock(fields, texts, 'array'));
    }
  });

  it.each([
    ['cannot be written, as where the intrinsics are frozen', { value: () => 0, writable: false }],
    ['has a setter', { set: () => expect.unreachable('the setter of a prototype was called') }],
  ])('takes a column whose name Object.prototype has, too: it %s', (_, property) => {
    Object.defineProperty(Object.prototype, 'inherited', { ...property, configurable: true });
    try {
      const row = decode(new RowDecoder([field('inherited', builtins.INT4)], types), dataRow(['1']));
      expect(Object.entries(row as object)).toEqual([['inherited', 1]]);
    } finally {
      Reflect.deleteProperty(Object.prototype, 'inherited');
    }
  });

  it("calls a parser of the application's with each text, and not with NULL", () => {
    const parse = vi.fn((text: string) => `<${text}>`);
    const custom = { getTypeParser: () => parse };
    const decoder = new RowDecoder([field('a', builtins.INT4), field('b', builtins.TEXT), field('c', 0)], custom);
    expect(decode(decoder, dataRow(['1', null, 'x']))).toEqual({ a: '<1>', b: null, c: '<x>' });
    expect(parse.mock.calls).toEqual([['1'], ['x']]);
  });

  it("lets an exception of the application's parser through", () => {
    const thrown = new TypeError('mine');
    const custom = {
      getTypeParser: () => () => {
        throw thrown;
      },
    };
    expect(() => decode(new RowDecoder(FIELDS, custom), dataRow(TEXTS))).toThrow(thrown);
  });

  it('asks for the parser of each column by its type, for text', () => {
    const getTypeParser = vi.fn(() => String);
    new RowDecoder(FIELDS, { getTypeParser });
    expect(getTypeParser.mock.calls).toEqual(COLUMNS.map(([, oid]) => [oid, 'text']));
  });

  it('keeps what pg keeps in its Result', () => {
    const decoder = new RowDecoder(FIELDS, types);
    const result = new Result(undefined, types);
    result.addFields(FIELDS);
    expect(decoder.fields).toEqual(result.fields);
    expect(decoder).toMatchObject({
      parsers: (result as unknown as { _parsers: unknown[] })._parsers,
      emptyRow: (result as unknown as { _prebuiltEmptyResultObject: object })._prebuiltEmptyResultObject,
    });
  });

  describe('isCurrent', () => {
    it('as long as every parser is the one that it was made with', () => {
      const parsers = new Map<number, (text: string) => unknown>();
      const custom: TypeParsers = { getTypeParser: (oid) => parsers.get(oid) ?? types.getTypeParser(oid, 'text') };
      const decoder = new RowDecoder(FIELDS, custom);
      expect(decoder.isCurrent(custom)).toBe(true);
      parsers.set(builtins.FLOAT4, Number);
      expect(decoder.isCurrent(custom)).toBe(true);
      parsers.set(builtins.JSONB, String);
      expect(decoder.isCurrent(custom)).toBe(false);
      parsers.delete(builtins.JSONB);
      expect(decoder.isCurrent(custom)).toBe(true);
    });

    it('is asked of the one who asks, too', () => {
      expect(new RowDecoder(FIELDS, types).isCurrent({ getTypeParser: () => String })).toBe(false);
    });
  });

  describe('a row that does not fit', () => {
    const body = dataRow(['1', null, 'text']);
    const fields = [field('a', builtins.INT4), field('b', builtins.TEXT), field('c', builtins.TEXT)];
    const decoder = new RowDecoder(fields, types);
    const violated = (bytes: Buffer): void => {
      for (const asArray of [false, true]) {
        expect(() => decode(decoder, bytes, asArray)).toThrow(ProtocolViolation);
      }
    };
    const changed = (change: (copy: Buffer) => void): Buffer => {
      const copy = Buffer.from(body);
      change(copy);
      return copy;
    };

    it('fits before it is changed', () => expect(decode(decoder, body)).toEqual({ a: 1, b: null, c: 'text' }));

    it('is cut off, wherever', () => {
      for (let length = 0; length < body.length; length++) violated(body.subarray(0, length));
    });

    it('has something behind it', () => violated(Buffer.concat([body, Buffer.from([0])])));

    it.each([0, 1, 2, 4, 0xffff])('has %i columns instead of three', (count) => {
      violated(changed((copy) => copy.writeUInt16BE(count)));
    });

    it.each([-2, -3, -0x80000000, 0x7fffffff, 12, 1_000])('has a value of %i bytes', (length) => {
      violated(changed((copy) => copy.writeInt32BE(length, 2)));
      violated(changed((copy) => copy.writeInt32BE(length, 11)));
    });

    it.each([3, 5])('has a last value of %i bytes instead of four', (length) => {
      violated(changed((copy) => copy.writeInt32BE(length, 11)));
    });
  });
});
