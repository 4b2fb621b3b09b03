import { PgModuleError } from '../errors/pg-module.error.js';

/** For what is wrong before anything is sent. */
export function copyOptionError(what: string): PgModuleError {
  return new PgModuleError('PG_CONFIG_INVALID', `copyFrom(), copyTo(): ${what}.`);
}

/** A row that cannot be sent. Its value is not told: it may be a secret. */
export function copyRowError(row: number, column: string | undefined, reason: string, cause?: unknown): PgModuleError {
  const where = column === undefined ? `row ${row}` : `row ${row}, column "${column}"`;
  return new PgModuleError('PG_COPY_INVALID', `copyFrom(), ${where}: ${reason}. Nothing has been stored.`, { cause });
}

/** A source that gives what cannot be copied. */
export function copySourceError(reason: string): PgModuleError {
  return new PgModuleError('PG_COPY_INVALID', `copyFrom(): ${reason}. Nothing has been stored.`);
}
