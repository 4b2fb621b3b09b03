import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isCertificateRefusal } from '../../../lib/tls/tls-error.js';
import { TlsMaterial } from '../../../lib/tls/tls-material.js';
import { createAuthority, dns } from '../../unit/tls/authority.js';
import type { Leaf } from '../../unit/tls/authority.js';
import { handshake, refusal, serveTls } from '../../unit/tls/handshake.js';
import type { TlsServer } from '../../unit/tls/handshake.js';
import { byDefault, named, resolvedTls } from '../../unit/tls/resolved-tls.js';

const authority = await createAuthority();
const successor = await createAuthority('Successor');
const server = await authority.issue({ names: [dns('localhost')] });
const [first, second] = [
  await authority.issue({ commonNames: ['first'] }),
  await authority.issue({ commonNames: ['other'] }),
];

let directory: string;
let listener: TlsServer;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'nestjs-pg-rotation-'));
  listener = await serveTls({ cert: server.cert, key: server.keyPem, ca: authority.cert, requestCert: true });
});
afterEach(async () => {
  await listener[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

const at = (name: string): string => join(directory, name);

function write(path: string, content: string, mode = 0o600): void {
  writeFileSync(path, content, { mode });
  chmodSync(path, mode);
}

function writePair(folder: string, leaf: Leaf): void {
  mkdirSync(folder, { recursive: true });
  write(join(folder, 'ca.crt'), authority.cert);
  write(join(folder, 'tls.crt'), leaf.cert);
  write(join(folder, 'tls.key'), leaf.keyPem);
}

function materialIn(folder: string): TlsMaterial & { warnings: string[] } {
  const warnings: string[] = [];
  const tls = resolvedTls({
    mode: 'verify-full',
    ca: named(join(folder, 'ca.crt')),
    cert: named(join(folder, 'tls.crt')),
    key: named(join(folder, 'tls.key')),
  });
  return Object.assign(new TlsMaterial(tls, { warn: (message) => warnings.push(message) }), { warnings });
}

async function whoAmI(material: TlsMaterial): Promise<string | null> {
  return (await handshake(listener.port, material)).client;
}

describe('rotation of files', () => {
  it('follows files that are written in place, one after the other', async () => {
    writePair(directory, first);
    const material = materialIn(directory);
    expect(await whoAmI(material)).toBe('CN=first');

    write(at('tls.crt'), second.cert.slice(0, 300));
    expect(await whoAmI(material)).toBe('CN=first');
    write(at('tls.crt'), second.cert);
    expect(await whoAmI(material)).toBe('CN=first');
    write(at('tls.key'), '');
    expect(await whoAmI(material)).toBe('CN=first');
    write(at('tls.key'), second.keyPem);
    expect(await whoAmI(material)).toBe('CN=other');
    expect(material.warnings).toEqual([
      expect.stringContaining('cut off'),
      expect.stringContaining('does not belong'),
      expect.stringContaining('no private key in it'),
    ]);
  });

  it('follows files that are put in place by rename', async () => {
    writePair(directory, first);
    const material = materialIn(directory);
    const before = material.secureContext();
    writePair(at('new'), second);
    for (const name of ['tls.crt', 'tls.key']) renameSync(join(at('new'), name), at(name));
    expect(await whoAmI(material)).toBe('CN=other');
    expect(material.secureContext()).not.toBe(before);
    expect(material.secureContext()).toBe(material.secureContext());
    expect(material.warnings).toEqual([]);
  });

  it('follows the swapped link of a Kubernetes secret', async () => {
    writePair(at('..v1'), first);
    symlinkSync('..v1', at('..data'));
    for (const name of ['ca.crt', 'tls.crt', 'tls.key']) symlinkSync(join('..data', name), at(name));
    const material = materialIn(directory);
    expect(await whoAmI(material)).toBe('CN=first');

    writePair(at('..v2'), second);
    symlinkSync('..v2', at('..data_tmp'));
    renameSync(at('..data_tmp'), at('..data'));
    rmSync(at('..v1'), { recursive: true });
    expect(await whoAmI(material)).toBe('CN=other');
    expect(material.warnings).toEqual([]);
  });

  it('follows a new root', async () => {
    writePair(directory, first);
    const material = materialIn(directory);
    await whoAmI(material);

    write(at('ca.crt'), successor.cert);
    expect(isCertificateRefusal(await refusal(handshake(listener.port, material)))).toBe(true);
    write(at('ca.crt'), successor.cert + authority.cert);
    expect(await whoAmI(material)).toBe('CN=first');
  });

  it('survives files that vanish', async () => {
    writePair(directory, first);
    const material = materialIn(directory);
    await whoAmI(material);
    for (const name of ['ca.crt', 'tls.crt', 'tls.key']) {
      unlinkSync(at(name));
      expect(await whoAmI(material)).toBe('CN=first');
    }
    writePair(directory, second);
    expect(await whoAmI(material)).toBe('CN=other');
  });

  it('notices a key whose access rights were opened', async () => {
    writePair(directory, first);
    const material = materialIn(directory);
    await whoAmI(material);
    chmodSync(at('tls.key'), 0o644);
    expect(await whoAmI(material)).toBe('CN=first');
    expect(material.warnings).toEqual([expect.stringContaining('has group or world access (mode 0644')]);
  });
});

describe('key files', () => {
  const isRoot = process.getuid?.() === 0;

  it.each([
    [0o600, true],
    [0o400, true],
    [0o644, false],
    [0o660, false],
    [0o601, false],
  ])('of the current user with mode 0%o: %s', (mode, accepted) => {
    writePair(directory, first);
    chmodSync(at('tls.key'), mode);
    expectAccepted(accepted);
  });

  it.runIf(isRoot).each([
    [0, 0o640, true],
    [0, 0o660, false],
    [65534, 0o600, true],
    [65534, 0o640, false],
  ])('of uid %i with mode 0%o: %s', (uid, mode, accepted) => {
    writePair(directory, first);
    chownSync(at('tls.key'), uid, 0);
    chmodSync(at('tls.key'), mode);
    expectAccepted(accepted);
  });

  it('that are directories are refused', () => {
    writePair(directory, first);
    unlinkSync(at('tls.key'));
    mkdirSync(at('tls.key'), { mode: 0o700 });
    expectAccepted(false);
  });

  function expectAccepted(accepted: boolean): void {
    const load = (): unknown => materialIn(directory).secureContext();
    if (accepted) expect(load()).toMatchObject({ clientCertificate: true });
    else expect(load).toThrow(expect.objectContaining({ code: 'PG_CONFIG_INVALID' }));
  }
});

describe('default places', () => {
  it('may have a file in the place of the directory', () => {
    write(at('home'), 'a file');
    const tls = resolvedTls({
      mode: 'require',
      ca: byDefault(at('home/root.crt')),
      cert: byDefault(at('home/postgresql.crt')),
    });
    const loaded = new TlsMaterial(tls, { warn: () => undefined }).secureContext();
    expect(loaded).toMatchObject({ verify: 'none', clientCertificate: false });
  });
});
