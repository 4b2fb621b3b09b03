import { PgModuleError } from '../errors/pg-module.error.js';

export function configError(message: string, cause?: unknown): PgModuleError {
  return new PgModuleError('PG_CONFIG_INVALID', message, cause === undefined ? undefined : { cause });
}
