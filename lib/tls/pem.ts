export interface PemBlock {
  /** What stands after BEGIN: `CERTIFICATE`, `ENCRYPTED PRIVATE KEY`, ... */
  readonly label: string;
  /** With its BEGIN and END lines. */
  readonly text: string;
}

const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END \1-----/g;
const BEGIN = /-----BEGIN [A-Z0-9 ]+-----/g;

/**
 * The PEM blocks of a text; what stands between them is commentary (`openssl x509 -text` puts a page there).
 *
 * @throws Error when a block begins and does not end: the file is cut off, or is being written right now.
 */
export function pemBlocks(text: string): PemBlock[] {
  const blocks = [...text.matchAll(BLOCK)].map((match) => ({ label: match[1] ?? '', text: `${match[0]}\n` }));
  const begun = text.match(BEGIN)?.length ?? 0;
  if (begun !== blocks.length) throw new Error('a PEM block is cut off: its END line is missing');
  return blocks;
}

/** DER is a SEQUENCE from its first byte on; PEM has a BEGIN line somewhere. */
export function isDer(bytes: Buffer): boolean {
  return bytes[0] === 0x30 && !bytes.includes('-----BEGIN ');
}

export function derToPem(bytes: Buffer, label: string): string {
  const lines = bytes.toString('base64').match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}
