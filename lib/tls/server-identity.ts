import { canonicalIpv6, formatAddress, ipv4Bytes, isAddress } from './inet.js';
import { certificateNames } from './certificate-names.js';
import type { AlternativeName, CertificateNames } from './certificate-names.js';

/** A certificate that leads to a trusted root and belongs to somebody else. */
export class ServerIdentityError extends Error {
  override readonly name = 'ServerIdentityError';
  /** As Node's own check has it. */
  readonly code = 'ERR_TLS_CERT_ALTNAME_INVALID';
  readonly host: string;

  constructor(message: string, host: string) {
    super(message);
    this.host = host;
  }
}

/**
 * libpq's check of a server's name for `verify-full` (fe-secure-openssl.c and fe-secure-common.c), where Node's rules
 * differ from it: an address also matches a common name or a dNSName that spells it, `*.com` is a wildcard, `f*.com` is
 * none. `host` is what the user wrote, never an address that it resolved to.
 *
 * - Case is ignored for ASCII letters; a leftmost `*.` stands for exactly one label.
 * - An iPAddress is compared as an address, so `::1` and `0:0:0:0:0:0:0:1` are the same.
 * - The common name counts only if there is no alternative name of the host's own type.
 * - A NUL byte in a name that is looked at refuses the certificate.
 *
 * @returns the error, or `undefined` when the certificate is the host's.
 */
export function checkServerIdentity(host: string, certificate: { readonly raw: Buffer }): Error | undefined {
  let names: CertificateNames;
  try {
    names = certificateNames(certificate.raw);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return new ServerIdentityError(`could not get the names from the server's certificate: ${why}`, host);
  }
  return compare(host, names);
}

function compare(host: string, names: CertificateNames): Error | undefined {
  const hostType: AlternativeName['type'] = isAddress(host) ? 'ip' : 'dns';
  const examined: string[] = [];
  const commonName: AlternativeName[] =
    names.commonName && !names.alternatives.some(({ type }) => type === hostType)
      ? [{ type: 'dns', bytes: names.commonName }]
      : [];
  for (const { type, bytes } of [...names.alternatives, ...commonName]) {
    if (type === 'ip') {
      const address = formatAddress(bytes);
      if (address === undefined) {
        return new ServerIdentityError(`server certificate contains an IP address of ${bytes.length} bytes`, host);
      }
      if (addressMatches(bytes, host)) return undefined;
      examined.push(address);
    } else {
      if (bytes.includes(0)) return new ServerIdentityError('server certificate contains a name with a NUL byte', host);
      if (nameMatches(bytes, host)) return undefined;
      examined.push(bytes.toString('utf8'));
    }
  }
  return new ServerIdentityError(mismatch(host, examined), host);
}

function addressMatches(bytes: Buffer, host: string): boolean {
  if (bytes.length === 4) return ipv4Bytes(host)?.equals(bytes) ?? false;
  return canonicalIpv6(host) === formatAddress(bytes);
}

function nameMatches(pattern: Buffer, host: string): boolean {
  const name = foldCase(pattern);
  const wanted = foldCase(Buffer.from(host, 'utf8'));
  if (name === wanted) return true;
  if (name.length < 3 || name.length > wanted.length || !name.startsWith('*.')) return false;
  return wanted.endsWith(name.slice(1)) && wanted.indexOf('.') >= wanted.length - name.length;
}

/** One character per byte, so that the comparison is one of bytes; only ASCII letters have a case. */
function foldCase(bytes: Buffer): string {
  return bytes.toString('latin1').replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

const NAMES_SHOWN = 5;

function mismatch(host: string, examined: readonly string[]): string {
  if (examined.length === 0) return `server certificate names no host at all, so it is not valid for "${host}"`;
  // The names are the other side's: quoted, so that a control character in them stays one in the log.
  const shown = examined.slice(0, NAMES_SHOWN).map((name) => JSON.stringify(name.slice(0, 255)));
  const more = examined.length > NAMES_SHOWN ? ` and ${examined.length - NAMES_SHOWN} more` : '';
  return `server certificate for ${shown.join(', ')}${more} does not match host name ${JSON.stringify(host)}`;
}
