import type { SecureContext } from 'node:tls';
import type { CustomTypesConfig } from 'pg';
import type { Secret } from '../errors/secret.js';

/** libpq's six modes, see https://www.postgresql.org/docs/18/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS */
export type SslMode = 'disable' | 'allow' | 'prefer' | 'require' | 'verify-ca' | 'verify-full';

export type TlsVersion = 'TLSv1' | 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3';

/** A password, or a function that is asked for it before every new connection. */
export type Password = string | (() => string | Promise<string>);

/**
 * Where key material comes from. A `file` is read again when it changes; `required: false` marks libpq's default
 * locations (`~/.postgresql/root.crt`, ...), whose absence has a meaning instead of being an error.
 */
export type PemSource =
  | { readonly kind: 'file'; readonly path: string; readonly required: boolean }
  | { readonly kind: 'inline'; readonly pem: Secret<string | Buffer> }
  | { readonly kind: 'system' };

export interface ResolvedTls {
  readonly mode: SslMode;
  readonly negotiation: 'postgres' | 'direct';
  /** The trusted roots; `undefined` = none named and no home directory to look in. */
  readonly ca: PemSource | undefined;
  readonly cert: PemSource | undefined;
  readonly key: PemSource | undefined;
  readonly passphrase: Secret<string> | undefined;
  readonly certMode: 'disable' | 'allow' | 'require';
  readonly crl: PemSource | undefined;
  readonly crlDir: string | undefined;
  readonly minVersion: TlsVersion | undefined;
  readonly maxVersion: TlsVersion | undefined;
  /** Server Name Indication: libpq's `sslsni`. */
  readonly sni: boolean;
  /** The name to send and to verify instead of the host's; `undefined` = the host as written. */
  readonly serverName: string | undefined;
  readonly keyLogFile: string | undefined;
  /** A ready context of the user's; it replaces ca, cert, key and crl. */
  readonly secureContext: SecureContext | undefined;
}

/** One entry of the host list. A `host` that starts with `/` or `@` is a directory of Unix sockets. */
export interface HostEntry {
  /** As written: what the server's certificate is checked against. */
  readonly host: string | undefined;
  /** libpq's `hostaddr`: a numeric address that spares the name look-up. */
  readonly hostaddr: string | undefined;
  readonly port: number;
  /** From the password file, which is matched host by host. The configured password, if any, comes first. */
  readonly password: Secret<string> | undefined;
}

export type TargetSessionAttrs = 'any' | 'read-write' | 'read-only' | 'primary' | 'standby' | 'prefer-standby';

/** The place from which a setting's value was taken, by falling precedence. */
export type SettingSource = 'option' | 'string' | 'service' | 'environment' | 'passfile' | 'default';

declare const resolved: unique symbol;

/**
 * Everything that opening a connection needs, decided once and frozen. Only `resolveConfig` makes one: the brand keeps
 * half-checked objects out of the layers below.
 */
export interface ResolvedConfig {
  readonly [resolved]: true;
  readonly hosts: readonly HostEntry[];
  readonly user: string;
  readonly database: string;
  /** The configured password; a host's own from the password file is used when this is `undefined`. */
  readonly password: Secret<Password> | undefined;
  readonly tls: ResolvedTls;
  /** libpq's `require_auth`, as the list of methods that the server may ask for; `undefined` = any. */
  readonly requireAuth: RequireAuth | undefined;
  readonly channelBinding: 'disable' | 'prefer' | 'require';
  readonly targetSessionAttrs: TargetSessionAttrs;
  readonly loadBalanceHosts: 'disable' | 'random';
  /** libpq's `connect_timeout`, for one attempt (one address); `undefined` = not set, 0 = none. */
  readonly connectTimeoutMillis: number | undefined;
  /** Milliseconds that the client waits for a query's answer, 0 = none. */
  readonly queryTimeoutMillis: number;
  readonly keepalive: { readonly enabled: boolean; readonly idleMillis: number };
  /** Startup parameters of the session: application_name, options, client settings, replication, timeouts. */
  readonly session: Readonly<Record<string, string>>;
  readonly types: CustomTypesConfig | undefined;
  /** For each libpq keyword that has a value: where it came from. */
  readonly sources: Readonly<Record<string, SettingSource>>;
}

export interface RequireAuth {
  readonly methods: ReadonlySet<AuthMethod>;
  /** `!method` form: the listed ones are refused and all others allowed. */
  readonly negated: boolean;
}

export type AuthMethod = 'none' | 'password' | 'md5' | 'gss' | 'sspi' | 'scram-sha-256' | 'oauth';
