import type { PgErrorCode } from './error-codes.js';

/**
 * Every failure that this package itself raises. What the server says stays pg's own `DatabaseError`, untouched.
 *
 * `message` tells what happened, with numbers, and what to do; `code` is stable; `cause` is the error underneath.
 */
export class PgModuleError extends Error {
  override readonly name: string = 'PgModuleError';
  readonly code: PgErrorCode;

  constructor(code: PgErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
