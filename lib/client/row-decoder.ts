import type { FieldDef } from 'pg';
import { columnReader, type ColumnReader, type TypeParser } from './column-reader.js';
import { ProtocolViolation } from './protocol-violation.js';

/** Finds the parser for a type, as pg does for each result. */
export interface TypeParsers {
  getTypeParser(oid: number, format: 'text'): TypeParser;
}

type Key = string | number;
type Row = Record<string, unknown> | unknown[];

/**
 * Reads the rows of one statement straight from the messages: no array of strings in between, no row that is copied.
 * Made once for a statement and used for all its results, as long as the application has not changed a parser.
 */
export class RowDecoder {
  readonly description: Buffer | undefined;
  readonly fields: readonly FieldDef[];
  /** What pg keeps in its Result under these names. */
  readonly parsers: readonly TypeParser[];
  readonly emptyRow: Readonly<Record<string, null>>;
  readonly #names: readonly string[];
  readonly #indexes: readonly number[];
  readonly #readers: readonly ColumnReader[];
  /** A name that every object has, with a meaning of its own: written only where the row has it already. */
  readonly #hasInherited: boolean;

  /** `description` = the body of the message that `fields` was read from. */
  constructor(fields: readonly FieldDef[], types: TypeParsers, description?: Buffer) {
    this.description = description;
    this.fields = fields;
    const names: string[] = [];
    const indexes: number[] = [];
    const parsers: TypeParser[] = [];
    const readers: ColumnReader[] = [];
    let hasInherited = false;
    for (const { name, dataTypeID } of fields) {
      const parse = types.getTypeParser(dataTypeID, 'text');
      indexes.push(names.length);
      names.push(name);
      parsers.push(parse);
      readers.push(columnReader(parse));
      hasInherited ||= Object.hasOwn(Object.prototype, name);
    }
    this.parsers = parsers;
    this.emptyRow = emptyRowOf(names, hasInherited);
    this.#names = names;
    this.#indexes = indexes;
    this.#readers = readers;
    this.#hasInherited = hasInherited;
  }

  /** Whether the application's parsers are still those that this decoder was made with. */
  isCurrent(types: TypeParsers): boolean {
    const { fields, parsers } = this;
    for (let column = 0; column < fields.length; column++) {
      const oid = fields[column]?.dataTypeID ?? 0;
      if (types.getTypeParser(oid, 'text') !== parsers[column]) return false;
    }
    return true;
  }

  /**
   * The row of a DataRow message, whose body stands from `start` to `end`.
   *
   * @throws ProtocolViolation if it is no such message; whatever a parser of the application throws
   */
  decode(bytes: Buffer, start: number, end: number, asArray: boolean): Row {
    const readers = this.#readers;
    const keys = asArray ? this.#indexes : this.#names;
    const row = asArray ? new Array<unknown>(readers.length) : this.#hasInherited ? { ...this.emptyRow } : {};
    if (start + 2 > end || bytes.readUInt16BE(start) !== readers.length) throw malformed();
    let at = start + 2;
    for (let column = 0; column < readers.length; column++) {
      if (at + 4 > end) throw malformed();
      const length = bytes.readInt32BE(at);
      at += 4;
      const next = length === -1 ? at : at + length;
      if (next < at || next > end) throw malformed();
      // eslint-disable-next-line @typescript-eslint/no-non-null-assertion -- both have as many as there are columns
      (row as Record<Key, unknown>)[keys[column]!] = length === -1 ? null : readers[column]!(bytes, at, next);
      at = next;
    }
    if (at !== end) throw malformed();
    return row;
  }
}

/** Any name is data to an object without a prototype, and to its copy; both are dear, and seldom needed. */
function emptyRowOf(names: readonly string[], hasInherited: boolean): Record<string, null> {
  const row = (hasInherited ? Object.create(null) : {}) as Record<string, null>;
  for (const name of names) row[name] = null;
  return hasInherited ? { ...row } : row;
}

function malformed(): ProtocolViolation {
  return new ProtocolViolation('a row that does not fit its own description');
}
