import { createSecureContext } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { resolveConfig } from '../../../lib/config/resolve-config.js';
import type { ResolvedConfig } from '../../../lib/config/resolved-config.js';
import type { ConnectionSettings } from '../../../lib/config/settings.js';
import { world } from './world.js';

const PEM = '-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n';

function tls(ssl: unknown, connectionString = 'host=h', env: Record<string, string> = {}): ResolvedConfig['tls'] {
  return resolveConfig({ connectionString, ssl: ssl as ConnectionSettings['ssl'] }, world({ env, home: '/me' })).tls;
}

describe('the ssl option', () => {
  const file = (path: string): object => ({ kind: 'file', path, required: true });
  const system = { kind: 'system' };
  const home = { kind: 'file', path: '/me/.postgresql/root.crt', required: false };

  it.each([
    [undefined, 'host=h', 'prefer', home],
    [false, 'host=h', 'disable', home],
    [false, 'host=h sslmode=verify-full sslrootcert=/r', 'disable', file('/r')],
    [true, 'host=h', 'verify-full', system],
    [true, 'host=h sslmode=disable', 'verify-full', system],
    [true, 'host=h sslrootcert=/r', 'verify-full', file('/r')],
    ['require', 'host=h', 'require', home],
    ['verify-full', 'host=h', 'verify-full', home],
    ['verify-full', 'host=h sslmode=require sslrootcert=/r', 'verify-full', file('/r')],
    [{ mode: 'verify-ca' }, 'host=h sslrootcert=/r', 'verify-ca', file('/r')],
    [{ ca: { file: '/c' } }, 'host=h', 'verify-full', file('/c')],
    [{ ca: { file: '/c' } }, 'host=h sslmode=require sslrootcert=/r', 'verify-full', file('/c')],
    [{ ca: { file: '/c' }, mode: 'require' }, 'host=h', 'require', file('/c')],
    [{ ca: 'system' }, 'host=h', 'verify-full', system],
    [{ ca: { file: 'system' } }, 'host=h', 'verify-full', file('./system')],
    [{}, 'host=h', 'verify-full', system],
    [{}, 'host=h sslrootcert=/r', 'verify-full', file('/r')],
    [{ cert: { file: '/c' } }, 'host=h', 'verify-full', system],
    [{ cert: { file: '/c' } }, 'host=h sslmode=require', 'require', home],
    [undefined, 'host=h sslrootcert=system', 'verify-full', system],
    [undefined, "host=h sslrootcert=''", 'prefer', home],
  ])('%j with %j is %s', (ssl, string, mode, ca) => {
    const result = tls(ssl, string);
    expect([result.mode, result.ca]).toEqual([mode, ca]);
  });

  it('takes mode and roots from the environment where it leaves them open', () => {
    const env = { PGSSLMODE: 'verify-ca', PGSSLROOTCERT: '/e' };
    expect(tls({ cert: PEM }, 'host=h', env)).toMatchObject({ mode: 'verify-ca', ca: file('/e') });
    expect(tls(true, 'host=h', env)).toMatchObject({ mode: 'verify-full', ca: file('/e') });
  });

  it('keeps material in memory, copied, out of sight', () => {
    const key = Buffer.from('-----BEGIN PRIVATE KEY-----');
    const result = tls({ mode: 'require', cert: PEM, key, passphrase: 'open sesame' });
    key.fill(0);
    expect(result.cert?.kind === 'inline' && result.cert.pem.reveal()).toBe(PEM);
    expect(result.key?.kind === 'inline' && String(result.key.pem.reveal())).toBe('-----BEGIN PRIVATE KEY-----');
    expect(result.passphrase?.reveal()).toBe('open sesame');
    expect(JSON.stringify(result)).not.toMatch(/BEGIN|sesame/);
  });

  it.each([
    [{ serverName: 'n' }, 'sslsni=0', { sni: true, serverName: 'n' }],
    [{ serverName: false }, '', { sni: false, serverName: undefined }],
    [{}, 'sslsni=0', { sni: false, serverName: undefined }],
    [{ negotiation: 'direct' }, '', { negotiation: 'direct', mode: 'verify-full' }],
    [{ minVersion: 'TLSv1.3' }, '', { minVersion: 'TLSv1.3', maxVersion: undefined }],
    [{ maxVersion: 'TLSv1.2' }, '', { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' }],
    [{ crlDir: '/d' }, '', { crlDir: '/d', crl: undefined }],
    [{ crl: { file: '/l' }, crlDir: '/d' }, '', { crlDir: '/d', crl: file('/l') }],
    [
      undefined,
      '',
      { crl: { kind: 'file', path: '/me/.postgresql/root.crl', required: false }, minVersion: 'TLSv1.2' },
    ],
    [undefined, 'ssl_max_protocol_version=tlsV1.3', { maxVersion: 'TLSv1.3' }],
    [undefined, 'sslkey=/k sslcert=/c sslcertmode=require', { key: file('/k'), cert: file('/c'), certMode: 'require' }],
    [undefined, 'sslkeylogfile=/l', { keyLogFile: '/l' }],
  ])('%j with %j gives %j', (ssl, string, expected) => {
    expect(tls(ssl, `host=h ${string}`)).toMatchObject(expected);
  });

  it('hands a ready context on as it is', () => {
    const secureContext = createSecureContext();
    expect(tls({ secureContext }).secureContext).toBe(secureContext);
    expect(Object.isFrozen(secureContext)).toBe(false);
  });

  it.each([
    [1, /^ssl must be true, false, a mode \(disable, .*\) or an object, not a number/],
    [null, /not null/],
    [[], /must be an object/],
    ['verify-ful', /ssl is "verify-ful"; .* Did you mean "verify-full"\?/],
    ['no-verify', /write ssl: 'require'/],
    ['true', /write ssl: true/],
    [
      { rejectUnauthorized: false },
      /Unknown key "rejectUnauthorized" in the ssl option: instead of false write ssl: 'require'/,
    ],
    [{ requestCert: true }, /option of TLS servers/],
    [{ servername: 'x' }, /write serverName: '...'/],
    [{ checkServerIdentity: () => undefined }, /mode: 'verify-ca'/],
    [{ mod: 'require' }, /did you mean "mode"\?/],
    [{ mode: 'strict' }, /ssl.mode is "strict"; it must be one of disable, allow/],
    [{ mode: true }, /ssl.mode is a boolean/],
    [{ minVersion: 'TLSv1.4' }, /ssl.minVersion is "TLSv1.4"; it must be one of TLSv1, .* Did you mean/],
    [
      { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.2' },
      /ssl.minVersion \(TLSv1.3\) is above ssl.maxVersion \(TLSv1.2\)/,
    ],
    [{ maxVersion: 'TLSv1.1' }, /ssl_min_protocol_version \(TLSv1.2\) is above ssl.maxVersion \(TLSv1.1\)/],
    [{ ca: '/etc/root.crt' }, /ssl.ca is text without "-----BEGIN": for a file write ca: \{ file: '...' \}/],
    [{ ca: [PEM] }, /one after another/],
    [{ ca: 1 }, /must be PEM text, a Buffer or/],
    [{ ca: Buffer.alloc(0) }, /empty Buffer/],
    [{ ca: { path: '/x' } }, /Unknown key "path" in the option ssl.ca: write \{ file: '...' \}/],
    [{ ca: {} }, /ssl.ca.file must be a string/],
    [{ ca: { file: '' } }, /ssl.ca.file must be a string that is not empty/],
    [{ passphrase: 5 }, /ssl.passphrase must be a string/],
    [
      { negotiation: 'direct', mode: 'prefer' },
      /"direct", which is not allowed with sslmode "prefer" \(from ssl.mode\)/,
    ],
    [{ ca: 'system', mode: 'require' }, /"system", which is not allowed with sslmode "require"/],
    [{ secureContext: {} }, /what tls.createSecureContext\(\) returns/],
    [{ secureContext: createSecureContext(), ca: PEM }, /ssl.secureContext and ssl.ca exclude each other/],
  ])('refuses %j', (ssl, message) => {
    expect(() => tls(ssl)).toThrow(message);
  });

  it('does not set roots of the string aside to satisfy a weaker mode', () => {
    expect(() => tls('require', 'host=h sslrootcert=system')).toThrow(
      /sslrootcert in the connection string is "system"/,
    );
    expect(() => tls(false, 'host=h sslnegotiation=direct')).toThrow(
      /sslnegotiation in the connection string is "direct"/,
    );
  });
});
