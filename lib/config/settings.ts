import type { SecureContext } from 'node:tls';
import type { CustomTypesConfig } from 'pg';
import type { Password, SslMode, TargetSessionAttrs, TlsVersion } from './resolved-config.js';

/** PEM text, PEM or DER bytes, or a file that is read again when it changes. */
export type Pem = string | Buffer | { readonly file: string };

/**
 * TLS in words, each field one of libpq's keywords: it wins over the same keyword in the connection string, the service
 * file and the environment, and leaves the others as they are.
 *
 * Without a `mode`, an object that names a `ca` means `verify-full`. Any other object takes the mode from the connection
 * string, the service file or the environment, and where none of them has one it is `verify-full` too (against the
 * system's roots unless others are named): asking for TLS is never weaker here than the same words are in pg.
 */
export interface SslOptions {
  /** libpq's `sslmode`. */
  mode?: SslMode;
  /** Roots that the server's certificate must lead to, or `'system'` for those of the operating system. */
  ca?: Pem | 'system';
  /** The client's certificate (chain). */
  cert?: Pem;
  /** The client's private key. */
  key?: Pem;
  /** Decrypts `key`. */
  passphrase?: string;
  /** Certificate revocation list. */
  crl?: Pem;
  /** Directory of revocation lists. */
  crlDir?: string;
  /** `direct` starts TLS without asking first (PostgreSQL 17 and later). Default `postgres`. */
  negotiation?: 'postgres' | 'direct';
  /** Default TLSv1.2. */
  minVersion?: TlsVersion;
  maxVersion?: TlsVersion;
  /** The name to send (SNI) and to verify instead of the host's; `false` sends none and verifies the host's. */
  serverName?: string | false;
  /** A ready context; excludes ca, cert, key, passphrase, crl and crlDir. */
  secureContext?: SecureContext;
}

/**
 * Connection settings as an application writes them. Each is optional: what is missing comes from `connectionString`,
 * then from the service file, the PG* environment, and libpq's defaults, in this order.
 */
export interface ConnectionSettings {
  /** A URI (`postgresql://...`) or libpq's `key=value` form. */
  connectionString?: string;
  /** Name or address of the server, several separated by commas, or a directory of Unix sockets (`/...`). */
  host?: string;
  /** Numeric address(es) that spare the name look-up; `host` is still what TLS verifies. */
  hostaddr?: string;
  /** One port for all hosts, or one for each, separated by commas. */
  port?: number | string;
  database?: string;
  user?: string;
  /** Text, or a function called before every new connection (short-lived tokens). */
  password?: Password;
  /** Name of a section in the service file. */
  service?: string;
  /** Password file instead of ~/.pgpass. */
  passfile?: string;
  application_name?: string;
  fallback_application_name?: string;
  /** Command-line options for the backend, e.g. `-c search_path=app`. */
  options?: string;
  client_encoding?: string;
  replication?: string;
  /** Milliseconds, 0 = none; sent at start-up. */
  statement_timeout?: number;
  /** Milliseconds, 0 = none; sent at start-up. */
  lock_timeout?: number;
  /** Milliseconds, 0 = none; sent at start-up. */
  idle_in_transaction_session_timeout?: number;
  /** Milliseconds that the client waits for a query's answer, 0 = none. */
  query_timeout?: number;
  target_session_attrs?: TargetSessionAttrs;
  load_balance_hosts?: 'disable' | 'random';
  channel_binding?: 'disable' | 'prefer' | 'require';
  /** Methods that the server may ask for, e.g. `scram-sha-256` or `!password,!md5`. */
  require_auth?: string;
  /** TCP keepalive. Default true, as libpq. */
  keepAlive?: boolean;
  /** Idle time before the first keepalive probe. Default 0 = the system's. */
  keepAliveInitialDelayMillis?: number;
  /** pg's type parsers for results. */
  types?: CustomTypesConfig;
  /**
   * `false` = disable; `true` = verify-full, against the roots that string, service or environment name, else against
   * the system's; a mode's name = `sslmode` with libpq's meaning; or {@link SslOptions}.
   */
  ssl?: boolean | SslMode | SslOptions;
}
