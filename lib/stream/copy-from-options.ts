import { assertKnownKeys } from '../config/unknown-option.js';
import { copyOptionError } from './copy-error.js';
import { FORMAT_KEYS, formatClause, type CopyFormatOptions } from './copy-format.js';
import { assertColumns, columnList, quoteTable, type CopyTable } from './copy-table.js';

/** How far a COPY has come. */
export interface CopyProgress {
  /** Rows that have been sent; undefined where bytes are, whose rows only the server counts. */
  readonly rows: number | undefined;
  /** Bytes that have been sent. */
  readonly bytes: number;
}

interface CopyFromBase {
  readonly table: CopyTable;
  /** Ends it with `PG_ABORTED`; nothing is stored. */
  readonly signal?: AbortSignal;
  /** Called after each chunk of about 64 kB; what it throws ends the COPY. */
  readonly onProgress?: (progress: CopyProgress) => void;
  /** Of an Observable, which cannot be told to wait: the most items that may. One more ends the COPY. Default 100 000. */
  readonly maxBuffered?: number;
}

/** For a source of rows. */
export interface CopyRowsFromOptions extends CopyFromBase {
  /** What the rows hold: arrays in this order, objects under these names. */
  readonly columns: readonly string[];
  readonly format?: undefined;
  /**
   * How rows are sent. Default: in binary where all columns are of types that have an exact form in it, and all values of the first
   * chunk do; as text otherwise, which all values can be sent as, at about two thirds of the speed.
   */
  readonly rowFormat?: 'binary' | 'text';
}

/** For a source of bytes, which are sent as they are. */
export interface CopyBytesFromOptions extends CopyFromBase, CopyFormatOptions {
  /** What the bytes hold. Default: all columns of the table, but for generated ones. */
  readonly columns?: readonly string[];
}

/** What is to be done, checked. */
export interface CopyFromPlan {
  readonly table: string;
  readonly columns: readonly string[] | undefined;
  /** The command up to its options. */
  readonly command: string;
  /** Its options, where the source is one of bytes. */
  readonly clause: string | undefined;
  readonly rowFormat: 'binary' | 'text' | undefined;
  /** Texts are sent in UTF-8. */
  readonly takesTexts: boolean;
  readonly maxBuffered: number;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: CopyProgress) => void) | undefined;
}

const DEFAULT_BUFFERED = 100_000;
const KEYS = ['table', 'columns', 'signal', 'onProgress', 'maxBuffered', 'rowFormat', ...FORMAT_KEYS];
const ROW_FORMATS: readonly unknown[] = [undefined, 'binary', 'text'];
const UTF8 = /^utf-?8$/i;

/** @throws PgModuleError `PG_CONFIG_INVALID` */
export function copyFromPlan(options: CopyRowsFromOptions | CopyBytesFromOptions): CopyFromPlan {
  assertKnownKeys(options, KEYS, 'options of copyFrom()');
  const { columns, signal, onProgress, maxBuffered = DEFAULT_BUFFERED } = options;
  const { rowFormat } = options as CopyRowsFromOptions;
  const isBytes = options.format !== undefined;
  const table = quoteTable(options.table);
  if (!isBytes || columns !== undefined) assertColumns(columns);
  if (isBytes && rowFormat !== undefined) throw copyOptionError('format is for bytes and rowFormat for rows: give one');
  if (!isBytes) {
    const stray = FORMAT_KEYS.find((key) => (options as Partial<CopyFormatOptions>)[key] !== undefined);
    if (stray) throw copyOptionError(`${stray} is an option of bytes: give a format as well`);
  }
  if (!ROW_FORMATS.includes(rowFormat)) {
    throw copyOptionError('rowFormat has to be "binary" or "text"');
  }
  if (!Number.isInteger(maxBuffered) || maxBuffered < 1) {
    throw copyOptionError('maxBuffered has to be an integer of at least 1');
  }
  if (signal !== undefined && !((signal as unknown) instanceof AbortSignal)) {
    throw copyOptionError('signal has to be an AbortSignal');
  }
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw copyOptionError('onProgress has to be a function');
  }
  return {
    table,
    columns,
    command: `COPY ${table}${columnList(columns)} FROM STDIN`,
    clause: isBytes ? formatClause(options, 'from') : undefined,
    rowFormat,
    takesTexts: UTF8.test((options as CopyBytesFromOptions).encoding ?? 'utf8'),
    maxBuffered,
    signal,
    onProgress,
  };
}
