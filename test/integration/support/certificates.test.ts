import { createPrivateKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import tls from 'node:tls';
import pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { createAuthority, type Authority, type Issued } from '../../support/certificates.js';
import { ADMIN_HBA, useServer } from '../../support/postgres.js';

let root: Authority;
let intermediate: Authority;

beforeAll(async () => {
  root = await createAuthority('Test root');
  intermediate = await root.issueAuthority('Test intermediate');
});

async function handshake(server: tls.TlsOptions, client: tls.ConnectionOptions): Promise<string> {
  const listener = tls.createServer(server, (socket) => socket.end('welcome'));
  listener.on('tlsClientError', () => undefined);
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const socket = tls.connect({ host: '127.0.0.1', port, servername: '', ...client });
  try {
    // A server that dislikes the client's certificate says so, or nothing, after the client's handshake is over.
    let said = '';
    for await (const chunk of socket) said += String(chunk);
    return said === 'welcome' ? 'ok' : 'refused';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  } finally {
    socket.destroy();
    listener.close();
  }
}

const identity = ({ chainPem, keyPem }: Issued): { cert: string; key: string } => ({ cert: chainPem, key: keyPem });

describe('certificates, judged by node:tls', () => {
  it.each(['ec', 'rsa'] as const)('verify with their root, by address (%s)', async (type) => {
    const server = identity(await root.issue({ ips: ['127.0.0.1'], type }));
    expect(await handshake(server, { ca: root.certPem })).toBe('ok');
    const stranger = await createAuthority('Test root');
    expect(await handshake(server, { ca: stranger.certPem })).toMatch(/UNABLE_TO_VERIFY|SIGNATURE/);
  });

  it('verify by name, by wildcard, and not by another name', async () => {
    const server = identity(await root.issue({ cn: 'ignored.test', dns: ['db.test', '*.wild.test'] }));
    const outcome = (servername: string): Promise<string> => handshake(server, { ca: root.certPem, servername });
    expect(await outcome('db.test')).toBe('ok');
    expect(await outcome('any.wild.test')).toBe('ok');
    expect(await outcome('other.test')).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
    expect(await outcome('ignored.test')).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
  });

  it('expire, and begin', async () => {
    const past = identity(await root.issue({ ips: ['127.0.0.1'], days: -2 }));
    const future = identity(await root.issue({ ips: ['127.0.0.1'], startsIn: 2 }));
    expect(await handshake(past, { ca: root.certPem })).toBe('CERT_HAS_EXPIRED');
    expect(await handshake(future, { ca: root.certPem })).toBe('CERT_NOT_YET_VALID');
  });

  it('chain through an intermediate', async () => {
    const leaf = await intermediate.issue({ ips: ['127.0.0.1'] });
    expect(await handshake(identity(leaf), { ca: root.certPem })).toBe('ok');
    const alone = { cert: leaf.certPem, key: leaf.keyPem };
    expect(await handshake(alone, { ca: root.certPem })).toBe('UNABLE_TO_VERIFY_LEAF_SIGNATURE');
    expect(new X509Certificate(intermediate.certPem).subject).toBe('CN=Test intermediate');
  });

  it('are revoked by a list of their authority', async () => {
    const [good, bad] = await Promise.all([1, 2].map(() => root.issue({ ips: ['127.0.0.1'] })));
    if (!good || !bad) throw new Error('two certificates');
    const crl = await root.crl([bad]);
    expect(crl).toContain('BEGIN X509 CRL');
    expect(await handshake(identity(good), { ca: root.certPem, crl })).toBe('ok');
    expect(await handshake(identity(bad), { ca: root.certPem, crl })).toBe('CERT_REVOKED');
  });

  it('are for a client or for a server, not for both', async () => {
    const server = { ...identity(await root.issue({ ips: ['127.0.0.1'] })), ca: root.certPem, requestCert: true };
    const client = await root.issue({ cn: 'me', client: true });
    expect(await handshake(server, { ca: root.certPem, ...identity(client) })).toBe('ok');
    const wrong = await root.issue({ cn: 'me' });
    expect(await handshake(server, { ca: root.certPem, ...identity(wrong) })).toMatch(/^(refused|ECONNRESET|ERR_SSL)/);
    expect(await handshake(identity(client), { ca: root.certPem })).toBe('INVALID_PURPOSE');
  });

  it('have keys in PEM, DER, and encrypted', async () => {
    const { certPem, keyPem, keyDer, encryptedKeyPem } = await root.issue({ cn: 'me' });
    const certificate = new X509Certificate(certPem);
    expect(keyPem).toContain('BEGIN PRIVATE KEY');
    expect(certificate.checkPrivateKey(createPrivateKey({ key: keyDer, format: 'der', type: 'pkcs8' }))).toBe(true);
    const encrypted = encryptedKeyPem('a passphrase');
    expect(encrypted).toContain('BEGIN ENCRYPTED PRIVATE KEY');
    expect(certificate.checkPrivateKey(createPrivateKey({ key: encrypted, passphrase: 'a passphrase' }))).toBe(true);
    expect(() => createPrivateKey({ key: encrypted, passphrase: 'another' })).toThrow();
  });
});

describe('certificates, judged by PostgreSQL', () => {
  let revoked: Issued;

  const server = useServer(async () => {
    revoked = await intermediate.issue({ cn: 'postgres', client: true });
    const own = await root.issue({ ips: ['127.0.0.1'] });
    return {
      hba: [ADMIN_HBA, 'hostssl all all all cert'],
      ssl: {
        cert: own.certPem,
        key: own.keyPem,
        ca: root.certPem,
        crl: (await root.crl([])) + (await intermediate.crl([revoked])),
      },
    };
  });

  async function login(client: Issued | undefined): Promise<unknown> {
    const { host, port, user } = server();
    const ssl = { ca: root.certPem, ...(client && identity(client)) };
    const session = new pg.Client({ host, port, user, database: 'postgres', ssl });
    session.on('error', () => undefined);
    try {
      await session.connect();
      const { rows } = await session.query<{ dn: string }>(
        `SELECT client_dn AS dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()`,
      );
      await session.end();
      return rows[0]?.dn;
    } catch (error) {
      return error;
    }
  }

  it('open the door for the right client only', async () => {
    expect(await login(await root.issue({ cn: 'postgres', client: true }))).toBe('/CN=postgres');
    expect(await login(await intermediate.issue({ cn: 'postgres', client: true, type: 'rsa' }))).toBe('/CN=postgres');
    expect(await login(await root.issue({ cn: 'somebody', client: true }))).toMatchObject({ code: '28000' });
    expect(await login(undefined)).toMatchObject({ code: '28000' });
    expect(await login(revoked)).toBeInstanceOf(Error);
    expect(
      await login(await (await createAuthority('Stranger')).issue({ cn: 'postgres', client: true })),
    ).toBeInstanceOf(Error);
    expect(await server().log()).toContain('certificate revoked');
  });
});
