import { describe, expect, it } from 'vitest';
import type { PeerCertificate } from 'node:tls';
import { TlsMaterial } from '../../../lib/tls/tls-material.js';
import { alpnObjection, certificateRequested, tlsConnectOptions } from '../../../lib/tls/tls-options.js';
import type { ResolvedTls } from '../../../lib/config/resolved-config.js';
import { createAuthority, dns } from './authority.js';
import { inline, resolvedTls } from './resolved-tls.js';

const authority = await createAuthority();
const db = await authority.issue({ names: [dns('db.test')] });
const asPeer = { raw: db.der } as PeerCertificate;

const materialOf = (tls: Partial<ResolvedTls>): TlsMaterial =>
  new TlsMaterial(resolvedTls(tls), { warn: () => undefined });

describe('tlsConnectOptions', () => {
  it('never leaves a decision to Node', () => {
    const options = tlsConnectOptions(materialOf({ mode: 'require' }), { host: 'db.test' });
    expect(Object.keys(options).sort()).toEqual([
      'ALPNProtocols',
      'checkServerIdentity',
      'rejectUnauthorized',
      'secureContext',
      'servername',
    ]);
    expect(options.ALPNProtocols).toEqual(['postgresql']);
  });

  it('carries the shared context', () => {
    const material = materialOf({ mode: 'require' });
    const target = { host: 'db.test' };
    expect(tlsConnectOptions(material, target).secureContext).toBe(material.secureContext().context);
  });

  it.each([
    ['no root', { mode: 'require' }, false, undefined],
    ['require and a root', { mode: 'require', ca: inline(authority.cert) }, true, undefined],
    ['verify-ca', { mode: 'verify-ca', ca: inline(authority.cert) }, true, undefined],
    ['verify-full', { mode: 'verify-full', ca: inline(authority.cert) }, true, 'ERR_TLS_CERT_ALTNAME_INVALID'],
  ] as const)('%s', (_, tls, rejectUnauthorized, wrongName) => {
    const options = tlsConnectOptions(materialOf(tls), { host: 'other.test' });
    expect(options.rejectUnauthorized).toBe(rejectUnauthorized);
    expect(options.checkServerIdentity?.('db.test', asPeer)).toEqual(
      wrongName === undefined ? undefined : expect.objectContaining({ code: wrongName }),
    );
  });

  it('checks the host that the user wrote, not what Node believes it to be', () => {
    const options = tlsConnectOptions(materialOf({ mode: 'verify-full', ca: inline(authority.cert) }), {
      host: 'db.test',
      hostaddr: '127.0.0.1',
    });
    expect(options.checkServerIdentity?.('127.0.0.1', asPeer)).toBeUndefined();
  });

  it('checks and sends serverName in place of the host', () => {
    const material = materialOf({ mode: 'verify-full', ca: inline(authority.cert), serverName: 'db.test' });
    for (const target of [{ host: 'tunnel.local' }, { hostaddr: '127.0.0.1' }, {}]) {
      const options = tlsConnectOptions(material, target);
      expect(options.servername).toBe('db.test');
      expect(options.checkServerIdentity?.('tunnel.local', asPeer)).toBeUndefined();
    }
  });

  it('wants a host for verify-full', () => {
    const material = materialOf({ mode: 'verify-full', ca: inline(authority.cert) });
    expect(() => tlsConnectOptions(material, { hostaddr: '10.1.2.3' })).toThrow(
      expect.objectContaining({
        code: 'PG_CONFIG_INVALID',
        message: expect.stringContaining('hostaddr=10.1.2.3') as string,
      }),
    );
    expect(tlsConnectOptions(materialOf({ mode: 'require' }), { hostaddr: '10.1.2.3' }).servername).toBe('');
  });

  it.each([
    ['db.test', 'db.test'],
    ['db.test.', 'db.test.'],
    ['192.0.2.1', ''],
    ['127.1', ''],
    ['1.2.3.4.5', ''],
    ['::1', ''],
    ['fe80::1%eth0', ''],
    ['3com.test', '3com.test'],
    ['', ''],
  ])('for host %j it sends %j as SNI', (host, servername) => {
    expect(tlsConnectOptions(materialOf({ mode: 'require' }), { host }).servername).toBe(servername);
    expect(tlsConnectOptions(materialOf({ mode: 'require', sni: false }), { host }).servername).toBe('');
  });
});

describe('alpnObjection', () => {
  it.each([
    ['direct', 'postgresql', true],
    ['direct', false, false],
    ['direct', null, false],
    ['direct', 'h2', false],
    ['postgres', false, true],
    ['postgres', 'postgresql', true],
  ] as const)('%s negotiation and protocol %s', (negotiation, alpnProtocol, accepted) => {
    expect(alpnObjection({ alpnProtocol }, negotiation) === undefined).toBe(accepted);
  });
});

describe('certificateRequested', () => {
  it('is told by the signature algorithms', () => {
    expect(certificateRequested({ getSharedSigalgs: () => ['RSA+SHA256'] })).toBe(true);
    expect(certificateRequested({ getSharedSigalgs: () => [] })).toBe(false);
  });
});
