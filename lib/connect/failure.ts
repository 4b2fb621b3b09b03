import pg from 'pg';
import { PgModuleError } from '../errors/pg-module.error.js';
import type { ConnectPhase } from './connect.error.js';

/** What a failure means for the rest of the list: libpq's try_next_addr, try_next_host, and the end. */
export type Next = 'encryption' | 'address' | 'host' | 'stop';

/** An attempt that came to nothing, and what follows from it. */
export class Failure extends Error {
  constructor(
    readonly phase: ConnectPhase,
    readonly next: Next,
    readonly error: Error,
    readonly permanent: boolean,
    /** When the session itself failed: whether it was encrypted. */
    readonly encrypted?: boolean,
  ) {
    super(error.message);
  }
}

/** pg calls bytes that it does not understand a DatabaseError as well; that one has no code. */
export function isServerError(error: Error): error is pg.DatabaseError & { readonly code: string } {
  return error instanceof pg.DatabaseError && error.code !== undefined;
}

/** Trying again with the same settings leads to the same refusal of ours. */
export function isInvalid(error: Error): boolean {
  return error instanceof PgModuleError && (error.code === 'PG_CONFIG_INVALID' || error.code === 'PG_AUTH_REFUSED');
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
