import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tls from 'node:tls';
import { afterAll, describe, expect, it } from 'vitest';
import type { ResolvedTls } from '../../../lib/config/resolved-config.js';
import { Secret } from '../../../lib/errors/secret.js';
import { attachKeyLog } from '../../../lib/tls/key-log.js';
import { explainTlsError, isCertificateRefusal } from '../../../lib/tls/tls-error.js';
import { TlsMaterial } from '../../../lib/tls/tls-material.js';
import { tlsConnectOptions } from '../../../lib/tls/tls-options.js';
import { createAuthority, dns } from '../../unit/tls/authority.js';
import type { Leaf } from '../../unit/tls/authority.js';
import { handshake, refusal, serveTls } from '../../unit/tls/handshake.js';
import { inline, named, resolvedTls } from '../../unit/tls/resolved-tls.js';

const SECOND = 1000;

const authority = await createAuthority();
const stranger = await createAuthority('Stranger');
const intermediate = await authority.intermediate('Intermediate');
const server = await authority.issue({ names: [dns('localhost')] });
const below = await intermediate.issue({ names: [dns('localhost')] });
const expired = await authority.issue({ names: [dns('localhost')], notAfter: new Date(Date.now() - SECOND) });
const early = await authority.issue({ names: [dns('localhost')], notBefore: new Date(Date.now() + 3600 * SECOND) });
const client = await authority.issue({ commonNames: ['client'] });
const foreign = await stranger.issue({ commonNames: ['foreign'] });

const lists = {
  empty: await authority.revoke([]),
  ofClient: await authority.revoke([client.serial]),
  ofServer: await authority.revoke([server.serial]),
  ofBelow: await intermediate.revoke([below.serial]),
  old: await authority.revoke([], new Date(Date.now() - SECOND)),
};

const directory = mkdtempSync(join(tmpdir(), 'nestjs-pg-tls-'));
afterAll(() => rmSync(directory, { recursive: true }));

const serving = ({ cert, keyPem }: Leaf): tls.TlsOptions => ({ cert, key: keyPem });
const sending = ({ cert, keyPem }: Leaf): Partial<ResolvedTls> => ({ cert: inline(cert), key: inline(keyPem) });
const verified = { mode: 'verify-full', ca: inline(authority.cert) } as const;

describe("the server's certificate", () => {
  it.each<[string, Leaf, Partial<ResolvedTls>]>([
    ['the right root and name', server, verified],
    ['verify-ca and another name', client, { ...verified, mode: 'verify-ca' }],
    ['require, the right root and another name', client, { ...verified, mode: 'require' }],
    ['require without a root', foreign, { mode: 'require' }],
    ['require without a root, expired', expired, { mode: 'require' }],
    ['an intermediate that the server sends', { ...below, cert: below.cert + intermediate.cert }, verified],
    ['an intermediate that we know', below, { ...verified, ca: inline(authority.cert + intermediate.cert) }],
    ['the root among several', server, { ...verified, ca: inline(stranger.cert + authority.cert) }],
    ['the root as DER', server, { ...verified, ca: inline(authority.der) }],
    ['a revocation list without it', server, { ...verified, crl: inline(lists.ofClient.pem) }],
    ['a name given in place of the host', server, { ...verified, serverName: 'localhost' }],
  ])('is accepted: %s', async (_, leaf, settings) => {
    await using listener = await serveTls(serving(leaf));
    const host = settings.serverName === undefined ? 'localhost' : 'elsewhere.test';
    await handshake(listener.port, resolvedTls(settings), { host });
    expect(listener.indicatedNames).toEqual(['localhost']);
  });

  it.each<[string, Leaf, Partial<ResolvedTls>, RegExp]>([
    ['another root', server, { ...verified, ca: inline(stranger.cert) }, /does not lead to a trusted root/],
    ['another root, though only required', server, { mode: 'require', ca: inline(stranger.cert) }, /trusted root/],
    ['an intermediate that nobody has', below, verified, /intermediates/],
    ['another name', client, verified, /"client" does not match host name "localhost"/],
    ['expired', expired, verified, /has expired/],
    ['not valid yet', early, verified, /not valid yet/],
    ['revoked (PEM list)', server, { ...verified, crl: inline(lists.ofServer.pem) }, /has been revoked/],
    ['revoked (DER list)', server, { ...verified, crl: inline(lists.ofServer.der) }, /has been revoked/],
    [
      'revoked (second list in a file)',
      { ...below, cert: below.cert + intermediate.cert },
      { ...verified, crl: inline(lists.empty.pem + lists.ofBelow.pem) },
      /has been revoked/,
    ],
    [
      'no list for the intermediate',
      { ...below, cert: below.cert + intermediate.cert },
      { ...verified, crl: inline(lists.empty.pem) },
      /no revocation list/,
    ],
    ['an old list', server, { ...verified, crl: inline(lists.old.pem) }, /list is not valid now/],
  ])('is refused: %s', async (_, leaf, settings, text) => {
    await using listener = await serveTls(serving(leaf));
    const error = await refusal(handshake(listener.port, resolvedTls(settings)));
    expect(explainTlsError(error).message).toMatch(text);
    expect(isCertificateRefusal(error)).toBe(true);
  });

  it('is checked against revocation lists in a directory', async () => {
    const crlDir = mkdtempSync(join(directory, 'crls-'));
    writeFileSync(join(crlDir, '0a1b2c3d.r0'), lists.ofServer.pem);
    await using listener = await serveTls(serving(server));
    const error = await refusal(handshake(listener.port, resolvedTls({ ...verified, crlDir })));
    expect(error).toMatchObject({ code: 'CERT_REVOKED' });
  });

  it('is verified whatever NODE_TLS_REJECT_UNAUTHORIZED says', async () => {
    process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
    try {
      await using listener = await serveTls(serving(foreign));
      expect(isCertificateRefusal(await refusal(handshake(listener.port, resolvedTls(verified))))).toBe(true);
    } finally {
      delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
    }
  });
});

describe("the client's certificate", () => {
  const demanding = (): tls.TlsOptions => ({ ...serving(server), ca: authority.cert, requestCert: true });

  describe.each(['TLSv1.2', 'TLSv1.3'] as const)('over %s', (version) => {
    const spoken: tls.TlsOptions = { minVersion: version, maxVersion: version };

    it('reaches the server, which has asked for it', async () => {
      await using listener = await serveTls({ ...demanding(), ...spoken });
      const result = await handshake(listener.port, resolvedTls({ ...verified, ...sending(client) }));
      expect(result).toMatchObject({ client: 'CN=client', requested: true });
    });

    it('is not sent with sslcertmode=disable', async () => {
      await using listener = await serveTls({ ...demanding(), ...spoken, rejectUnauthorized: false });
      const result = await handshake(
        listener.port,
        resolvedTls({ ...verified, ...sending(client), certMode: 'disable' }),
      );
      expect(result).toMatchObject({ client: null, requested: true });
    });

    it('is known not to have been asked for', async () => {
      await using listener = await serveTls({ ...serving(server), ...spoken });
      const result = await handshake(listener.port, resolvedTls({ ...verified, ...sending(client) }));
      expect(result).toMatchObject({ client: null, requested: false });
    });

    it('is missed by the server', async () => {
      await using listener = await serveTls({ ...demanding(), ...spoken });
      const error = await refusal(handshake(listener.port, resolvedTls(verified)));
      expect(explainTlsError(error).message).toMatch(/demands a client certificate/);
      expect(isCertificateRefusal(error)).toBe(version === 'TLSv1.3');
    });
  });

  it.each([
    [
      'PEM, encrypted',
      client.key.export({ format: 'pem', type: 'pkcs8', cipher: 'aes-256-cbc', passphrase: 'sesame' }),
    ],
    ['DER', client.key.export({ format: 'der', type: 'pkcs8' })],
    ['DER, SEC1', client.key.export({ format: 'der', type: 'sec1' })],
  ])('is sent with a key from a file: %s', async (_, key) => {
    const [certFile, keyFile] = [join(directory, 'client.crt'), join(directory, 'client.key')];
    writeFileSync(certFile, client.cert);
    writeFileSync(keyFile, key);
    chmodSync(keyFile, 0o600);
    const passphrase = new Secret('sesame');
    await using listener = await serveTls(demanding());
    const settings = resolvedTls({ ...verified, cert: named(certFile), key: named(keyFile), passphrase });
    expect(await handshake(listener.port, settings)).toMatchObject({ client: 'CN=client' });
  });

  it('comes with its intermediates', async () => {
    const leaf = await intermediate.issue({ commonNames: ['below'] });
    await using listener = await serveTls(demanding());
    const settings = resolvedTls({
      ...verified,
      cert: inline(leaf.cert + intermediate.cert),
      key: inline(leaf.keyPem),
    });
    expect(await handshake(listener.port, settings)).toMatchObject({ client: 'CN=below' });
  });
});

describe('the protocol', () => {
  const LEGACY = `${tls.DEFAULT_CIPHERS}:@SECLEVEL=0`;

  it.each<[string, tls.TlsOptions, Partial<ResolvedTls>, string]>([
    ['1.3 by default', {}, {}, 'TLSv1.3'],
    ['a lower maximum', {}, { maxVersion: 'TLSv1.2' }, 'TLSv1.2'],
    [
      'an old server that was allowed for',
      { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: LEGACY },
      { minVersion: 'TLSv1' },
      'TLSv1.1',
    ],
  ])('version: %s', async (_, options, settings, version) => {
    await using listener = await serveTls({ ...serving(server), ...options });
    const versions: (string | null)[] = [];
    listener.server.on('secureConnection', (socket) => versions.push(socket.getProtocol()));
    await handshake(listener.port, resolvedTls({ ...verified, ...settings }));
    expect(versions).toEqual([version]);
  });

  it.each<[string, tls.TlsOptions, Partial<ResolvedTls>, RegExp]>([
    ['an old server', { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: LEGACY }, {}, /no TLS version in common/],
    ['a higher minimum', { maxVersion: 'TLSv1.2' }, { minVersion: 'TLSv1.3' }, /no TLS version in common/],
    ['no common cipher', { maxVersion: 'TLSv1.2', ciphers: 'AES128-SHA' }, {}, /no cipher or curve in common/],
    ['another application protocol', { ALPNProtocols: ['h2'] }, {}, /does not offer the protocol "postgresql"/],
  ])('refused: %s', async (_, options, settings, text) => {
    await using listener = await serveTls({ ...serving(server), ...options });
    const error = await refusal(handshake(listener.port, resolvedTls({ ...verified, ...settings })));
    expect(explainTlsError(error).message).toMatch(text);
    expect(isCertificateRefusal(error)).toBe(false);
  });

  it.each<[string, (socket: Socket) => void, RegExp]>([
    ['text', (socket) => socket.end('HTTP/1.0 400 Bad Request\r\n\r\n'), /the answer was not TLS/],
    ['the end', (socket) => socket.end(), /closed during the TLS handshake/],
  ])('refused: a server that answers with %s', async (_, answer, text) => {
    const listener = createServer((socket) => socket.on('error', () => undefined).once('data', () => answer(socket)));
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const error = await refusal(handshake((listener.address() as AddressInfo).port, resolvedTls(verified)));
    listener.close();
    expect(explainTlsError(error).message).toMatch(text);
  });

  it('sends no name for an address, and none with sslsni=0', async () => {
    await using listener = await serveTls(serving(server));
    await handshake(listener.port, resolvedTls({ mode: 'require' }), { host: '127.0.0.1' });
    await handshake(listener.port, resolvedTls({ mode: 'require', sni: false }), { host: 'localhost' });
    expect(listener.indicatedNames).toEqual(['', '']);
  });
});

describe('sslkeylogfile', () => {
  async function connectLogging(path: string): Promise<string[]> {
    const warnings: string[] = [];
    await using listener = await serveTls(serving(server));
    const material = new TlsMaterial(resolvedTls(verified), { warn: () => undefined });
    const options = tlsConnectOptions(material, { host: 'localhost' });
    const socket = tls.connect({ ...options, host: '127.0.0.1', port: listener.port });
    attachKeyLog(socket, path, (message) => warnings.push(message));
    await once(socket, 'data');
    socket.destroy();
    return warnings;
  }

  it('receives the secrets of every connection, for its owner only', async () => {
    const path = join(directory, 'keys.log');
    await connectLogging(path);
    const first = readFileSync(path, 'utf8');
    expect(first).toMatch(/^CLIENT_HANDSHAKE_TRAFFIC_SECRET [0-9a-f]{64} [0-9a-f]+$/m);
    expect(first.endsWith('\n')).toBe(true);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await connectLogging(path);
    expect(readFileSync(path, 'utf8').length).toBeGreaterThan(first.length);
  });

  it('that cannot be written is warned of once and hinders nothing', async () => {
    const path = join(directory, 'missing', 'keys.log');
    expect(await connectLogging(path)).toEqual([expect.stringContaining(path)]);
  });
});
