import { inspect } from 'node:util';
import { PgModuleError } from '../errors/pg-module.error.js';

/** The part of opening a connection in which something went wrong; `password` = the function given as `password`. */
export type ConnectPhase =
  'name look-up' | 'TCP connect' | 'TLS' | 'authentication' | 'password' | 'session check' | 'onConnect';

/** One address that was tried, and what came of it. */
export interface FailedAttempt {
  /** As written in the settings. */
  readonly host: string;
  readonly port: number;
  /** The address behind the name, when the look-up got so far. */
  readonly address: string | undefined;
  readonly encryption: 'tls' | 'plain';
  readonly phase: ConnectPhase;
  readonly error: Error;
}

/**
 * No connection could be opened. `attempts` lists what was tried, in order; the message says it in one line.
 */
export class PgConnectError extends PgModuleError {
  override readonly name = 'PgConnectError';
  readonly attempts: readonly FailedAttempt[];
  /** Trying again cannot help: wrong password, unknown database, refused certificate, contradictory settings. */
  readonly permanent: boolean;

  constructor(message: string, attempts: readonly FailedAttempt[], permanent: boolean) {
    super('PG_CONNECT_FAILED', message, { cause: attempts.at(-1)?.error });
    this.attempts = attempts;
    this.permanent = permanent;
  }

  /** The message says what the attempts and the cause would say again, at length. */
  [inspect.custom](): string {
    return this.stack ?? this.message;
  }
}
