import { Buffer, isUtf8 } from 'node:buffer';
import { kindOf } from '../config/unknown-option.js';
import { ByteWriter } from '../util/byte-writer.js';
import type { CopyColumn } from './copy-columns.js';
import { copyEncoder, writeBytes, type CopyEncoder } from './copy-encoders.js';
import { copyRowError } from './copy-error.js';
import { copyValue, parameterOf, type CopyValue } from './copy-value.js';

/** A row: an array in the order of the columns, or an object with their names as keys. */
export type CopyRow = readonly unknown[] | Readonly<Record<string, unknown>>;

/** Rows on their way to bytes. */
export interface CopyRowWriter {
  /** About how many bytes have been written and not been taken. */
  readonly size: number;
  /** Undefined when it is written; otherwise the index of the column whose value has no exact form in this format. */
  write(row: CopyRow, number: number): number | undefined;
  /** The bytes of the rows since the last call. */
  take(): Buffer;
  /** What stands behind the last row. */
  readonly trailer: Buffer;
}

const HEADER = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
const TRAILER = Buffer.from([0xff, 0xff]);
const NOTHING = Buffer.alloc(0);
/** What is kept from one chunk to the next. */
const KEEP = 256 * 1_024;

/** Calls what is the application's: `toPostgres`, `toJSON`, `toString`, getters. */
function valueOf(row: CopyRow, index: number, name: string, number: number): CopyValue {
  try {
    const value = Array.isArray(row)
      ? (row as readonly unknown[])[index]
      : (row as Readonly<Record<string, unknown>>)[name];
    return value == null ? null : copyValue(value);
  } catch (cause) {
    throw copyRowError(number, name, `its value could not be converted: ${messageOf(cause)}`, cause);
  }
}

function assertRow(row: unknown, columns: readonly CopyColumn[], number: number): asserts row is CopyRow {
  if (Array.isArray(row)) {
    if (row.length === columns.length) return;
    throw copyRowError(number, undefined, `it has ${row.length} values, and there are ${columns.length} columns`);
  }
  if (typeof row === 'object' && row !== null && !ArrayBuffer.isView(row)) return;
  throw copyRowError(
    number,
    undefined,
    `a row is an array in the order of the columns, or an object with their names; this is ${kindOf(row)}. For bytes, give a format`,
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Rows in PostgreSQL's binary format. */
export class BinaryRows implements CopyRowWriter {
  readonly trailer = TRAILER;
  readonly #out = new ByteWriter(KEEP);
  readonly #columns: readonly CopyColumn[];
  readonly #names: readonly string[];
  readonly #encoders: readonly CopyEncoder[];

  private constructor(columns: readonly CopyColumn[], encoders: readonly CopyEncoder[]) {
    this.#columns = columns;
    this.#names = columns.map(({ name }) => name);
    this.#encoders = encoders;
    this.#out.raw(HEADER);
  }

  /** Or the first column of a type that is not written in binary. */
  static of(columns: readonly CopyColumn[]): BinaryRows | CopyColumn {
    const encoders: CopyEncoder[] = [];
    for (const column of columns) {
      const encoder = copyEncoder(column.types);
      if (!encoder) return column;
      encoders.push(encoder);
    }
    return new BinaryRows(columns, encoders);
  }

  get size(): number {
    return this.#out.length;
  }

  write(row: CopyRow, number: number): number | undefined {
    assertRow(row, this.#columns, number);
    const out = this.#out;
    const encoders = this.#encoders;
    const names = this.#names;
    const start = out.length;
    out.int16(encoders.length);
    for (let index = 0; index < encoders.length; index++) {
      const value = valueOf(row, index, names[index] as string, number);
      if (value === null) out.int32(-1);
      // Bytes are in the type's own format, whatever the type: so it is with parameters.
      else if (value instanceof Uint8Array) writeBytes(out, value);
      else if (!(encoders[index] as CopyEncoder)(out, value)) {
        out.length = start;
        return index;
      }
    }
    return undefined;
  }

  take(): Buffer {
    return this.#out.take();
  }
}

const SPECIAL = /[\\\n\r\t]/;
const ALL_SPECIAL = /[\\\n\r\t]/g;
const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** Rows in PostgreSQL's text format. */
export class TextRows implements CopyRowWriter {
  readonly trailer = NOTHING;
  readonly #columns: readonly CopyColumn[];
  #text = '';

  constructor(columns: readonly CopyColumn[]) {
    this.#columns = columns;
  }

  get size(): number {
    return this.#text.length;
  }

  write(row: CopyRow, number: number): undefined {
    const columns = this.#columns;
    assertRow(row, columns, number);
    let line = '';
    for (let index = 0; index < columns.length; index++) {
      const column = columns[index] as CopyColumn;
      const value = valueOf(row, index, column.name, number);
      if (index > 0) line += '\t';
      if (value === null) line += '\\N';
      else if (typeof value === 'string') line += escaped(value);
      else if (typeof value === 'number' || typeof value === 'bigint') line += String(value);
      else if (value instanceof Uint8Array) line += this.#bytes(value, column, number);
      else line += this.#converted(value, column, number);
    }
    this.#text += `${line}\n`;
  }

  take(): Buffer {
    const bytes = Buffer.from(this.#text);
    this.#text = '';
    return bytes;
  }

  #converted(value: CopyValue, { name }: CopyColumn, number: number): string {
    try {
      return escaped(String(parameterOf(value)));
    } catch (cause) {
      throw copyRowError(number, name, `its value could not be converted: ${messageOf(cause)}`, cause);
    }
  }

  #bytes(value: Uint8Array, { name, types }: CopyColumn, number: number): string {
    const receive = types.at(-1)?.receive;
    if (receive === 'bytearecv' && !types.some((type) => type.receive === 'array_recv')) {
      return `\\\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}`;
    }
    if (receive !== undefined && TEXTUAL.has(receive) && types.every((type) => type.receive !== 'array_recv')) {
      if (isUtf8(value)) return escaped(Buffer.from(value).toString());
      throw copyRowError(number, name, 'its bytes are no text in UTF-8');
    }
    throw copyRowError(number, name, 'bytes are for a column of type bytea where rows are sent as text');
  }
}

const TEXTUAL: ReadonlySet<string> = new Set([
  'textrecv',
  'varcharrecv',
  'bpcharrecv',
  'citextrecv',
  'enum_recv',
  'json_recv',
]);

function escaped(text: string): string {
  return SPECIAL.test(text) ? text.replace(ALL_SPECIAL, (character) => ESCAPES[character] ?? character) : text;
}
