import type { AuthMethod, RequireAuth } from '../config/resolved-config.js';
import { PgModuleError } from '../errors/pg-module.error.js';

export interface AuthenticationPolicy {
  readonly requireAuth: RequireAuth | undefined;
  readonly channelBinding: 'disable' | 'prefer' | 'require';
  /** Whether the session is encrypted, so that channel binding is possible. */
  readonly encrypted: boolean;
  /** sslcertmode=require, and the server has not asked for our certificate. */
  readonly certificateMissing: boolean;
}

const PLUS = 'SCRAM-SHA-256-PLUS';

/**
 * Decides, before anything secret leaves, whether the server may authenticate us the way it asks. The rules are
 * libpq's `check_expected_areq` and `pg_SASL_init` (fe-auth.c): `require_auth` and `channel_binding`.
 *
 * Each method throws where the session must not go on.
 */
export class AuthenticationGuard {
  readonly #policy: AuthenticationPolicy;
  #method: AuthMethod = 'none';
  #bound = false;
  #unfinished = false;

  constructor(policy: AuthenticationPolicy) {
    this.#policy = policy;
  }

  /** The server asked for a password by an old method. */
  onPasswordRequest(method: 'password' | 'md5'): void {
    if (this.#policy.channelBinding === 'require') {
      throw refused(
        `channel_binding=require, but the server asks for ${method} authentication, which cannot bind the channel`,
        'use scram-sha-256 on the server, or relax channel_binding',
      );
    }
    this.#expect(method);
  }

  /** The server offers SASL mechanisms. */
  onSaslRequest(mechanisms: readonly string[]): void {
    const { channelBinding, encrypted } = this.#policy;
    const offersPlus = mechanisms.includes(PLUS);
    if (offersPlus && !encrypted) {
      throw refused('the server offered SCRAM-SHA-256-PLUS over an unencrypted connection', 'look for a proxy between');
    }
    if (channelBinding === 'require' && !encrypted) {
      throw refused('channel_binding=require, but the connection is not encrypted', 'set sslmode=require or stronger');
    }
    if (channelBinding === 'require' && !offersPlus) {
      throw refused(
        'channel_binding=require, but the server does not offer SCRAM-SHA-256-PLUS',
        'look for a proxy that ends TLS in between, or relax channel_binding',
      );
    }
    this.#expect('scram-sha-256');
    this.#bound = offersPlus && channelBinding !== 'disable';
    this.#unfinished = true;
  }

  /** The server has proved that it knows the password too. */
  onSaslFinal(): void {
    this.#unfinished = false;
  }

  /** The server lets us in. */
  onOk(): void {
    if (this.#unfinished) {
      throw refused(
        'the server ended SCRAM authentication before proving that it knows the password',
        'do not trust it',
      );
    }
    if (this.#policy.certificateMissing) {
      throw refused(
        'sslcertmode=require, but the server did not ask for a certificate',
        'set clientcert or the method cert in its pg_hba.conf, or relax sslcertmode',
      );
    }
    if (this.#method === 'none') this.#expect('none');
    if (this.#policy.channelBinding === 'require' && !this.#bound) {
      throw refused(
        'channel_binding=require, but the server let us in without it',
        'use scram-sha-256 on the server, or relax channel_binding',
      );
    }
  }

  #expect(method: AuthMethod): void {
    this.#method = method;
    const required = this.#policy.requireAuth;
    if (!required || required.methods.has(method) !== required.negated) return;
    const list = [...required.methods].map((name) => (required.negated ? `!${name}` : name)).join(',');
    throw refused(
      method === 'none'
        ? `require_auth=${list}, but the server let us in without authentication`
        : `require_auth=${list}, but the server asks for ${method} authentication`,
      'correct pg_hba.conf on the server, or require_auth',
    );
  }
}

function refused(what: string, remedy: string): PgModuleError {
  return new PgModuleError('PG_AUTH_REFUSED', `${what}: ${remedy}.`);
}
