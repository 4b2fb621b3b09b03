import pg from 'pg';
import { assertKnownKeys, kindOf } from '../config/unknown-option.js';
import { copyOptionError } from './copy-error.js';

/**
 * A table: its name, to be found along the `search_path`, or its schema and name. A text is one name, whatever is in it: it
 * is never split at a dot.
 */
export type CopyTable = string | { readonly schema?: string; readonly name: string };

/** @throws PgModuleError `PG_CONFIG_INVALID` */
export function quoteTable(table: unknown): string {
  if (typeof table === 'string') {
    if (table.includes('.')) {
      const [schema, ...name] = table.split('.');
      throw copyOptionError(
        `table "${table}" has a dot in it. Write { schema: '${schema}', name: '${name.join('.')}' }, or { name: '${table}' } for ` +
          'a table that is called so',
      );
    }
    return quoteName(table, 'table');
  }
  assertKnownKeys(table, ['schema', 'name'], 'table of copyFrom() or copyTo()');
  const { schema, name } = table as { schema?: unknown; name: unknown };
  const quoted = quoteName(name, 'table.name');
  return schema === undefined ? quoted : `${quoteName(schema, 'table.schema')}.${quoted}`;
}

/** @throws PgModuleError `PG_CONFIG_INVALID` */
export function assertColumns(columns: unknown): asserts columns is readonly string[] {
  if (!Array.isArray(columns) || columns.length === 0) {
    throw copyOptionError(`columns have to be an array of names, at least one; they are ${kindOf(columns)}`);
  }
  for (const column of columns) quoteName(column, 'a name in columns');
  const twice = columns.find((column, index) => columns.indexOf(column) !== index) as string | undefined;
  if (twice !== undefined) throw copyOptionError(`columns name "${twice}" twice`);
}

/** ` ("a", "b")`, or nothing where all columns are meant. */
export function columnList(columns: readonly string[] | undefined): string {
  return columns ? ` (${columns.map((column) => pg.escapeIdentifier(column)).join(', ')})` : '';
}

function quoteName(name: unknown, what: string): string {
  if (typeof name !== 'string' || name === '' || name.includes('\0')) {
    throw copyOptionError(`${what} has to be a name, without the character U+0000; it is ${kindOf(name)}`);
  }
  return pg.escapeIdentifier(name);
}
