import { createPrivateKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { FileFacts } from './material-files.js';
import { isDer, pemBlocks } from './pem.js';

/**
 * Why libpq refuses to use a private key from this file, if it does: it must be a regular file to which nobody else has
 * access. A file of root's may be readable for its group, so that one system-wide key can serve several accounts
 * (fe-secure-openssl.c, initialize_SSL). Windows has no such bits and is not checked.
 */
export function keyFileObjection(path: string, facts: FileFacts, platform: NodeJS.Platform): string | undefined {
  if (!facts.isFile) return `private key file "${path}" is not a regular file`;
  if (platform === 'win32') return undefined;
  const forbidden = facts.uid === 0 ? 0o037 : 0o077;
  if ((facts.mode & forbidden) === 0) return undefined;
  const mode = facts.mode.toString(8).padStart(4, '0');
  return (
    `private key file "${path}" has group or world access (mode ${mode}, owner uid ${facts.uid}); ` +
    `it must be 0600 or less, or 0640 or less if root owns it: chmod ${facts.uid === 0 ? '640' : '600'} it`
  );
}

/** A private key from PEM or DER, encrypted or not. The thrown message holds no part of the key or the passphrase. */
export function parsePrivateKey(bytes: Buffer, passphrase: string | undefined): KeyObject {
  if (isDer(bytes)) return fromDer(bytes, passphrase);
  const block = pemBlocks(bytes.toString('latin1')).find(({ label }) => label.endsWith('PRIVATE KEY'));
  if (!block) throw new Error('no private key in it');
  const encrypted = block.label.startsWith('ENCRYPTED') || block.text.includes('Proc-Type: 4,ENCRYPTED');
  if (encrypted && passphrase === undefined) throw new Error(NEEDS_PASSPHRASE);
  try {
    return createPrivateKey({ key: block.text, format: 'pem', passphrase });
  } catch (error) {
    throw new Error(encrypted ? CANNOT_DECRYPT : `not a private key that OpenSSL can read (${opensslCode(error)})`, {
      cause: error,
    });
  }
}

const NEEDS_PASSPHRASE = 'the key is encrypted and no passphrase is given: set sslpassword (option ssl.passphrase)';
const CANNOT_DECRYPT = 'the key cannot be decrypted: the passphrase in sslpassword (option ssl.passphrase) is wrong';

function fromDer(key: Buffer, passphrase: string | undefined): KeyObject {
  let last: unknown;
  for (const type of ['pkcs8', 'pkcs1', 'sec1'] as const) {
    try {
      return createPrivateKey({ key, format: 'der', type, passphrase });
    } catch (error) {
      last = error;
      if (opensslCode(error) === 'ERR_MISSING_PASSPHRASE') throw new Error(NEEDS_PASSPHRASE, { cause: error });
    }
  }
  throw new Error(`neither PEM nor a DER key that OpenSSL can read (${opensslCode(last)})`);
}

function opensslCode(error: unknown): string {
  const code: unknown = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === 'string' ? code : 'no code';
}
