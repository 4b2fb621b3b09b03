import { PgModuleError } from '../errors/pg-module.error.js';

/** The server sent what the protocol does not allow here. The stream cannot be understood any further. */
export class ProtocolViolation extends PgModuleError {
  constructor(what: string) {
    super('PG_CONNECTION_LOST', `the server sent ${what}: the connection is out of step and was closed.`);
  }
}
