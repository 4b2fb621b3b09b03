// @peculiar/x509 finds its parts through decorator metadata, which must be there before it is loaded.
import 'reflect-metadata';
import { KeyObject, randomBytes, webcrypto, type X509Certificate as NodeCertificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';

/** `ec` is P-256 and takes a millisecond; `rsa` is 2048 bits and takes a tenth of a second. */
export type KeyType = 'ec' | 'rsa';

export interface IssueOptions {
  /** Common name; without it the subject is empty. */
  cn?: string;
  /** DNS names in subjectAltName; a wildcard is written `*.example.test`. */
  dns?: string[];
  /** IP addresses in subjectAltName. */
  ips?: string[];
  /** Days of validity from now (default 30); negative: it ended that many days ago. */
  days?: number;
  /** Days until it becomes valid; default: it has been valid for an hour. */
  startsIn?: number;
  /** For a client (extended key usage clientAuth) and not for a server. */
  client?: boolean;
  type?: KeyType;
}

/** A certificate with its key. */
export interface Issued {
  readonly certPem: string;
  readonly certDer: Buffer;
  /** The certificate followed by its intermediate authorities, without the root. */
  readonly chainPem: string;
  readonly keyPem: string;
  /** The key as PKCS#8 in DER. */
  readonly keyDer: Buffer;
  encryptedKeyPem(passphrase: string): string;
  /** Hexadecimal. */
  readonly serialNumber: string;
}

export interface Authority extends Issued {
  issue(options?: IssueOptions): Promise<Issued>;
  /** An intermediate authority, signed by this one. */
  issueAuthority(name: string, options?: AuthorityOptions): Promise<Authority>;
  /** A revocation list of this authority, PEM. */
  crl(revoked: readonly Pick<NodeCertificate | Issued, 'serialNumber'>[]): Promise<string>;
}

export interface AuthorityOptions {
  type?: KeyType;
  days?: number;
}

type SigningAlgorithm = EcdsaParams | Algorithm;
type EcdsaParams = webcrypto.EcdsaParams;
type Algorithm = webcrypto.Algorithm;

interface Signer {
  readonly name: string;
  readonly keys: webcrypto.CryptoKeyPair;
  readonly algorithm: SigningAlgorithm;
  /** Intermediates between this signer's certificates and the root, this signer's own included; empty for a root. */
  readonly chain: string;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const HOUR_MS = 60 * 60 * 1000;

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);

/** A self-signed root. */
export async function createAuthority(name: string, options: AuthorityOptions = {}): Promise<Authority> {
  return authority(name, options, undefined);
}

async function authority(name: string, options: AuthorityOptions, parent: Signer | undefined): Promise<Authority> {
  const { keys, algorithm } = await newKeys(options.type);
  const certificate = await sign(parent ?? { name, keys, algorithm, chain: '' }, keys, [{ CN: [name] }], options, [
    new x509.BasicConstraintsExtension(true, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
  ]);
  const own = issued(certificate, keys, parent?.chain ?? '');
  const signer: Signer = { name, keys, algorithm, chain: parent ? own.chainPem : '' };
  return {
    ...own,
    issue: (wanted = {}) => issue(signer, wanted),
    issueAuthority: (child, childOptions = {}) => authority(child, childOptions, signer),
    crl: (revoked) => revocations(signer, revoked),
  };
}

async function issue(signer: Signer, options: IssueOptions): Promise<Issued> {
  const { keys } = await newKeys(options.type);
  const names: x509.JsonGeneralNames = [
    ...(options.dns ?? []).map((value) => ({ type: 'dns' as const, value })),
    ...(options.ips ?? []).map((value) => ({ type: 'ip' as const, value })),
  ];
  const subject = options.cn === undefined ? [] : [{ CN: [options.cn] }];
  const certificate = await sign(signer, keys, subject, options, [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
    new x509.ExtendedKeyUsageExtension([
      options.client ? x509.ExtendedKeyUsage.clientAuth : x509.ExtendedKeyUsage.serverAuth,
    ]),
    ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
  ]);
  return issued(certificate, keys, signer.chain);
}

async function sign(
  signer: Signer,
  keys: webcrypto.CryptoKeyPair,
  subject: x509.JsonName,
  { days = 30, startsIn }: { days?: number; startsIn?: number },
  extensions: x509.Extension[],
): Promise<x509.X509Certificate> {
  const now = Date.now();
  const start = startsIn === undefined ? now - HOUR_MS : now + startsIn * DAY_MS;
  const end = (startsIn === undefined ? now : start) + days * DAY_MS;
  return x509.X509CertificateGenerator.create({
    serialNumber: newSerial(),
    subject,
    issuer: [{ CN: [signer.name] }],
    notBefore: new Date(Math.min(start, end - DAY_MS)),
    notAfter: new Date(end),
    signingAlgorithm: signer.algorithm,
    publicKey: keys.publicKey,
    signingKey: signer.keys.privateKey,
    extensions: [
      ...extensions,
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(signer.keys.publicKey),
    ],
  });
}

async function revocations(signer: Signer, revoked: readonly { serialNumber: string }[]): Promise<string> {
  const now = Date.now();
  const crl = await x509.X509CrlGenerator.create({
    issuer: [{ CN: [signer.name] }],
    thisUpdate: new Date(now - HOUR_MS),
    nextUpdate: new Date(now + 30 * DAY_MS),
    entries: revoked.map(({ serialNumber }) => ({ serialNumber, revocationDate: new Date(now - HOUR_MS) })),
    signingAlgorithm: signer.algorithm,
    signingKey: signer.keys.privateKey,
  });
  // OpenSSL knows revocation lists under this name only; the library writes "CRL".
  return `${crl.toString('pem').replace(/(BEGIN|END) CRL/g, '$1 X509 CRL')}\n`;
}

function issued(certificate: x509.X509Certificate, keys: webcrypto.CryptoKeyPair, chain: string): Issued {
  const certPem = `${certificate.toString('pem')}\n`;
  const key = KeyObject.from(keys.privateKey);
  return {
    certPem,
    certDer: Buffer.from(certificate.rawData),
    chainPem: certPem + chain,
    keyPem: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    keyDer: key.export({ type: 'pkcs8', format: 'der' }),
    encryptedKeyPem: (passphrase) =>
      key.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase }).toString(),
    serialNumber: certificate.serialNumber,
  };
}

async function newKeys(type: KeyType = 'ec'): Promise<{ keys: webcrypto.CryptoKeyPair; algorithm: SigningAlgorithm }> {
  const algorithm = type === 'ec' ? { name: 'ECDSA', hash: 'SHA-256' } : { name: 'RSASSA-PKCS1-v1_5' };
  const wanted =
    type === 'ec'
      ? { name: 'ECDSA', namedCurve: 'P-256' }
      : { name: algorithm.name, modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' };
  return { keys: await webcrypto.subtle.generateKey(wanted, true, ['sign', 'verify']), algorithm };
}

/** Positive, and of full length whatever the dice say. */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}
