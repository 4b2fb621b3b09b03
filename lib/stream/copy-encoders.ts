import { isDate } from 'node:util/types';
import type { ByteWriter } from '../util/byte-writer.js';
import type { CopyType } from './copy-columns.js';
import { writeNumeric } from './copy-numeric.js';
import { writeDate, writeTime, writeTimestamp, writeTimestamptz } from './copy-time.js';
import { copyValue, parameterOf, type CopyValue } from './copy-value.js';

/**
 * Writes a value in the binary format of a type, its length first. False for one that has no exact form here: only the server
 * knows what it means. What has been written by then is to be forgotten.
 */
export type CopyEncoder = (out: ByteWriter, value: CopyValue) => boolean;

const INTEGER = /^-?\d{1,19}$/;
const FLOAT = /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
const NOTHING_BUT_ZERO = /^-?[0.]+(?:[eE]|$)/;
const UUID = /^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$/i;
const WORD = 2 ** 32;
/** MAXDIM of the server. */
const MOST_DIMENSIONS = 6;
const JSONB_VERSION = 1;

/** Values that are written as their text. */
const text: CopyEncoder = (out, value) => {
  if (typeof value === 'string') out.text(value);
  else writeParameter(out, value);
  return true;
};

function integer(least: number, most: number, write: (out: ByteWriter, value: number) => void): CopyEncoder {
  return (out, value) => {
    const number = typeof value === 'string' && INTEGER.test(value) ? Number(value) : value;
    if (typeof number === 'bigint') {
      if (number < least || number > most) return false;
      write(out, Number(number));
      return true;
    }
    if (typeof number !== 'number' || !Number.isInteger(number) || number < least || number > most) return false;
    write(out, number);
    return true;
  };
}

const int8: CopyEncoder = (out, value) => {
  if (Number.isSafeInteger(value)) {
    out.int32(8);
    out.int64(Math.floor((value as number) / WORD), (value as number) >>> 0);
    return true;
  }
  const isDigits = typeof value === 'string' || typeof value === 'number';
  const exact = typeof value === 'bigint' ? value : isDigits ? integerOf(String(value)) : undefined;
  if (exact === undefined || BigInt.asIntN(64, exact) !== exact) return false;
  out.int32(8);
  out.bigInt64(exact);
  return true;
};

/** A number beyond 2^53 is what its digits say, not what its bits do. */
function integerOf(digits: string): bigint | undefined {
  return INTEGER.test(digits) ? BigInt(digits) : undefined;
}

const float8: CopyEncoder = (out, value) => {
  let number = value;
  if (typeof value === 'string') {
    number = FLOAT.test(value) ? Number(value) : (undefined as never);
    // The server refuses what is too great or too small.
    if (number === Infinity || number === -Infinity || (number === 0 && !NOTHING_BUT_ZERO.test(value))) return false;
  } else if (value === 0) {
    // Its text has no sign.
    number = 0;
  }
  if (typeof number !== 'number') return false;
  out.int32(8);
  out.float64(number);
  return true;
};

const float4: CopyEncoder = (out, value) => {
  if (typeof value !== 'number') return false;
  const single = nearestSingle(value);
  if (Number.isFinite(value) && (!Number.isFinite(single) || (single === 0 && value !== 0))) return false;
  out.int32(4);
  out.float32(single === 0 ? 0 : single);
  return true;
};

/**
 * The single nearest to the number's digits, as the server reads them. These are not quite the number: where it lies in the
 * middle between two singles, its digits may not.
 */
function nearestSingle(value: number): number {
  const single = Math.fround(value);
  const other = 2 * value - single;
  if (single === value || !Number.isFinite(single) || Math.fround(other) !== other) return single;
  const [digits = '', power] = Math.abs(value).toExponential().split('e');
  const [exact = '', exactPower] = Math.abs(value).toExponential(100).split('e');
  const padded = digits.replace('.', '').padEnd(101, '0');
  const unrounded = exact.replace('.', '');
  if (power === exactPower && padded === unrounded) return single;
  const isAbove = power === exactPower ? padded > unrounded : Number(power) > Number(exactPower);
  return isAbove === Math.abs(single) > Math.abs(other) ? single : other;
}

const bool: CopyEncoder = (out, value) => {
  const isTrue = value === true || value === 'true' || value === 't';
  if (!isTrue && value !== false && value !== 'false' && value !== 'f') return false;
  out.int32(1);
  out.byte(isTrue ? 1 : 0);
  return true;
};

const uuid: CopyEncoder = (out, value) => {
  if (typeof value !== 'string' || !UUID.test(value)) return false;
  out.int32(16);
  for (let at = 0; at < 36; at += 2) {
    if (value[at] === '-') at++;
    out.byte((nibble(value.charCodeAt(at)) << 4) | nibble(value.charCodeAt(at + 1)));
  }
  return true;
};

function nibble(unit: number): number {
  return unit > 0x39 ? (unit & 0xf) + 9 : unit & 0xf;
}

const numeric: CopyEncoder = (out, value) =>
  (typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint') &&
  writeNumeric(out, String(value));

const jsonb: CopyEncoder = (out, value) => {
  const parameter = typeof value === 'string' ? value : parameterOf(value);
  if (typeof parameter !== 'string') return false;
  out.int32(0);
  const start = out.length;
  out.byte(JSONB_VERSION);
  out.characters(parameter);
  out.size(start);
  return true;
};

const ofMoment =
  (write: (out: ByteWriter, value: string | Date) => boolean): CopyEncoder =>
  (out, value) =>
    (typeof value === 'string' || isDate(value)) && write(out, value);

/** By the function of the server that reads the format. Domains are what is under them. */
const ENCODERS: Readonly<Record<string, CopyEncoder>> = {
  boolrecv: bool,
  int2recv: integer(-(2 ** 15), 2 ** 15 - 1, (out, value) => {
    out.int32(2);
    out.int16(value);
  }),
  int4recv: integer(-(2 ** 31), 2 ** 31 - 1, (out, value) => {
    out.int32(4);
    out.int32(value);
  }),
  int8recv: int8,
  float4recv: float4,
  float8recv: float8,
  numeric_recv: numeric,
  textrecv: text,
  varcharrecv: text,
  bpcharrecv: text,
  citextrecv: text,
  enum_recv: text,
  json_recv: text,
  jsonb_recv: jsonb,
  // Bytes go without an encoder; a text may be in one of two notations.
  bytearecv: () => false,
  uuid_recv: uuid,
  date_recv: ofMoment(writeDate),
  time_recv: (out, value) => typeof value === 'string' && writeTime(out, value),
  timestamp_recv: ofMoment(writeTimestamp),
  timestamptz_recv: ofMoment(writeTimestamptz),
};

/** The encoder for a column of a type, given with what the type is made of; undefined where there is none. */
export function copyEncoder([type, ...under]: readonly CopyType[]): CopyEncoder | undefined {
  if (type?.receive === undefined) return undefined;
  if (type.receive === 'domain_recv') return copyEncoder(under);
  if (type.receive === 'array_recv') return arrayEncoder(under);
  return ENCODERS[type.receive];
}

function arrayEncoder(element: readonly CopyType[]): CopyEncoder | undefined {
  const [type] = element;
  const encode = copyEncoder(element);
  if (!type || !encode || element.some(({ receive }, at) => at > 0 && receive === 'array_recv')) return undefined;
  const takesBytes = element.at(-1)?.receive === 'bytearecv';
  return (out, value) => {
    if (!Array.isArray(value)) return false;
    const lengths = lengthsOf(value);
    if (!lengths) return false;
    out.int32(0);
    const start = out.length;
    out.int32(lengths.length);
    // There may be nulls.
    out.int32(1);
    out.int32(type.oid);
    for (const length of lengths) {
      out.int32(length);
      out.int32(1);
    }
    if (!elements(out, value, lengths.length, encode, takesBytes)) return false;
    out.size(start);
    return true;
  };
}

function elements(
  out: ByteWriter,
  values: readonly unknown[],
  depth: number,
  encode: CopyEncoder,
  takesBytes: boolean,
): boolean {
  for (const value of values) {
    if (depth > 1) {
      if (!elements(out, value as readonly unknown[], depth - 1, encode, takesBytes)) return false;
      continue;
    }
    if (value == null) {
      out.int32(-1);
      continue;
    }
    const element = copyValue(value);
    // What becomes nothing is no element to pg.
    if (element === null) return false;
    if (element instanceof Uint8Array) {
      // pg writes bytes in an array as text, and what is `toPostgres` to it is no bytes.
      if (!takesBytes || !ArrayBuffer.isView(value)) return false;
      writeBytes(out, element);
    } else if (!encode(out, element)) return false;
  }
  return true;
}

/** How long an array is in each of its dimensions; undefined where it is no box. */
function lengthsOf(values: readonly unknown[]): number[] | undefined {
  if (values.length === 0) return [];
  const lengths: number[] = [];
  for (let at: unknown = values; Array.isArray(at); at = at[0]) lengths.push(at.length);
  return lengths.length <= MOST_DIMENSIONS && isBox(values, lengths, 0) ? lengths : undefined;
}

function isBox(values: readonly unknown[], lengths: readonly number[], depth: number): boolean {
  if (values.length !== lengths[depth] || values.length === 0) return false;
  const isLast = depth === lengths.length - 1;
  return values.every((value) =>
    isLast ? !Array.isArray(value) : Array.isArray(value) && isBox(value, lengths, depth + 1),
  );
}

/** As the parameter that pg would make of it; bytes are in the type's own format then. */
export function writeParameter(out: ByteWriter, value: unknown): void {
  const parameter = parameterOf(value);
  if (parameter == null) out.int32(-1);
  else if (typeof parameter === 'string') out.text(parameter);
  else writeBytes(out, parameter);
}

export function writeBytes(out: ByteWriter, bytes: Uint8Array): void {
  out.int32(bytes.length);
  out.raw(bytes);
}
