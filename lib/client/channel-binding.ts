import { createHash } from 'node:crypto';

/** Signature algorithms of certificates by their OID, in hexadecimal. */
const HASHES: Readonly<Record<string, string>> = {
  // RSA (PKCS#1)
  '2a864886f70d01010b': 'sha256',
  '2a864886f70d01010c': 'sha384',
  '2a864886f70d01010d': 'sha512',
  // ECDSA
  '2a8648ce3d040302': 'sha256',
  '2a8648ce3d040303': 'sha384',
  '2a8648ce3d040304': 'sha512',
};

const SEQUENCE = 0x30;
const OBJECT_IDENTIFIER = 0x06;

/**
 * The binding `tls-server-end-point` (RFC 5929, section 4.1) to a server's certificate: its digest by the hash of its
 * own signature.
 *
 * @param certificate DER
 * @returns `undefined` for a certificate that is signed another way
 */
export function endPointDigest(certificate: Buffer): Buffer | undefined {
  // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, ... }, ... }
  const whole = element(certificate, 0, SEQUENCE);
  const signed = whole && element(certificate, whole.start, SEQUENCE);
  const algorithm = signed && element(certificate, signed.end, SEQUENCE);
  const oid = algorithm && element(certificate, algorithm.start, OBJECT_IDENTIFIER);
  const hash = oid && HASHES[certificate.toString('hex', oid.start, oid.end)];
  return hash === undefined ? undefined : createHash(hash).update(certificate).digest();
}

/** Where the content of a DER element stands. */
function element(der: Buffer, at: number, tag: number): { start: number; end: number } | undefined {
  const first = der[at + 1];
  if (der[at] !== tag || first === undefined) return undefined;
  const more = first < 0x80 ? 0 : first - 0x80;
  const start = at + 2 + more;
  if (more > 4 || start > der.length) return undefined;
  const end = start + (more === 0 ? first : der.readUIntBE(at + 2, more));
  return end > der.length ? undefined : { start, end };
}
