import type { ResolvedTls, SslMode } from '../config/resolved-config.js';

/** Whether an attempt asks for TLS at all. */
export type TlsDecision = 'plain' | 'tls';

/** How much of the server's certificate is checked: nothing, its chain to a trusted root, or also its name. */
export type Verification = 'none' | 'ca' | 'full';

/** The ways in which an attempt fails before the server has accepted the user. */
export type AttemptFailure =
  /** The answer to SSLRequest was `N`. */
  | 'tls-unavailable'
  /** An ErrorResponse before AuthenticationOk: no matching pg_hba.conf line, a wrong password, no such database. */
  | 'error-response'
  /** The handshake failed, the certificate was refused, or the key material at its default place is unusable. */
  | 'tls-failure'
  /** Everything else: an `E` answer to SSLRequest, EOF, a garbage byte, our own refusal of an authentication method. */
  | 'other';

/** What follows such a failure: go on unencrypted on the same socket, open the next attempt, or give this host up. */
export type AfterFailure = 'continue-plain' | 'next-attempt' | 'fail';

interface SslModeRule {
  /** In this order; the second is only reached through `after`. */
  readonly attempts: readonly [TlsDecision, TlsDecision?];
  /** What a failure of the *first* attempt leads to. What is not listed fails, as does every failure of a second. */
  readonly after: Readonly<Partial<Record<AttemptFailure, AfterFailure>>>;
  readonly verifyWithRoot: Verification;
  /** `undefined` = TLS is refused without a root. */
  readonly verifyWithoutRoot: Verification | undefined;
}

/**
 * libpq's six modes, whole (fe-connect.c: select_next_encryption_method, the SSLRequest and authentication states;
 * fe-secure-openssl.c: initialize_SSL). A root that is present verifies the chain in every mode that uses TLS; what the
 * opportunistic modes lack is not the check but the consequence, since a failed check in `prefer` ends in plain text.
 */
export const SSL_MODES: Readonly<Record<SslMode, SslModeRule>> = {
  disable: { attempts: ['plain'], after: {}, verifyWithRoot: 'none', verifyWithoutRoot: 'none' },
  allow: {
    attempts: ['plain', 'tls'],
    after: { 'error-response': 'next-attempt' },
    verifyWithRoot: 'ca',
    verifyWithoutRoot: 'none',
  },
  prefer: {
    attempts: ['tls', 'plain'],
    after: { 'tls-unavailable': 'continue-plain', 'error-response': 'next-attempt', 'tls-failure': 'next-attempt' },
    verifyWithRoot: 'ca',
    verifyWithoutRoot: 'none',
  },
  require: { attempts: ['tls'], after: {}, verifyWithRoot: 'ca', verifyWithoutRoot: 'none' },
  'verify-ca': { attempts: ['tls'], after: {}, verifyWithRoot: 'ca', verifyWithoutRoot: undefined },
  'verify-full': { attempts: ['tls'], after: {}, verifyWithRoot: 'full', verifyWithoutRoot: undefined },
};

/**
 * The attempts for one address, in order. A Unix socket is always plain, whatever the mode: its peer is the local
 * kernel, and PostgreSQL speaks no TLS there (fe-connect.c, init_allowed_encryption_methods).
 */
export function tlsAttempts(tls: Pick<ResolvedTls, 'mode'>, isUnixSocket: boolean): TlsDecision[] {
  if (isUnixSocket) return ['plain'];
  return SSL_MODES[tls.mode].attempts.filter((decision) => decision !== undefined);
}

/**
 * What follows when the attempt `decision` of this mode has failed. Errors after AuthenticationOk are no matter of TLS,
 * and SQLSTATE 57P03 (the server starts up or stops) goes to the next host in every mode: neither is asked here.
 */
export function afterFailure(
  tls: Pick<ResolvedTls, 'mode'>,
  decision: TlsDecision,
  failure: AttemptFailure,
): AfterFailure {
  const rule = SSL_MODES[tls.mode];
  return decision === rule.attempts[0] ? (rule.after[failure] ?? 'fail') : 'fail';
}

/**
 * How much of the server's certificate is checked in this mode.
 *
 * @returns `undefined` when the mode does not connect over TLS without a root (`verify-ca`, `verify-full`).
 */
export function verification(tls: Pick<ResolvedTls, 'mode'>, rootPresent: true): Verification;
export function verification(tls: Pick<ResolvedTls, 'mode'>, rootPresent: boolean): Verification | undefined;
export function verification(tls: Pick<ResolvedTls, 'mode'>, rootPresent: boolean): Verification | undefined {
  const rule = SSL_MODES[tls.mode];
  return rootPresent ? rule.verifyWithRoot : rule.verifyWithoutRoot;
}
