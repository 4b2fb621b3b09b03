import { join } from 'node:path';
import * as tls from 'node:tls';
import { errnoOf } from './material-files.js';
import type { MaterialLook } from './material-files.js';
import { pemBlocks } from './pem.js';
import { TlsMaterialError } from './tls-material.error.js';

/** Where operating systems keep all their roots in one file, the commonest first. */
const BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt', // Debian, Ubuntu, Alpine, Arch
  '/etc/pki/tls/certs/ca-bundle.crt', // Fedora, RHEL
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/ca-bundle.pem', // SUSE
  '/etc/ssl/cert.pem', // macOS, the BSDs
];

/** The names by which OpenSSL finds a certificate in a directory: hash of the subject and a number. */
const HASHED_NAME = /^[0-9a-f]{8}\.\d+$/;

/**
 * The certificates that `sslrootcert=system` stands for: OpenSSL's SSL_CERT_FILE and SSL_CERT_DIR (alone, where one is
 * set), else the operating system's bundle, else what Node gets from the system's store.
 *
 * @returns PEM texts, or `bundled` for the roots that Node ships (and NODE_EXTRA_CA_CERTS).
 */
export function systemRoots(
  look: MaterialLook,
  env: Readonly<Record<string, string | undefined>>,
  platform: NodeJS.Platform,
): string[] | 'bundled' {
  const file = env['SSL_CERT_FILE'];
  const directories = env['SSL_CERT_DIR'];
  if (file || directories) {
    return [
      ...(file ? [rootsFile(look, file, 'SSL_CERT_FILE')] : []),
      ...(directories ?? '')
        .split(platform === 'win32' ? ';' : ':')
        .filter((directory) => directory !== '')
        .flatMap((directory) => rootsDirectory(look, directory)),
    ];
  }
  if (platform !== 'win32') {
    for (const path of BUNDLES) {
      const facts = look.stat(path);
      if (typeof facts !== 'string' && facts.isFile) return [rootsFile(look, path, 'sslrootcert=system')];
    }
  }
  // Node 22.15 and later; the types that this package is compiled with are older.
  const { getCACertificates } = tls as { getCACertificates?: (type: 'system') => string[] };
  const stored = getCACertificates?.('system') ?? [];
  return stored.length > 0 ? stored : 'bundled';
}

function rootsFile(look: MaterialLook, path: string, source: string): string {
  const facts = look.stat(path);
  try {
    if (typeof facts === 'string') throw new Error(facts);
    const text = look.read(path).toString('latin1');
    if (pemBlocks(text).length === 0) throw new Error('no certificate in it');
    return text;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new TlsMaterialError(
      `The system's trusted roots cannot be read: ${source} leads to the file "${path}": ${why}`,
      { explicit: true, cause },
    );
  }
}

function rootsDirectory(look: MaterialLook, directory: string): string[] {
  look.stat(directory);
  let names: string[];
  try {
    names = look.list(directory).filter((name) => HASHED_NAME.test(name));
  } catch (cause) {
    throw new TlsMaterialError(
      `The system's trusted roots cannot be read: SSL_CERT_DIR leads to the directory "${directory}": ${errnoOf(cause)}`,
      { explicit: true, cause },
    );
  }
  return names.map((name) => rootsFile(look, join(directory, name), 'SSL_CERT_DIR'));
}
