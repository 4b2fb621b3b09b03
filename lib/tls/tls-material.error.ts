import { PgModuleError } from '../errors/pg-module.error.js';

/**
 * Key material that cannot be used: missing, unreadable, not what it should be, or contradictory.
 *
 * `explicit` tells whether the settings named it. If so no mode may connect without it (stricter than libpq, whose
 * `prefer` then goes on unencrypted). Material that merely lies broken at a default place counts like a failed
 * handshake, as in libpq.
 */
export class TlsMaterialError extends PgModuleError {
  readonly explicit: boolean;

  constructor(message: string, options: { explicit: boolean; cause?: unknown }) {
    super('PG_CONFIG_INVALID', message, options.cause === undefined ? undefined : { cause: options.cause });
    this.explicit = options.explicit;
  }
}
