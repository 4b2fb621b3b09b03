import { Secret } from '../errors/secret.js';
import { certificateFile, type ConfigContext } from './config-context.js';
import { configError } from './config-error.js';
import type { PemSource, ResolvedTls, SslMode, TlsVersion } from './resolved-config.js';
import type { SettingLayers } from './setting-layers.js';
import type { MaterialKeyword } from './ssl-option.js';

const MODES: readonly SslMode[] = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'];
const WEAK: readonly SslMode[] = ['disable', 'allow', 'prefer'];
const VERSIONS: readonly TlsVersion[] = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'];

/** The TLS part of `pqConnectOptions2`, and the default files of fe-secure-openssl.c. */
export function resolveTls(layers: SettingLayers, context: ConfigContext): ResolvedTls {
  const { ssl } = layers;
  const mode = layers.choice('sslmode', MODES) ?? 'prefer';
  const negotiation = layers.choice('sslnegotiation', ['postgres', 'direct']) ?? 'postgres';
  const ca = ssl.inline.sslrootcert ?? rootSource(layers, context);

  if (negotiation === 'direct' && WEAK.includes(mode)) {
    throw configError(
      `${layers.origin('sslnegotiation')} is "direct", which is not allowed with sslmode "${mode}" ` +
        `(${whence(layers)}): use require, verify-ca or verify-full.`,
    );
  }
  if (ca?.kind === 'system' && mode !== 'verify-full') {
    throw configError(
      `${layers.origin('sslrootcert')} is "system", which is not allowed with sslmode "${mode}" (${whence(layers)}): ` +
        'use verify-full, since anyone can have a certificate of a public authority.',
    );
  }

  const minVersion = tlsVersion('ssl_min_protocol_version', layers);
  const maxVersion = tlsVersion('ssl_max_protocol_version', layers);
  if (minVersion && maxVersion && VERSIONS.indexOf(minVersion) > VERSIONS.indexOf(maxVersion)) {
    throw configError(
      `${layers.origin('ssl_min_protocol_version')} (${minVersion}) is above ` +
        `${layers.origin('ssl_max_protocol_version')} (${maxVersion}).`,
    );
  }

  const crlDir = layers.filled('sslcrldir');
  const passphrase = layers.filled('sslpassword');
  return {
    mode,
    negotiation,
    ca,
    cert: fileSource('sslcert', 'postgresql.crt', layers, context),
    key: keySource(layers, context),
    passphrase: passphrase === undefined ? undefined : new Secret(passphrase),
    certMode: layers.choice('sslcertmode', ['disable', 'allow', 'require']) ?? 'allow',
    // A named directory stands in for the default list.
    crl: fileSource('sslcrl', crlDir === undefined ? 'root.crl' : undefined, layers, context),
    crlDir,
    minVersion,
    maxVersion,
    sni: layers.text('sslsni')?.startsWith('1') ?? false,
    serverName: ssl.serverName,
    keyLogFile: layers.filled('sslkeylogfile'),
    secureContext: ssl.secureContext,
  };
}

function rootSource(layers: SettingLayers, context: ConfigContext): PemSource | undefined {
  if (layers.text('sslrootcert') === 'system') return { kind: 'system' };
  return fileSource('sslrootcert', 'root.crt', layers, context);
}

function keySource(layers: SettingLayers, context: ConfigContext): PemSource | undefined {
  const path = layers.filled('sslkey');
  const fromKeyword = layers.source('sslkey') !== 'option';
  // As libpq has it: a colon makes it `engine:key`, except behind a drive letter.
  if (path !== undefined && fromKeyword && context.platform !== 'win32' && path.includes(':')) {
    throw configError(
      `${layers.origin('sslkey')} has a colon and so names an OpenSSL engine, which Node cannot load. ` +
        "For a file of such a name write ssl: { key: { file: '...' } }.",
    );
  }
  return fileSource('sslkey', 'postgresql.key', layers, context);
}

function fileSource(
  keyword: MaterialKeyword,
  defaultName: string | undefined,
  layers: SettingLayers,
  context: ConfigContext,
): PemSource | undefined {
  const inline = layers.ssl.inline[keyword];
  if (inline !== undefined) return inline;
  const named = layers.filled(keyword);
  if (named !== undefined) return { kind: 'file', path: named, required: true };
  const path = defaultName === undefined ? undefined : certificateFile(context, defaultName);
  return path === undefined ? undefined : { kind: 'file', path, required: false };
}

function tlsVersion(
  keyword: 'ssl_min_protocol_version' | 'ssl_max_protocol_version',
  layers: SettingLayers,
): TlsVersion | undefined {
  const value = layers.filled(keyword);
  if (value === undefined) return undefined;
  const found = VERSIONS.find((version) => version.toLowerCase() === value.toLowerCase());
  if (found === undefined) throw configError(`${layers.origin(keyword)} must be one of ${VERSIONS.join(', ')}.`);
  return found;
}

function whence(layers: SettingLayers): string {
  return layers.source('sslmode') === 'default' ? 'the default' : `from ${layers.origin('sslmode')}`;
}
