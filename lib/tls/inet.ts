import { isIPv6, SocketAddress } from 'node:net';

/**
 * The four bytes of an IPv4 address as C's `inet_aton` reads it: one to four parts, each decimal, octal (`0…`) or
 * hexadecimal (`0x…`), the last one filling the bytes that remain. libpq accepts all of these as addresses.
 */
export function ipv4Bytes(text: string): Buffer | undefined {
  const parts = text.split('.');
  if (parts.length > 4 || !parts.every((part) => /^(0x[0-9a-f]+|0[0-7]*|[1-9]\d*)$/i.test(part))) return undefined;
  const numbers = parts.map((part) => (/^0[0-7]/.test(part) ? Number.parseInt(part, 8) : Number(part)));
  const last = numbers.pop() ?? 0;
  if (numbers.some((number) => number > 255) || last >= 256 ** (4 - numbers.length)) return undefined;
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(last);
  bytes.set(numbers);
  return bytes;
}

/** An IPv6 address in its one canonical spelling. A zone (`%eth0`) makes it no address, as for `inet_pton`. */
export function canonicalIpv6(text: string): string | undefined {
  if (!isIPv6(text) || text.includes('%')) return undefined;
  return new SocketAddress({ address: text, family: 'ipv6' }).address;
}

export function isAddress(host: string): boolean {
  return ipv4Bytes(host) !== undefined || canonicalIpv6(host) !== undefined;
}

/** A certificate's iPAddress; `undefined` when its length is neither 4 nor 16 bytes. */
export function formatAddress(bytes: Buffer): string | undefined {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) return undefined;
  return canonicalIpv6(bytes.toString('hex').replace(/(.{4})(?!$)/g, '$1:'));
}
