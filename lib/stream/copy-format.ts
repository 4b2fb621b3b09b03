import pg from 'pg';
import { kindOf } from '../config/unknown-option.js';
import { copyOptionError } from './copy-error.js';

/** How COPY writes rows as bytes. */
export type CopyFormat = 'csv' | 'text' | 'binary';

/** How bytes are written: the options of PostgreSQL's COPY, under its names and with its defaults. */
export interface CopyFormatOptions {
  readonly format: CopyFormat;
  /** Of csv and text: the first line holds the columns' names. `match` (when reading): and they have to be the columns'. */
  readonly header?: boolean | 'match';
  /** Of csv and text: between columns, one ASCII character. Default: a comma in csv, a tab in text. */
  readonly delimiter?: string;
  /** Of csv and text: what stands for NULL. Default: nothing at all, unquoted, in csv; `\N` in text. */
  readonly null?: string;
  /** Of csv: one ASCII character. Default `"`. */
  readonly quote?: string;
  /** Of csv: what stands before a quote, or itself, in a quoted value: one ASCII character. Default: the quote. */
  readonly escape?: string;
  /** Of the bytes, by PostgreSQL's names, e.g. `LATIN1`. Default: that of the connection, which is UTF8. */
  readonly encoding?: string;
}

export const FORMAT_KEYS = ['format', 'header', 'delimiter', 'null', 'quote', 'escape', 'encoding'] as const;

const FORMATS: readonly unknown[] = ['csv', 'text', 'binary'];
/** Texts would be mistaken for data where one of these is the delimiter (src/backend/commands/copy.c). */
const NO_DELIMITER_OF_TEXT = /[\\.a-z0-9]/;
const HEADERS: Readonly<Record<'from' | 'to', readonly unknown[]>> = {
  from: [undefined, true, false, 'match'],
  to: [undefined, true, false],
};
const LINE_END = /[\r\n]/;

/**
 * The options as COPY takes them in parentheses.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID` for what the server would refuse
 */
export function formatClause(options: CopyFormatOptions, direction: 'from' | 'to'): string {
  const { format, header, delimiter, quote, escape, encoding } = options;
  if (!FORMATS.includes(format)) throw copyOptionError(`format has to be csv, text or binary; it is ${shown(format)}`);
  const of = (names: readonly (typeof FORMAT_KEYS)[number][], formats: string): void => {
    const name = names.find((key) => options[key] !== undefined);
    if (name) throw copyOptionError(`${name} is an option of ${formats}, and the format is ${format}`);
  };
  if (format === 'binary') of(['header', 'delimiter', 'null', 'quote', 'escape'], 'csv and text');
  if (format === 'text') of(['quote', 'escape'], 'csv');
  if (!HEADERS[direction].includes(header)) {
    const or = direction === 'from' ? ', or "match"' : '';
    throw copyOptionError(`header has to be true or false${or}; it is ${shown(header)}`);
  }
  for (const [name, value] of Object.entries({ delimiter, quote, escape })) assertCharacter(name, value);
  assertText('null', options.null);
  assertText('encoding', encoding);
  if (options.null !== undefined && LINE_END.test(options.null)) throw copyOptionError('null must not hold a line end');
  const isCsv = format === 'csv';
  const between = delimiter ?? (isCsv ? ',' : '\t');
  const around = isCsv ? (quote ?? '"') : undefined;
  if (!isCsv && NO_DELIMITER_OF_TEXT.test(between)) throw copyOptionError(`delimiter must not be ${shown(between)}`);
  if (between === around) throw copyOptionError('delimiter and quote must not be the same');
  if (options.null?.includes(between)) throw copyOptionError('null must not hold the delimiter');
  if (around !== undefined && options.null?.includes(around)) throw copyOptionError('null must not hold the quote');

  const clauses = [`FORMAT ${format}`];
  if (header !== undefined) clauses.push(`HEADER ${String(header)}`);
  for (const [name, value] of Object.entries({ delimiter, null: options.null, quote, escape, encoding })) {
    if (value !== undefined) clauses.push(`${name.toUpperCase()} ${pg.escapeLiteral(value)}`);
  }
  return `(${clauses.join(', ')})`;
}

function assertCharacter(name: string, value: unknown): void {
  if (value === undefined) return;
  const isOne = typeof value === 'string' && value.length === 1 && value > '\0' && value < '\x80';
  if (!isOne || LINE_END.test(value)) {
    throw copyOptionError(`${name} has to be one ASCII character, and no line end; it is ${shown(value)}`);
  }
}

function assertText(name: string, value: unknown): void {
  if (value !== undefined && (typeof value !== 'string' || value.includes('\0'))) {
    throw copyOptionError(`${name} has to be a text without the character U+0000; it is ${kindOf(value)}`);
  }
}

function shown(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value) : kindOf(value);
}
