/** A name of a certificate that takes part in libpq's comparison. The bytes are as they stand in the certificate. */
export type AlternativeName =
  { readonly type: 'dns'; readonly bytes: Buffer } | { readonly type: 'ip'; readonly bytes: Buffer };

export interface CertificateNames {
  readonly alternatives: readonly AlternativeName[];
  /** Of the first common name in the subject. */
  readonly commonName: Buffer | undefined;
}

/**
 * Reads the names from a DER certificate. Node's `subjectaltname` is a joined and quoted string whose format has been
 * turned against its readers (CVE-2021-44532); here the bytes themselves are compared.
 *
 * @throws Error on anything that is no X.509 certificate, and on a second subjectAltName extension.
 */
export function certificateNames(der: Buffer): CertificateNames {
  const certificate = expect(readAll(der)[0], SEQUENCE);
  const fields = readAll(expect(readAll(certificate.value)[0], SEQUENCE).value);
  // version is [0] and may be missing; then serial, signature, issuer, validity, subject, key follow in order.
  const subject = expect(fields[fields[0]?.tag === 0xa0 ? 5 : 4], SEQUENCE);
  const extensions = fields.find(({ tag }) => tag === 0xa3);
  return { commonName: firstCommonName(subject.value), alternatives: extensions ? alternatives(extensions.value) : [] };
}

const SEQUENCE = 0x30;
const SET = 0x31;
const OID = 0x06;
const OCTET_STRING = 0x04;
const DNS_NAME = 0x82;
const IP_ADDRESS = 0x87;
/** 2.5.4.3 */
const COMMON_NAME = Buffer.from([0x55, 0x04, 0x03]);
/** 2.5.29.17 */
const SUBJECT_ALT_NAME = Buffer.from([0x55, 0x1d, 0x11]);

interface Element {
  readonly tag: number;
  readonly value: Buffer;
}

function firstCommonName(subject: Buffer): Buffer | undefined {
  for (const set of readAll(subject)) {
    for (const pair of readAll(expect(set, SET).value)) {
      const [type, value] = readAll(expect(pair, SEQUENCE).value);
      if (expect(type, OID).value.equals(COMMON_NAME)) return value?.value;
    }
  }
  return undefined;
}

function alternatives(extensions: Buffer): AlternativeName[] {
  const found = readAll(expect(readAll(extensions)[0], SEQUENCE).value)
    .map((extension) => readAll(expect(extension, SEQUENCE).value))
    .filter(([type]) => expect(type, OID).value.equals(SUBJECT_ALT_NAME));
  if (found.length > 1) throw new Error('the certificate has two subjectAltName extensions');
  const content = found[0]?.at(-1);
  if (!content) return [];
  const names = readAll(expect(content, OCTET_STRING).value)[0];
  return readAll(expect(names, SEQUENCE).value).flatMap(({ tag, value }): AlternativeName[] => {
    if (tag === DNS_NAME) return [{ type: 'dns', bytes: value }];
    return tag === IP_ADDRESS ? [{ type: 'ip', bytes: value }] : [];
  });
}

function expect(element: Element | undefined, tag: number): Element {
  if (element?.tag !== tag) throw new Error('the certificate is malformed');
  return element;
}

/** The elements of a constructed value. DER only: definite lengths, and tags that fit into one byte. */
function readAll(bytes: Buffer): Element[] {
  const elements: Element[] = [];
  for (let at = 0; at < bytes.length;) {
    const tag = bytes[at] ?? 0;
    let length = bytes[at + 1] ?? -1;
    let start = at + 2;
    if (length >= 0x80) {
      const size = length & 0x7f;
      if (size < 1 || size > 4 || start + size > bytes.length) throw new Error('the certificate is malformed');
      length = bytes.readUIntBE(start, size);
      start += size;
    }
    if (length < 0 || start + length > bytes.length) throw new Error('the certificate is malformed');
    elements.push({ tag, value: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return elements;
}
