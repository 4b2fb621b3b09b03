import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import type { PemSource, ResolvedTls } from '../config/resolved-config.js';
import { keyFileObjection, parsePrivateKey } from './client-key.js';
import { errnoOf } from './material-files.js';
import type { MaterialLook } from './material-files.js';
import { derToPem, isDer, pemBlocks } from './pem.js';
import { verification } from './ssl-mode.js';
import type { Verification } from './ssl-mode.js';
import { systemRoots } from './system-roots.js';
import { TlsMaterialError } from './tls-material.error.js';

/** All key material of a connection, read and found to be sound. */
export interface Material {
  readonly verify: Verification;
  /** PEM texts, empty = nobody is trusted; or Node's own. */
  readonly roots: string[] | 'bundled';
  readonly crls: string[];
  readonly client: { readonly chain: string; readonly key: string } | undefined;
  /** The files at default places that took part: they may change from now on, but not disappear. */
  readonly defaults: ReadonlySet<string>;
}

export interface MaterialPlace {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly platform: NodeJS.Platform;
}

const WORDS = {
  ca: 'sslrootcert (option ssl.ca)',
  cert: 'sslcert (option ssl.cert)',
  key: 'sslkey (option ssl.key)',
  crl: 'sslcrl (option ssl.crl)',
  crlDir: 'sslcrldir (option ssl.crlDir)',
} as const;

/** The names by which OpenSSL finds a revocation list in a directory: hash of the issuer and a number. */
const HASHED_CRL_NAME = /^[0-9a-f]{8}\.r\d+$/;

/**
 * Reads what the settings name and what lies at libpq's default places, by the rules of libpq's initialize_SSL
 * (fe-secure-openssl.c), except that whatever was named must be there and be usable.
 *
 * @throws TlsMaterialError
 */
export function readMaterial(tls: ResolvedTls, look: MaterialLook, place: MaterialPlace): Material {
  const reader = new Reader(tls, look, place);
  const roots = reader.roots();
  const verify = verification(tls, roots !== undefined);
  if (verify === undefined) throw missingRoot(tls);
  return {
    verify,
    roots: roots ?? [],
    crls: reader.revocationLists(roots !== undefined),
    client: reader.client(),
    defaults: reader.defaults,
  };
}

class Reader {
  readonly #tls: ResolvedTls;
  readonly #look: MaterialLook;
  readonly #place: MaterialPlace;
  readonly defaults = new Set<string>();

  constructor(tls: ResolvedTls, look: MaterialLook, place: MaterialPlace) {
    this.#tls = tls;
    this.#look = look;
    this.#place = place;
  }

  /** `undefined` = there is no root file. */
  roots(): string[] | 'bundled' | undefined {
    const source = this.#tls.ca;
    if (source?.kind === 'system') return systemRoots(this.#look, this.#place.env, this.#place.platform);
    // libpq takes any failure of stat, not only ENOENT, for an absent file.
    const bytes = this.#bytes('ca', source, () => true);
    if (!bytes) return undefined;
    return this.#parse('ca', source, () => {
      const certificates = certificateBlocks(bytes);
      for (const pem of certificates) new X509Certificate(pem);
      return [certificates.join('')];
    });
  }

  revocationLists(verified: boolean): string[] {
    const { crl, crlDir } = this.#tls;
    if (!verified) {
      if (!crlDir && !isExplicit(crl)) return [];
      throw new TlsMaterialError(
        `${crlDir ? WORDS.crlDir : WORDS.crl} is set, but without a root certificate (sslrootcert) nothing is ` +
          'verified and no revocation list is looked at. Name the root, or remove the revocation list.',
        { explicit: true },
      );
    }
    const lists: string[] = [];
    if (isExplicit(crl) || !crlDir) {
      const bytes = this.#bytes('crl', crl, () => true);
      if (bytes) lists.push(...this.#parse('crl', crl, () => crlBlocks(bytes)));
    }
    if (crlDir) lists.push(...this.#revocationDirectory(crlDir));
    return lists;
  }

  client(): Material['client'] {
    const { cert, key, certMode } = this.#tls;
    if (certMode === 'disable') return undefined;
    const chainBytes = this.#bytes('cert', cert, (errno) => errno === 'ENOENT' || errno === 'ENOTDIR');
    if (!chainBytes) {
      if (certMode !== 'require' && !isExplicit(key)) return undefined;
      const because = certMode === 'require' ? 'sslcertmode=require' : WORDS.key;
      throw new TlsMaterialError(
        `${because} is set, but there is no client certificate: ` +
          (cert?.kind === 'file' ? `file "${cert.path}" does not exist. ` : '') +
          'Set sslcert (option ssl.cert).',
        { explicit: true },
      );
    }
    const chain = this.#parse('cert', cert, () => {
      const blocks = certificateBlocks(chainBytes);
      return { blocks, leaf: blocks.map((pem) => new X509Certificate(pem))[0] };
    });
    const keyBytes = this.#keyBytes(describe('cert', cert));
    const privateKey = this.#parse('key', key, () => parsePrivateKey(keyBytes, this.#tls.passphrase?.reveal()));
    if (!chain.leaf?.checkPrivateKey(privateKey)) {
      throw new TlsMaterialError(
        `The client certificate, ${describe('cert', cert)}, does not belong to the private key, ${describe('key', key)}`,
        { explicit: isExplicit(cert) || isExplicit(key) },
      );
    }
    return { chain: chain.blocks.join(''), key: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString() };
  }

  #keyBytes(certificate: string): Buffer {
    const { cert, key } = this.#tls;
    const explicit = isExplicit(cert) || isExplicit(key);
    if (!key || key.kind === 'system') {
      throw new TlsMaterialError(
        `There is a client certificate, ${certificate}, but no private key: set ${WORDS.key}`,
        {
          explicit,
        },
      );
    }
    if (key.kind === 'inline') return toBuffer(key.pem.reveal());
    const facts = this.#look.stat(key.path);
    if (typeof facts === 'string') {
      const colon = /^[^/\\]{2,}:/.test(key.path) ? ' (OpenSSL engines, "engine:key", are not supported)' : '';
      const what = facts === 'ENOENT' ? 'does not exist' : `cannot be read (${facts})`;
      throw new TlsMaterialError(
        `There is a client certificate, ${certificate}, but its private key file "${key.path}" ${what}${colon}: ` +
          `check ${WORDS.key}`,
        { explicit },
      );
    }
    const objection = keyFileObjection(key.path, facts, this.#place.platform);
    if (objection) throw new TlsMaterialError(`${WORDS.key}: ${objection}`, { explicit });
    return this.#read('key', key);
  }

  #revocationDirectory(directory: string): string[] {
    this.#look.stat(directory);
    let names: string[];
    try {
      names = this.#look.list(directory).filter((name) => HASHED_CRL_NAME.test(name));
    } catch (cause) {
      const message = `${WORDS.crlDir}: directory "${directory}" cannot be read (${errnoOf(cause)})`;
      throw new TlsMaterialError(message, { explicit: true, cause });
    }
    if (names.length === 0) {
      // OpenSSL would refuse every certificate then; with no list to hand over, Node would check none.
      throw new TlsMaterialError(
        `${WORDS.crlDir}: directory "${directory}" holds no revocation list under a name like 1a2b3c4d.r0: ` +
          'make these names with `openssl rehash`',
        { explicit: true },
      );
    }
    return names.flatMap((name) => {
      const source = { kind: 'file', path: join(directory, name), required: true } as const;
      const bytes = this.#bytes('crlDir', source, () => false);
      return this.#parse('crlDir', source, () => (bytes ? crlBlocks(bytes) : []));
    });
  }

  /** `undefined` = nothing is there, and may be so. */
  #bytes(
    word: keyof typeof WORDS,
    source: PemSource | undefined,
    meansAbsent: (errno: string) => boolean,
  ): Buffer | undefined {
    if (!source || source.kind === 'system') return undefined;
    if (source.kind === 'inline') return toBuffer(source.pem.reveal());
    const facts = this.#look.stat(source.path);
    if (typeof facts === 'string') {
      if (!source.required && meansAbsent(facts)) return undefined;
      const what = facts === 'ENOENT' ? 'does not exist' : `cannot be read (${facts})`;
      throw new TlsMaterialError(`${WORDS[word]}: file "${source.path}" ${what}`, { explicit: source.required });
    }
    if (!facts.isFile) {
      const message = `${WORDS[word]}: "${source.path}" is not a regular file`;
      throw new TlsMaterialError(message, { explicit: source.required });
    }
    if (!source.required) this.defaults.add(source.path);
    return this.#read(word, source);
  }

  #read(word: keyof typeof WORDS, source: Extract<PemSource, { kind: 'file' }>): Buffer {
    try {
      return this.#look.read(source.path);
    } catch (cause) {
      const message = `${WORDS[word]}: file "${source.path}" cannot be read (${errnoOf(cause)})`;
      throw new TlsMaterialError(message, { explicit: source.required, cause });
    }
  }

  /** Names the source in whatever `parse` throws. */
  #parse<T>(word: keyof typeof WORDS, source: PemSource | undefined, parse: () => T): T {
    try {
      return parse();
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      // A revocation list that is there and cannot be understood must not lead to less than TLS, wherever it lies.
      const explicit = isExplicit(source) || word === 'crl';
      throw new TlsMaterialError(`${WORDS[word]}: ${describe(word, source)} cannot be used: ${why}`, {
        explicit,
        cause: error,
      });
    }
  }
}

function isExplicit(source: PemSource | undefined): boolean {
  return source !== undefined && (source.kind !== 'file' || source.required);
}

function describe(word: keyof typeof WORDS, source: PemSource | undefined): string {
  return source?.kind === 'file' ? `file "${source.path}"` : `the text given as ssl.${word}`;
}

function toBuffer(pem: string | Buffer): Buffer {
  return typeof pem === 'string' ? Buffer.from(pem, 'latin1') : pem;
}

function certificateBlocks(bytes: Buffer): string[] {
  if (isDer(bytes)) return [derToPem(bytes, 'CERTIFICATE')];
  const blocks = pemBlocks(bytes.toString('latin1')).filter(({ label }) =>
    /^(X509 |TRUSTED )?CERTIFICATE$/.test(label),
  );
  if (blocks.length === 0) throw new Error('no certificate in it');
  return blocks.map(({ text }) => text);
}

function crlBlocks(bytes: Buffer): string[] {
  const lists = isDer(bytes)
    ? [derToPem(bytes, 'X509 CRL')]
    : pemBlocks(bytes.toString('latin1')).flatMap(({ label, text }) => (label === 'X509 CRL' ? [text] : []));
  if (lists.length === 0) throw new Error('no revocation list (BEGIN X509 CRL) in it');
  createSecureContext({ ca: [], crl: lists });
  return lists;
}

function missingRoot(tls: ResolvedTls): TlsMaterialError {
  const what =
    tls.ca?.kind === 'file'
      ? `root certificate file "${tls.ca.path}" does not exist`
      : 'could not get home directory to locate root certificate file';
  return new TlsMaterialError(
    `${what}. sslmode=${tls.mode} needs the root that the server's certificate leads to: name it in ${WORDS.ca}, ` +
      "trust the system's roots with sslrootcert=system (option ssl.ca: 'system'), or choose a mode that does not verify.",
    { explicit: true },
  );
}
