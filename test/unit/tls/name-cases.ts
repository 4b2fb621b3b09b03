import { dns, ip } from './authority.js';
import type { LeafOptions } from './authority.js';

const loopback6 = ip(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

/** Without `refused` the certificate is the host's. */
export type NameCase = [what: string, host: string, certificate: LeafOptions, refused?: RegExp];

const MISMATCH = /does not match host name/;

/** libpq's rules for names, case by case; the integration test puts the same cases to the real libpq. */
export const NAME_CASES: NameCase[] = [
  ['the common name', 'db.example.com', { commonNames: ['db.example.com'] }],
  ['another common name', 'db.example.com', { commonNames: ['other.example.com'] }, MISMATCH],
  ['the first of two common names', 'a.test', { commonNames: ['a.test', 'b.test'] }],
  ['the second of two common names', 'b.test', { commonNames: ['a.test', 'b.test'] }, MISMATCH],
  ['upper case in the certificate', 'db.example.com', { names: [dns('DB.Example.COM')] }],
  ['upper case in the host', 'DB.EXAMPLE.COM', { names: [dns('db.example.com')] }],
  ['a trailing dot in the host', 'db.example.com.', { names: [dns('db.example.com')] }, MISMATCH],
  ['one of several alternative names', 'c.test', { names: [dns('a.test'), dns('b.test'), dns('c.test')] }],
  [
    'none of several',
    'd.test',
    { names: [dns('a.test'), dns('b.test'), dns('c.test')] },
    /"a.test", "b.test", "c.test"/,
  ],

  ['a wildcard for one label', 'foo.wild.test', { names: [dns('*.wild.test')] }],
  ['a wildcard without its label', 'wild.test', { names: [dns('*.wild.test')] }, MISMATCH],
  ['a wildcard for two labels', 'a.b.wild.test', { names: [dns('*.wild.test')] }, MISMATCH],
  ['a wildcard for an empty label', '.wild.test', { names: [dns('*.wild.test')] }, MISMATCH],
  ['a wildcard in upper case', 'FOO.WILD.TEST', { names: [dns('*.wild.test')] }],
  ['a wildcard below a top-level domain', 'example.com', { names: [dns('*.com')] }],
  ['a wildcard as common name', 'foo.wild.test', { commonNames: ['*.wild.test'] }],
  ['a partial wildcard', 'foo.wild.test', { names: [dns('f*.wild.test')] }, MISMATCH],
  ['a wildcard in the middle', 'a.foo.test', { names: [dns('a.*.test')] }, MISMATCH],
  ['a lone star', 'localhost', { names: [dns('*')] }, MISMATCH],
  ['a star and a dot', 'a.', { names: [dns('*.')] }, MISMATCH],

  [
    'a dNSName suppresses the common name of a host',
    'a.test',
    { commonNames: ['a.test'], names: [dns('b.test')] },
    MISMATCH,
  ],
  ['an iPAddress does not', 'a.test', { commonNames: ['a.test'], names: [ip(10, 0, 0, 1)] }],
  [
    'an iPAddress suppresses it of an address',
    '10.0.0.1',
    { commonNames: ['10.0.0.1'], names: [ip(10, 0, 0, 2)] },
    MISMATCH,
  ],
  ['a dNSName does not', '10.0.0.1', { commonNames: ['10.0.0.1'], names: [dns('b.test')] }],

  ['an IPv4 address', '192.0.2.1', { names: [ip(192, 0, 2, 1)] }],
  ['another IPv4 address', '192.0.2.2', { names: [ip(192, 0, 2, 1)] }, /"192.0.2.1" does not match/],
  ['an address as the common name', '192.0.2.1', { commonNames: ['192.0.2.1'] }],
  ['an address as a dNSName', '192.0.2.1', { names: [dns('192.0.2.1')] }],
  ['an address that a wildcard covers', '192.0.2.1', { names: [dns('*.0.2.1')] }],
  ['inet_aton: the last part fills up', '127.1', { names: [ip(127, 0, 0, 1)] }],
  ['inet_aton: hexadecimal and octal', '0x7f.0.0.01', { names: [ip(127, 0, 0, 1)] }],
  ['inet_aton: one number', '2130706433', { names: [ip(127, 0, 0, 1)] }],
  ['inet_aton: not beyond 32 bits', '4294967296', { names: [ip(0, 0, 0, 0)] }, MISMATCH],
  ['inet_aton: a last part that is too large', '127.16777216', { names: [ip(127, 0, 0, 0)] }, MISMATCH],
  ['inet_aton: the largest last part', '127.16777215', { names: [ip(127, 255, 255, 255)] }],
  ['inet_aton: five parts', '127.0.0.0.1', { names: [ip(127, 0, 0, 1)] }, MISMATCH],
  ['inet_aton: no octal digit', '127.0.0.08', { names: [ip(127, 0, 0, 8)] }, MISMATCH],
  ['not an address: a part above 255', '256.0.0.1', { commonNames: ['256.0.0.1'], names: [ip(0, 0, 0, 1)] }],
  ['an IPv6 address', '::1', { names: [loopback6] }],
  ['an IPv6 address in another spelling', '0:0:0:0:0:0:0:1', { names: [loopback6] }],
  [
    'an IPv6 address in upper case',
    '2001:DB8::A',
    { names: [ip(0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10)] },
  ],
  [
    'an IPv6 address with dotted tail',
    '::ffff:192.0.2.1',
    { names: [ip(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1)] },
  ],
  ['another IPv6 address', '::2', { names: [loopback6] }, /"::1" does not match/],
  ['an IPv6 address with a zone', '::1%lo', { names: [loopback6] }, MISMATCH],
  [
    'an IPv4 address is not the mapped IPv6 one',
    '192.0.2.1',
    { names: [ip(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1)] },
    MISMATCH,
  ],
  ['an iPAddress of five bytes', '10.0.0.1', { names: [ip(1, 2, 3, 4, 5)] }, /an IP address of 5 bytes/],

  ['a NUL in a dNSName', 'a.test', { names: [dns('a.test\0.evil.test')] }, /NUL/],
  ['a NUL before the right name', 'a.test', { names: [dns('x\0y'), dns('a.test')] }, /NUL/],
  ['a NUL in the common name', 'a.test', { commonNames: ['a.test\0.evil.test'] }, /NUL/],
  ['a NUL after the right name, which nobody looks at', 'a.test', { names: [dns('a.test'), dns('x\0y')] }],
  ['a dNSName that looks like a list', 'b.test', { names: [dns('a.test, DNS:b.test')] }, MISMATCH],
  ['a dNSName with quotes', 'b.test', { names: [dns('a.test", DNS:b.test, "c')] }, MISMATCH],
  ['a common name that looks like another attribute', 'b.test', { commonNames: ['a.test\nCN=b.test'] }, MISMATCH],
  ['no name at all', 'a.test', {}, /names no host at all/],
  ['two subjectAltName extensions', 'a.test', { names: [dns('a.test')], twiceNamed: true }, /two subjectAltName/],
  ['a name in UTF-8', 'bücher.test', { commonNames: ['bücher.test'] }],
  ['case outside of ASCII', 'BÜCHER.test', { commonNames: ['bücher.test'] }, MISMATCH],
];
