import 'reflect-metadata';
import type { KeyObject } from 'node:crypto';
import { generateKeyPairSync, randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';

type ProvidedCrypto = Parameters<typeof x509.cryptoProvider.set>[0];
x509.cryptoProvider.set(webcrypto as unknown as ProvidedCrypto);

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const HOUR = 3_600_000;

/** One subjectAltName: text for a dNSName, bytes for an iPAddress of any length. */
export type AltName = { readonly dns: string | Buffer } | { readonly ip: Buffer };

export interface LeafOptions {
  /** Of the subject, in order; default none. */
  readonly commonNames?: readonly string[];
  readonly names?: readonly AltName[];
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  /** Written twice, which no honest authority does. */
  readonly twiceNamed?: boolean;
}

export interface Leaf {
  readonly cert: string;
  readonly der: Buffer;
  readonly key: KeyObject;
  readonly keyPem: string;
  readonly serial: string;
}

export interface Authority {
  readonly cert: string;
  readonly der: Buffer;
  issue(options?: LeafOptions): Promise<Leaf>;
  /** A revocation list over the given serials. */
  revoke(serials: readonly string[], nextUpdate?: Date): Promise<{ pem: string; der: Buffer }>;
  /** An authority below this one. */
  intermediate(name: string): Promise<Authority>;
}

export async function createAuthority(name = 'Test CA', parent?: Signer): Promise<Authority> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const signer = parent ?? { name: `CN=${name}`, keys };
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: `CN=${name}`,
    issuer: signer.name,
    notBefore: new Date(Date.now() - HOUR),
    notAfter: new Date(Date.now() + 24 * HOUR),
    publicKey: keys.publicKey,
    signingKey: signer.keys.privateKey,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const own: Signer = { name: `CN=${name}`, keys };
  return {
    cert: pem(certificate),
    der: Buffer.from(certificate.rawData),
    issue: (options = {}) => issue(own, options),
    revoke: (serials, nextUpdate) => revoke(own, serials, nextUpdate),
    intermediate: (below) => createAuthority(below, own),
  };
}

interface Signer {
  readonly name: string;
  readonly keys: webcrypto.CryptoKeyPair;
}

async function issue(signer: Signer, options: LeafOptions): Promise<Leaf> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = publicKey.export({ format: 'der', type: 'spki' });
  const serialNumber = serial();
  const extension = new x509.Extension('2.5.29.17', false, altNames(options.names ?? []));
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber,
    subject: new x509.Name((options.commonNames ?? []).map((cn) => ({ CN: [cn] }))),
    issuer: signer.name,
    notBefore: options.notBefore ?? new Date(Date.now() - HOUR),
    notAfter: options.notAfter ?? new Date(Date.now() + 24 * HOUR),
    publicKey: await webcrypto.subtle.importKey('spki', spki, ALGORITHM, true, ['verify']),
    signingKey: signer.keys.privateKey,
    signingAlgorithm: ALGORITHM,
    extensions: [...(options.names ? [extension] : []), ...(options.twiceNamed ? [extension] : [])],
  });
  return {
    cert: pem(certificate),
    der: Buffer.from(certificate.rawData),
    key: privateKey,
    keyPem: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    serial: serialNumber,
  };
}

async function revoke(
  signer: Signer,
  serials: readonly string[],
  nextUpdate?: Date,
): Promise<{ pem: string; der: Buffer }> {
  const list = await x509.X509CrlGenerator.create({
    issuer: signer.name,
    thisUpdate: new Date(Date.now() - 2 * HOUR),
    nextUpdate: nextUpdate ?? new Date(Date.now() + 24 * HOUR),
    entries: serials.map((serialNumber) => ({ serialNumber, revocationDate: new Date(Date.now() - HOUR) })),
    signingAlgorithm: ALGORITHM,
    signingKey: signer.keys.privateKey,
  });
  const der = Buffer.from(list.rawData);
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  // OpenSSL wants this label; the library's own says only CRL.
  return { pem: ['-----BEGIN X509 CRL-----', ...lines, '-----END X509 CRL-----', ''].join('\n'), der };
}

function pem(certificate: x509.X509Certificate): string {
  return new X509Certificate(Buffer.from(certificate.rawData)).toString();
}

/** Positive, and without a leading zero byte that one side would drop. */
function serial(): string {
  const bytes = randomBytes(16);
  bytes[0] = 0x40 | ((bytes[0] ?? 0) & 0x3f);
  return bytes.toString('hex');
}

function altNames(names: readonly AltName[]): Buffer {
  return element(
    0x30,
    Buffer.concat(
      names.map((name) => ('dns' in name ? element(0x82, Buffer.from(name.dns as string)) : element(0x87, name.ip))),
    ),
  );
}

function element(tag: number, value: Buffer): Buffer {
  const length = value.length < 0x80 ? [value.length] : [0x82, value.length >> 8, value.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), value]);
}

export const dns = (name: string | Buffer): AltName => ({ dns: name });
export const ip = (...bytes: number[]): AltName => ({ ip: Buffer.from(bytes) });
