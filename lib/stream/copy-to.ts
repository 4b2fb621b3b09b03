import { AsyncResource } from 'node:async_hooks';
import type { Readable } from 'node:stream';
import { assertKnownKeys } from '../config/unknown-option.js';
import type { ConnectionSource } from '../pool/connection-source.js';
import { copyOptionError } from './copy-error.js';
import { FORMAT_KEYS, formatClause, type CopyFormatOptions } from './copy-format.js';
import { CopyOut } from './copy-out.js';
import { assertColumns, columnList, quoteTable, type CopyTable } from './copy-table.js';

interface CopyToBase extends CopyFormatOptions {
  /** Ends the stream with `PG_ABORTED`, and what the server does for it. */
  readonly signal?: AbortSignal;
}

export interface CopyTableToOptions extends CopyToBase {
  /** A plain table: the rows of a view or of partitions are those of a query. */
  readonly table: CopyTable;
  /** Default: all columns, but for generated ones. */
  readonly columns?: readonly string[];
  readonly query?: undefined;
}

export interface CopyQueryToOptions extends CopyToBase {
  /** SELECT, VALUES, or INSERT, UPDATE, DELETE, MERGE with RETURNING. COPY takes no parameters. */
  readonly query: string;
  readonly table?: undefined;
  readonly columns?: undefined;
}

const KEYS = ['table', 'columns', 'query', 'signal', ...FORMAT_KEYS];

/**
 * The rows of a table or a query as bytes, by COPY: a Readable, and so an async iterable. It takes a connection when it is first
 * read, and gives it back at its end, or when it is destroyed; in a transaction in which it was made it runs there. No more is
 * read from the server than is taken. For rows as objects there is `pool.stream()`.
 *
 * The stream fails with pg.DatabaseError, PgModuleError `PG_ABORTED` and those of `pool.connect()`.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID`
 */
export function copyTo(pool: ConnectionSource, options: CopyTableToOptions | CopyQueryToOptions): Readable {
  assertKnownKeys(options, KEYS, 'options of copyTo()');
  const { table, columns, query, signal } = options;
  if ((table === undefined) === (query === undefined)) throw copyOptionError('give a table or a query, one of them');
  if (signal !== undefined && !((signal as unknown) instanceof AbortSignal)) {
    throw copyOptionError('signal has to be an AbortSignal');
  }
  const text = `COPY ${whatOf(table, columns, query)} TO STDOUT ${formatClause(options, 'to')}`;
  const borrow = AsyncResource.bind(() => pool.borrow(signal));
  return new CopyOut(borrow, text, signal);
}

function whatOf(table: unknown, columns: unknown, query: unknown): string {
  if (table !== undefined) {
    if (columns !== undefined) assertColumns(columns);
    return `${quoteTable(table)}${columnList(columns)}`;
  }
  if (columns !== undefined) throw copyOptionError('columns belong to a table; those of a query are in its text');
  if (typeof query !== 'string' || query.trim() === '' || query.includes('\0')) {
    throw copyOptionError('query has to be the text of a statement');
  }
  // It may end with a comment.
  return `(${query}\n)`;
}
