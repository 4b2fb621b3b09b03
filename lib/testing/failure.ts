import { PgModuleError } from '../errors/pg-module.error.js';

/** The one error that this folder raises for anything that is not a mistake in the options. */
export function failure(message: string, cause?: unknown): PgModuleError {
  return new PgModuleError('PG_TEST_SERVER_FAILED', message, cause === undefined ? undefined : { cause });
}

/** The `code` of a Node system error (`ENOENT`, `EACCES`, ...), if it is one. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
