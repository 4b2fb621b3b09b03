import { generateKeyPairSync } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { describe, expect, it } from 'vitest';
import type { ResolvedTls } from '../../../lib/config/resolved-config.js';
import { Secret } from '../../../lib/errors/secret.js';
import { TlsMaterialError } from '../../../lib/tls/tls-material.error.js';
import { TlsMaterial } from '../../../lib/tls/tls-material.js';
import { createAuthority, dns } from './authority.js';
import { MemoryFiles } from './memory-files.js';
import { byDefault, inline, named, resolvedTls } from './resolved-tls.js';

const authority = await createAuthority();
const client = await authority.issue({ commonNames: ['client'] });
const renewed = await authority.issue({ commonNames: ['client'] });
const server = await authority.issue({ names: [dns('localhost')] });
const crl = await authority.revoke([server.serial]);

const DEFAULTS = {
  ca: byDefault('/home/.postgresql/root.crt'),
  cert: byDefault('/home/.postgresql/postgresql.crt'),
  key: byDefault('/home/.postgresql/postgresql.key'),
  crl: byDefault('/home/.postgresql/root.crl'),
} as const;

const PAIR = { cert: named('/tls.crt'), key: named('/tls.key') } as const;

interface Place {
  files?: MemoryFiles;
  env?: Record<string, string>;
  platform?: NodeJS.Platform;
}

function materialOf(tls: Partial<ResolvedTls>, place: Place = {}): TlsMaterial & { warnings: string[] } {
  const files = place.files ?? new MemoryFiles();
  const warnings: string[] = [];
  const material = new TlsMaterial(resolvedTls(tls), {
    warn: (message) => warnings.push(message),
    files,
    now: files.now,
    env: place.env ?? {},
    platform: place.platform ?? 'linux',
  });
  return Object.assign(material, { warnings });
}

function errorOf(material: TlsMaterial): TlsMaterialError {
  try {
    material.secureContext();
  } catch (error) {
    if (error instanceof TlsMaterialError) return error;
    throw error;
  }
  throw new Error('the material was accepted');
}

const pairFiles = (facts?: { mode?: number; uid?: number; isFile?: boolean }): MemoryFiles =>
  new MemoryFiles().write('/tls.crt', client.cert, { mode: 0o644 }).write('/tls.key', client.keyPem, facts);

describe('the root certificate', () => {
  const root = (): MemoryFiles => new MemoryFiles().write('/root.crt', authority.cert);

  it.each([
    ['allow', 'ca'],
    ['prefer', 'ca'],
    ['require', 'ca'],
    ['verify-ca', 'ca'],
    ['verify-full', 'full'],
  ] as const)('present in mode %s: verifies %s', (mode, verify) => {
    expect(materialOf({ mode, ca: named('/root.crt') }, { files: root() }).secureContext().verify).toBe(verify);
    expect(materialOf({ mode, ca: byDefault('/root.crt') }, { files: root() }).secureContext().verify).toBe(verify);
    expect(materialOf({ mode, ca: inline(authority.cert) }).secureContext().verify).toBe(verify);
    expect(materialOf({ mode, ca: inline(authority.der) }).secureContext().verify).toBe(verify);
  });

  it.each(['allow', 'prefer', 'require'] as const)(
    'absent from its default place in mode %s: verifies nothing',
    (mode) => {
      expect(materialOf({ mode, ...DEFAULTS }).secureContext()).toMatchObject({
        verify: 'none',
        clientCertificate: false,
      });
      expect(materialOf({ mode }).secureContext().verify).toBe('none');
    },
  );

  it('counts as absent after any failure of stat, as in libpq', () => {
    const files = new MemoryFiles().failStat(DEFAULTS.ca.kind === 'file' ? DEFAULTS.ca.path : '', 'EACCES');
    expect(materialOf({ mode: 'require', ca: DEFAULTS.ca }, { files }).secureContext().verify).toBe('none');
  });

  it.each(['verify-ca', 'verify-full'] as const)('absent in mode %s: an error in the words of libpq', (mode) => {
    expect(errorOf(materialOf({ mode, ...DEFAULTS })).message).toContain(
      'root certificate file "/home/.postgresql/root.crt" does not exist',
    );
    expect(errorOf(materialOf({ mode })).message).toContain('could not get home directory to locate root certificate');
  });

  it.each(['allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const)(
    'named and missing in mode %s: an error',
    (mode) => {
      const error = errorOf(materialOf({ mode, ca: named('/rot.crt') }));
      expect(error).toMatchObject({ code: 'PG_CONFIG_INVALID', explicit: true });
      expect(error.message).toBe('sslrootcert (option ssl.ca): file "/rot.crt" does not exist');
    },
  );

  it.each([
    ['empty', '', /no certificate in it/],
    ['another text', 'hello', /no certificate in it/],
    ['a key', server.keyPem, /no certificate in it/],
    ['cut off', authority.cert.slice(0, -40), /END line is missing/],
    ['a second certificate cut off', authority.cert + client.cert.slice(0, 200), /END line is missing/],
    [
      'garbage inside',
      '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
      /file "\/root.crt" cannot be used/,
    ],
    ['DER cut off', authority.der.subarray(0, 100), /file "\/root.crt" cannot be used/],
  ])('unusable (%s): an error that names the file', (_, content, message) => {
    const files = new MemoryFiles().write('/root.crt', content);
    expect(errorOf(materialOf({ mode: 'require', ca: named('/root.crt') }, { files }))).toMatchObject({
      explicit: true,
    });
    const error = errorOf(materialOf({ mode: 'require', ca: byDefault('/root.crt') }, { files }));
    expect(error.explicit).toBe(false);
    expect(error.message).toMatch(message);
  });

  it('unreadable or not a file: an error', () => {
    const files = root().failRead('/root.crt', 'EACCES').write('/dir', '', { isFile: false });
    expect(errorOf(materialOf({ ca: named('/root.crt') }, { files })).message).toContain('cannot be read (EACCES)');
    expect(errorOf(materialOf({ ca: named('/dir') }, { files })).message).toContain('"/dir" is not a regular file');
  });
});

describe('sslrootcert=system', () => {
  const system = { mode: 'verify-full', ca: { kind: 'system' } } as const;

  it('takes the bundle of the operating system', () => {
    const files = new MemoryFiles().write('/etc/pki/tls/certs/ca-bundle.crt', authority.cert);
    expect(materialOf(system, { files }).secureContext().verify).toBe('full');
    expect(files.reads).toBe(1);
  });

  it('takes what SSL_CERT_FILE and SSL_CERT_DIR name, and then nothing else', () => {
    const files = new MemoryFiles()
      .write('/etc/ssl/certs/ca-certificates.crt', 'not looked at')
      .write('/one.pem', authority.cert)
      .write('/hashed', '', { isFile: false })
      .write('/hashed/0a1b2c3d.0', authority.cert)
      .write('/hashed/readme.txt', 'not looked at');
    expect(materialOf(system, { files, env: { SSL_CERT_FILE: '/one.pem' } }).secureContext().verify).toBe('full');
    expect(materialOf(system, { files, env: { SSL_CERT_DIR: '/hashed:' } }).secureContext().verify).toBe('full');
    expect(files.reads).toBe(2);
  });

  it('refuses what SSL_CERT_FILE and SSL_CERT_DIR name and is not there', () => {
    expect(errorOf(materialOf(system, { env: { SSL_CERT_FILE: '/no.pem' } })).message).toContain(
      'file "/no.pem": ENOENT',
    );
    expect(errorOf(materialOf(system, { env: { SSL_CERT_DIR: '/no' } })).message).toContain('directory "/no": ENOENT');
  });

  it("falls back to Node's own roots", () => {
    expect(materialOf(system).secureContext().verify).toBe('full');
    expect(materialOf(system, { platform: 'win32' }).secureContext().verify).toBe('full');
  });
});

describe('the client certificate', () => {
  it('is optional at its default place', () => {
    expect(materialOf({ ...DEFAULTS }).secureContext().clientCertificate).toBe(false);
  });

  it('is taken from its default place, with the key beside it', () => {
    const files = new MemoryFiles()
      .write('/home/.postgresql/postgresql.crt', client.cert)
      .write('/home/.postgresql/postgresql.key', client.keyPem);
    expect(materialOf({ ...DEFAULTS }, { files }).secureContext().clientCertificate).toBe(true);
    expect(materialOf({ ...DEFAULTS, certMode: 'disable' }, { files }).secureContext().clientCertificate).toBe(false);
  });

  it('at its default place behind a closed directory is an error, as in libpq', () => {
    const files = new MemoryFiles().failStat('/home/.postgresql/postgresql.crt', 'EACCES');
    expect(errorOf(materialOf({ ...DEFAULTS }, { files }))).toMatchObject({ explicit: false });
  });

  it('that was named must be there', () => {
    expect(errorOf(materialOf({ ...PAIR })).message).toBe('sslcert (option ssl.cert): file "/tls.crt" does not exist');
  });

  it('is not looked at with sslcertmode=disable', () => {
    expect(materialOf({ ...PAIR, certMode: 'disable' }).secureContext().clientCertificate).toBe(false);
  });

  it('is demanded by sslcertmode=require and by a key that was named', () => {
    expect(errorOf(materialOf({ ...DEFAULTS, certMode: 'require' })).message).toContain(
      'sslcertmode=require is set, but',
    );
    expect(errorOf(materialOf({ ...DEFAULTS, key: named('/tls.key') })).message).toContain(
      'sslkey (option ssl.key) is set, but',
    );
  });

  it('needs its key', () => {
    const files = new MemoryFiles().write('/tls.crt', client.cert);
    expect(errorOf(materialOf({ ...PAIR }, { files })).message).toContain(
      'its private key file "/tls.key" does not exist',
    );
    expect(errorOf(materialOf({ cert: named('/tls.crt') }, { files })).message).toContain('no private key');
    expect(errorOf(materialOf({ cert: inline(client.cert), key: inline(server.keyPem) })).message).toContain(
      'does not belong to the private key, the text given as ssl.key',
    );
  });
});

describe('the private key', () => {
  const ec = client.key;
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const encrypted = { cipher: 'aes-256-cbc', passphrase: 'sesame' } as const;

  it.each<[string, string | Buffer]>([
    ['PKCS#8 PEM', ec.export({ format: 'pem', type: 'pkcs8' })],
    ['SEC1 PEM', ec.export({ format: 'pem', type: 'sec1' })],
    [
      'PEM with parameters and commentary before it',
      `some words\n-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n${ec.export({ format: 'pem', type: 'sec1' }).toString()}`,
    ],
    ['PEM after the certificate', client.cert + client.keyPem],
    ['PKCS#8 DER', ec.export({ format: 'der', type: 'pkcs8' })],
    ['SEC1 DER', ec.export({ format: 'der', type: 'sec1' })],
    ['encrypted PKCS#8 PEM', ec.export({ format: 'pem', type: 'pkcs8', ...encrypted })],
    ['encrypted SEC1 PEM', ec.export({ format: 'pem', type: 'sec1', ...encrypted })],
    ['encrypted PKCS#8 DER', ec.export({ format: 'der', type: 'pkcs8', ...encrypted })],
  ])('%s is read', (_, bytes) => {
    const passphrase = new Secret('sesame');
    const inMemory = materialOf({ cert: inline(client.cert), key: inline(bytes), passphrase });
    expect(inMemory.secureContext().clientCertificate).toBe(true);
    const files = pairFiles().write('/tls.key', bytes);
    expect(materialOf({ ...PAIR, passphrase }, { files }).secureContext().clientCertificate).toBe(true);
  });

  it.each<[string, string | Buffer, string | undefined, RegExp]>([
    [
      'encrypted PEM without a passphrase',
      ec.export({ format: 'pem', type: 'pkcs8', ...encrypted }),
      undefined,
      /is encrypted and no passphrase/,
    ],
    [
      'old encrypted PEM without a passphrase',
      ec.export({ format: 'pem', type: 'sec1', ...encrypted }),
      undefined,
      /is encrypted and no passphrase/,
    ],
    [
      'encrypted DER without a passphrase',
      ec.export({ format: 'der', type: 'pkcs8', ...encrypted }),
      undefined,
      /is encrypted and no passphrase/,
    ],
    [
      'a wrong passphrase',
      ec.export({ format: 'pem', type: 'pkcs8', ...encrypted }),
      'simsalabim',
      /passphrase in sslpassword .* is wrong/,
    ],
    [
      'a key of another kind',
      rsa.export({ format: 'der', type: 'pkcs1' }),
      undefined,
      /does not belong to the private key/,
    ],
    ['a certificate in its place', client.cert, undefined, /no private key in it/],
    [
      'garbage PEM',
      '-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n',
      undefined,
      /OpenSSL can read/,
    ],
    ['garbage DER', Buffer.from('0secret'), undefined, /neither PEM nor a DER key/],
    ['a cut off PEM', client.keyPem.slice(0, -30), undefined, /END line is missing/],
  ])('%s is refused', (_, bytes, passphrase, message) => {
    const error = errorOf(
      materialOf({
        cert: inline(client.cert),
        key: inline(bytes),
        passphrase: passphrase === undefined ? undefined : new Secret(passphrase),
      }),
    );
    expect(error.message).toMatch(message);
    expect(error.message).not.toMatch(/simsalabim|sesame|secret|c2VjcmV0/);
  });

  it.each<[string, uid: number, mode: number, accepted: boolean]>([
    ['root', 0, 0o600, true],
    ['root', 0, 0o400, true],
    ['root', 0, 0o640, true],
    ['root', 0, 0o440, true],
    ['root', 0, 0o660, false],
    ['root', 0, 0o650, false],
    ['root', 0, 0o644, false],
    ['root', 0, 0o641, false],
    ['a user', 1000, 0o600, true],
    ['a user', 1000, 0o700, true],
    ['a user', 1000, 0o640, false],
    ['a user', 1000, 0o604, false],
    ['a user', 1000, 0o601, false],
  ])('of %s (uid %i) with mode 0%o', (_, uid, mode, accepted) => {
    const material = materialOf({ ...PAIR }, { files: pairFiles({ uid, mode }) });
    if (accepted) return expect(material.secureContext().clientCertificate).toBe(true);
    const { message } = errorOf(material);
    expect(message).toContain(`has group or world access (mode 0${mode.toString(8)}, owner uid ${uid})`);
  });

  it('is not checked for access rights on Windows', () => {
    const place: Place = { files: pairFiles({ mode: 0o666 }), platform: 'win32' };
    expect(materialOf({ ...PAIR }, place).secureContext().clientCertificate).toBe(true);
  });

  it('must be a regular file', () => {
    const material = materialOf({ ...PAIR }, { files: pairFiles({ isFile: false }) });
    expect(errorOf(material).message).toContain('private key file "/tls.key" is not a regular file');
  });

  it('with bad access rights at its default place counts as a failed handshake, not as a broken setting', () => {
    const files = new MemoryFiles()
      .write('/home/.postgresql/postgresql.crt', client.cert)
      .write('/home/.postgresql/postgresql.key', client.keyPem, { mode: 0o644 });
    expect(errorOf(materialOf({ ...DEFAULTS }, { files })).explicit).toBe(false);
    expect(errorOf(materialOf({ ...PAIR }, { files: pairFiles({ mode: 0o644 }) })).explicit).toBe(true);
  });
});

describe('revocation lists', () => {
  const verified = { mode: 'verify-full', ca: inline(authority.cert) } as const;

  it.each<[string, string | Buffer]>([
    ['PEM', crl.pem],
    ['DER', crl.der],
    ['several', crl.pem + crl.pem],
  ])('are read (%s)', (_, bytes) => {
    const files = new MemoryFiles().write('/crl', bytes);
    expect(materialOf({ ...verified, crl: named('/crl') }, { files }).secureContext().verify).toBe('full');
    expect(materialOf({ ...verified, crl: inline(bytes) }).secureContext().verify).toBe('full');
  });

  it('that were named must be there; at the default place they need not', () => {
    expect(errorOf(materialOf({ ...verified, crl: named('/crl') })).message).toContain(
      'sslcrl (option ssl.crl): file "/crl"',
    );
    expect(errorOf(materialOf({ ...verified, crlDir: '/crls' })).message).toContain(
      'directory "/crls" cannot be read (ENOENT)',
    );
    expect(materialOf({ ...verified, crl: DEFAULTS.crl }).secureContext().verify).toBe('full');
  });

  it.each([
    ['empty', ''],
    ['a certificate', authority.cert],
    ['garbage', '-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n'],
  ])('that cannot be understood (%s) are an error wherever they lie', (_, content) => {
    const files = new MemoryFiles().write('/crl', content);
    for (const source of [named('/crl'), byDefault('/crl')]) {
      expect(errorOf(materialOf({ ...verified, crl: source }, { files }))).toMatchObject({ explicit: true });
    }
  });

  it('without anything to verify are an error, not forgotten', () => {
    const files = new MemoryFiles().write('/crl', crl.pem);
    expect(errorOf(materialOf({ mode: 'require', crl: named('/crl') }, { files })).message).toContain(
      'without a root certificate',
    );
    expect(errorOf(materialOf({ mode: 'require', crlDir: '/crls' })).message).toContain('without a root certificate');
    expect(materialOf({ mode: 'require', crl: byDefault('/crl') }, { files }).secureContext().verify).toBe('none');
  });

  it('in a directory go by their hashed names; a directory without any is an error', () => {
    const files = new MemoryFiles().write('/crls', '', { isFile: false }).write('/crls/list.pem', crl.pem);
    const tls = { ...verified, crlDir: '/crls' };
    expect(errorOf(materialOf(tls, { files })).message).toContain('openssl rehash');
    files.write('/crls/0a1b2c3d.r0', crl.pem);
    expect(materialOf(tls, { files }).secureContext().verify).toBe('full');
    files.write('/crls/0a1b2c3d.r1', 'garbage');
    expect(errorOf(materialOf(tls, { files })).message).toContain('file "/crls/0a1b2c3d.r1" cannot be used');
  });
});

describe('protocol versions', () => {
  it('refuses a maximum below the minimum, the default one included', () => {
    expect(errorOf(materialOf({ maxVersion: 'TLSv1.1' })).message).toContain(
      'is below ssl_min_protocol_version=TLSv1.2',
    );
    expect(errorOf(materialOf({ minVersion: 'TLSv1.3', maxVersion: 'TLSv1.2' })).message).toContain('TLSv1.3');
    expect(materialOf({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1' }).secureContext().verify).toBe('none');
  });
});

describe("a context of the user's", () => {
  it('is used as it is, and counts as a root', () => {
    const context = createSecureContext();
    for (const [mode, verify] of [
      ['require', 'ca'],
      ['verify-full', 'full'],
    ] as const) {
      const material = materialOf({ mode, secureContext: context, ca: named('/none') });
      expect(material.secureContext()).toEqual({ context, verify, clientCertificate: true });
      expect(material.secureContext()).toBe(material.secureContext());
    }
  });
});

describe('rotation', () => {
  it('shares one context, and reads nothing, until a file changes', () => {
    const files = pairFiles().settle();
    const material = materialOf({ ...PAIR }, { files });
    const first = material.secureContext();
    const reads = files.reads;
    expect(material.secureContext()).toBe(first);
    expect(files.reads).toBe(reads);

    files.write('/tls.crt', renewed.cert).write('/tls.key', renewed.keyPem).settle();
    const second = material.secureContext();
    expect(second.context).not.toBe(first.context);
    expect(material.secureContext()).toBe(second);
    expect(material.warnings).toEqual([]);
  });

  it('keeps the last good pair while the files do not match, says so once per state, and heals', () => {
    const files = pairFiles().settle();
    const material = materialOf({ ...PAIR }, { files });
    const first = material.secureContext();

    files.write('/tls.crt', renewed.cert.slice(0, 100)).settle();
    expect(material.secureContext()).toBe(first);
    expect(material.secureContext()).toBe(first);
    expect(material.warnings).toEqual([
      expect.stringContaining('file "/tls.crt" cannot be used: a PEM block is cut off'),
    ]);

    files.write('/tls.crt', renewed.cert).settle();
    expect(material.secureContext()).toBe(first);
    expect(material.secureContext()).toBe(first);
    expect(material.warnings).toEqual([
      expect.anything(),
      expect.stringContaining('does not belong to the private key'),
    ]);

    files.write('/tls.key', renewed.keyPem).settle();
    const second = material.secureContext();
    expect(second.context).not.toBe(first.context);
    expect(material.warnings).toHaveLength(2);

    files.remove('/tls.key').settle();
    expect(material.secureContext()).toBe(second);
    expect(material.warnings).toHaveLength(3);
  });

  it('does not read again while a bad state lasts', () => {
    const files = pairFiles().settle();
    const material = materialOf({ ...PAIR }, { files });
    material.secureContext();
    files.write('/tls.crt', 'half').settle();
    material.secureContext();
    const reads = files.reads;
    material.secureContext();
    expect(files.reads).toBe(reads);
  });

  it('says it once although it reads a fresh change again and again', () => {
    const files = pairFiles().settle();
    const material = materialOf({ ...PAIR }, { files });
    material.secureContext();
    files.write('/tls.crt', 'half');
    for (let look = 0; look < 3; look++) material.secureContext();
    expect(material.warnings).toHaveLength(1);
  });

  it('warns again when the same bad state comes back after a good one', () => {
    const files = pairFiles().settle();
    const material = materialOf({ ...PAIR }, { files });
    material.secureContext();
    for (const content of ['half', client.cert, 'half']) {
      files.write('/tls.crt', content).settle();
      material.secureContext();
    }
    expect(material.warnings).toHaveLength(2);
  });

  it('keeps the context when files were only touched', () => {
    const files = pairFiles().settle();
    const material = materialOf({ ...PAIR }, { files });
    const first = material.secureContext();
    files.write('/tls.crt', client.cert, { mode: 0o644 }).settle();
    expect(material.secureContext()).toBe(first);
  });

  it('reads a file again that was changed so recently that its stamp could hide a second change', () => {
    const files = pairFiles();
    const material = materialOf({ ...PAIR }, { files });
    const first = material.secureContext();
    expect(material.secureContext()).toBe(first);

    files.freezeStamp('/tls.crt').freezeStamp('/tls.key');
    files.write('/tls.crt', renewed.cert, { mode: 0o644 }).write('/tls.key', renewed.keyPem);
    expect(material.secureContext().context).not.toBe(first.context);
  });

  it('fails on every call while there has never been a good state', () => {
    const files = new MemoryFiles();
    const material = materialOf({ ...PAIR }, { files });
    errorOf(material);
    errorOf(material);
    files.write('/tls.crt', client.cert).write('/tls.key', client.keyPem);
    expect(material.secureContext().clientCertificate).toBe(true);
    expect(material.warnings).toEqual([]);
  });

  it('takes a root at its default place that appears later', () => {
    const files = new MemoryFiles();
    const material = materialOf({ ...DEFAULTS, mode: 'require' }, { files });
    expect(material.secureContext().verify).toBe('none');
    files.write('/home/.postgresql/root.crt', authority.cert);
    expect(material.secureContext().verify).toBe('ca');
  });

  it.each(['root.crt', 'root.crl', 'postgresql.crt'])(
    'does not become weaker when %s disappears from its default place',
    (name) => {
      const files = new MemoryFiles()
        .write('/home/.postgresql/root.crt', authority.cert)
        .write('/home/.postgresql/root.crl', crl.pem)
        .write('/home/.postgresql/postgresql.crt', client.cert)
        .write('/home/.postgresql/postgresql.key', client.keyPem)
        .settle();
      const material = materialOf({ ...DEFAULTS, mode: 'require' }, { files });
      const first = material.secureContext();
      files.remove(`/home/.postgresql/${name}`);
      expect(material.secureContext()).toBe(first);
      expect(material.warnings).toEqual([
        expect.stringContaining(`${name}" has been in use and does not exist any more`),
      ]);
    },
  );

  it('notices a list that is added to a directory', () => {
    const files = new MemoryFiles().write('/crls', '', { isFile: false }).write('/crls/0a1b2c3d.r0', crl.pem).settle();
    const material = materialOf({ mode: 'verify-ca', ca: inline(authority.cert), crlDir: '/crls' }, { files });
    const first = material.secureContext();
    files.write('/crls/0a1b2c3d.r1', crl.pem).write('/crls', '', { isFile: false }).settle();
    expect(material.secureContext().context).not.toBe(first.context);
  });
});
