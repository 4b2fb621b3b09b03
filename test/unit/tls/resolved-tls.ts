import type { PemSource, ResolvedTls } from '../../../lib/config/resolved-config.js';
import { Secret } from '../../../lib/errors/secret.js';

/** What `sslmode=prefer` and nothing else resolves to in an account without a home directory. */
export function resolvedTls(change: Partial<ResolvedTls> = {}): ResolvedTls {
  return {
    mode: 'prefer',
    negotiation: 'postgres',
    ca: undefined,
    cert: undefined,
    key: undefined,
    passphrase: undefined,
    certMode: 'allow',
    crl: undefined,
    crlDir: undefined,
    minVersion: undefined,
    maxVersion: undefined,
    sni: true,
    serverName: undefined,
    keyLogFile: undefined,
    secureContext: undefined,
    ...change,
  };
}

/** A file that the settings name. */
export const named = (path: string): PemSource => ({ kind: 'file', path, required: true });

/** A file at one of libpq's default places. */
export const byDefault = (path: string): PemSource => ({ kind: 'file', path, required: false });

export const inline = (pem: string | Buffer): PemSource => ({ kind: 'inline', pem: new Secret(pem) });
