import { Secret } from '../errors/secret.js';
import { configError } from './config-error.js';
import { KEYWORDS, type Keyword } from './keywords.js';
import type { PemSource } from './resolved-config.js';
import { SSL_OPTION_HINTS, SSL_OPTION_KEYS } from './setting-hints.js';
import type { ConnectionSettings, SslOptions } from './settings.js';
import type { Values } from './stored-values.js';
import { assertKnownKeys, kindOf, nearest } from './unknown-option.js';

export type MaterialKeyword = 'sslrootcert' | 'sslcert' | 'sslkey' | 'sslcrl';

/** The `ssl` option in libpq's terms. */
export interface SslSettings {
  /** Keywords that the option sets; they win over string, service and environment one by one. */
  readonly values: Values;
  /** Key material given in memory, which no keyword can hold; it stands for its keyword. */
  readonly inline: Partial<Record<MaterialKeyword, PemSource>>;
  /**
   * TLS was asked for without saying how: unless a mode is set elsewhere it is `verify-full`, so that the same words
   * are never weaker than in pg, which verifies whatever is not told otherwise.
   */
  readonly strictByDefault: boolean;
  /** The mode was `true`: where nobody names roots, they are the system's and not ~/.postgresql/root.crt. */
  readonly systemRoots: boolean;
  readonly serverName: string | undefined;
  readonly secureContext: SslOptions['secureContext'];
}

const MODES = KEYWORDS.sslmode.choices ?? [];
const NONE: SslSettings = {
  values: {},
  inline: {},
  strictByDefault: false,
  systemRoots: false,
  serverName: undefined,
  secureContext: undefined,
};

const SHORT_HINTS: Readonly<Record<string, string>> = {
  true: 'write ssl: true',
  false: 'write ssl: false',
  'no-verify': "write ssl: 'require', which encrypts and believes whoever answers",
};

export function readSslOption(ssl: ConnectionSettings['ssl']): SslSettings {
  if (ssl === undefined) return NONE;
  if (ssl === false) return { ...NONE, values: { sslmode: 'disable' } };
  if (ssl === true) return { ...NONE, values: { sslmode: 'verify-full' }, systemRoots: true };
  if (typeof ssl === 'string') {
    const hint = SHORT_HINTS[ssl];
    if (hint !== undefined) throw configError(`ssl has the value "${ssl}": ${hint}.`);
    return { ...NONE, values: { sslmode: choice('ssl', ssl, MODES) } };
  }
  const given: unknown = ssl;
  if (typeof given !== 'object' || given === null) {
    throw configError(`ssl must be true, false, a mode (${MODES.join(', ')}) or an object, not ${kindOf(given)}.`);
  }
  assertKnownKeys(ssl, SSL_OPTION_KEYS, 'ssl option', SSL_OPTION_HINTS);
  return readObject(ssl);
}

function readObject(ssl: SslOptions): SslSettings {
  const values: Values = {};
  const inline: Partial<Record<MaterialKeyword, PemSource>> = {};

  const put = (keyword: Keyword, value: string | undefined): void => {
    if (value !== undefined) values[keyword] = value;
  };
  const putPem = (keyword: MaterialKeyword, name: 'ca' | 'cert' | 'key' | 'crl'): void => {
    const pem = readPem(`ssl.${name}`, ssl[name]);
    // `system` as a keyword's value is not a file's name.
    if (typeof pem === 'string') values[keyword] = pem === 'system' ? './system' : pem;
    else if (pem !== undefined) inline[keyword] = pem;
  };

  const versions = KEYWORDS.ssl_min_protocol_version.choices ?? [];
  put(
    'sslmode',
    optional(ssl.mode, (mode) => choice('ssl.mode', mode, MODES)),
  );
  put(
    'sslnegotiation',
    optional(ssl.negotiation, (value) => choice('ssl.negotiation', value, ['postgres', 'direct'])),
  );
  put(
    'ssl_min_protocol_version',
    optional(ssl.minVersion, (value) => choice('ssl.minVersion', value, versions)),
  );
  put(
    'ssl_max_protocol_version',
    optional(ssl.maxVersion, (value) => choice('ssl.maxVersion', value, versions)),
  );
  put(
    'sslpassword',
    optional(ssl.passphrase, (value) => text('ssl.passphrase', value)),
  );
  put(
    'sslcrldir',
    optional(ssl.crlDir, (value) => text('ssl.crlDir', value)),
  );
  if (ssl.ca === 'system') values.sslrootcert = 'system';
  else putPem('sslrootcert', 'ca');
  putPem('sslcert', 'cert');
  putPem('sslkey', 'key');
  putPem('sslcrl', 'crl');

  if (ssl.serverName !== undefined) values.sslsni = ssl.serverName === false ? '0' : '1';
  const serverName = ssl.serverName === false ? undefined : optional(ssl.serverName, (v) => text('ssl.serverName', v));
  checkSecureContext(ssl);

  if (ssl.mode === undefined && ssl.ca !== undefined) values.sslmode = 'verify-full';
  return {
    values,
    inline,
    strictByDefault: values.sslmode === undefined,
    systemRoots: false,
    serverName,
    secureContext: ssl.secureContext,
  };
}

function checkSecureContext(ssl: SslOptions): void {
  const secureContext: unknown = ssl.secureContext;
  if (secureContext === undefined) return;
  if (typeof secureContext !== 'object' || secureContext === null || !('context' in secureContext)) {
    throw configError('ssl.secureContext must be what tls.createSecureContext() returns.');
  }
  for (const key of ['ca', 'cert', 'key', 'passphrase', 'crl', 'crlDir'] as const) {
    if (ssl[key] !== undefined) {
      throw configError(`ssl.secureContext and ssl.${key} exclude each other: put the ${key} into the context.`);
    }
  }
}

/** The file's path, or the material itself. */
function readPem(name: string, pem: unknown): string | PemSource | undefined {
  if (pem === undefined) return undefined;
  if (typeof pem === 'string') {
    if (pem.includes('-----BEGIN ')) return { kind: 'inline', pem: new Secret<string | Buffer>(pem) };
    throw configError(`${name} is text without "-----BEGIN": for a file write ${shortName(name)}: { file: '...' }.`);
  }
  if (pem instanceof Uint8Array) {
    if (pem.byteLength === 0) throw configError(`${name} is an empty Buffer.`);
    // A copy: the caller may wipe or reuse his.
    return { kind: 'inline', pem: new Secret<string | Buffer>(Buffer.from(pem)) };
  }
  if (Array.isArray(pem)) throw configError(`${name} must be one value: write the PEM blocks one after another.`);
  if (typeof pem !== 'object') {
    throw configError(`${name} must be PEM text, a Buffer or { file: '...' }, not ${kindOf(pem)}.`);
  }
  assertKnownKeys(pem, ['file'], `option ${name}`, { path: "write { file: '...' }" });
  return text(`${name}.file`, (pem as { file?: unknown }).file);
}

const shortName = (name: string): string => name.slice(name.indexOf('.') + 1);

function optional<T>(value: T | undefined, read: (value: T) => string): string | undefined {
  return value === undefined ? undefined : read(value);
}

function text(name: string, value: unknown): string {
  if (typeof value !== 'string' || value === '' || value.includes('\0')) {
    throw configError(`${name} must be a string that is not empty, not ${value === '' ? 'empty' : kindOf(value)}.`);
  }
  return value;
}

/** Only for values which cannot be secrets: the message quotes them. */
export function choice(name: string, value: unknown, choices: readonly string[]): string {
  if (typeof value === 'string' && choices.includes(value)) return value;
  const shown = typeof value === 'string' ? JSON.stringify(value) : kindOf(value);
  const near = typeof value === 'string' ? nearest(value, choices) : undefined;
  const advice = near === undefined ? '' : ` Did you mean "${near}"?`;
  throw configError(`${name} is ${shown}; it must be one of ${choices.join(', ')}.${advice}`);
}
