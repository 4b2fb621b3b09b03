import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ServerCertificate } from '../../../lib/testing/server-files.js';
import { createAuthority, type Issued, type IssueOptions } from '../../support/certificates.js';

/** The name that certificates are for, and that nobody has to resolve: `hostaddr` stands beside it. */
export const HOST = 'db.example.test';

/** Planted to be looked for in every message. */
export const SECRETS = {
  password: 'pl4nted-right-Passw0rd',
  wrongPassword: 'pl4nted-wrong-Passw0rd',
  passphrase: 'pl4nted-right-Passphrase',
  wrongPassphrase: 'pl4nted-wrong-Passphrase',
} as const;

export interface Material extends AsyncDisposable {
  /** What the server shows, by name. */
  readonly servers: Readonly<Record<ServerName, ServerCertificate>>;
  /** Path of a file of the client's. */
  path(name: ClientFile): string;
  /** Path of a home directory. */
  home(name: HomeName): string;
}

export type ServerName =
  keyof typeof SERVER_NAMES | 'otherCa' | 'intermediate' | 'intermediateUnsent' | 'forClients' | 'mutual';

const SERVER_NAMES = {
  named: { cn: 'irrelevant', dns: [HOST] },
  otherName: { cn: HOST, dns: ['other.example.test'] },
  address: { cn: HOST, ips: ['127.0.0.1'] },
  wildcard: { dns: ['*.example.test'] },
  commonName: { cn: HOST },
  addressAsCommonName: { cn: '127.0.0.1' },
  addressAsName: { dns: ['127.0.0.1'] },
  nameless: {},
  expired: { dns: [HOST], days: -1 },
  early: { dns: [HOST], startsIn: 2 },
  revoked: { dns: [HOST] },
  rsa: { dns: [HOST], type: 'rsa' },
} as const satisfies Record<string, IssueOptions | object>;

type ClientFile =
  | 'root.crt'
  | 'other.crt'
  | 'both.crt'
  | 'server.crt'
  | 'garbage.crt'
  | 'empty.crt'
  | 'root.crl'
  | 'empty.crl'
  | 'other.crl'
  | 'client.crt'
  | 'client.key'
  | 'client.der'
  | 'client.enc'
  | 'open.key'
  | 'stranger.crt'
  | 'stranger.key'
  | 'missing';

type HomeName = 'empty' | 'root' | 'otherRoot' | 'revoking' | 'client' | 'openKey' | 'keyless' | 'garbageRoot';

/** All keys and certificates of the matrix, made anew, in a folder that goes with it. */
export async function makeMaterial(clientUser: string): Promise<Material> {
  const root = await createAuthority('Root');
  const other = await createAuthority('Other');
  const clients = await createAuthority('Clients');
  const below = await root.issueAuthority('Below');
  const [client, stranger, fromOther, fromBelow, forClients] = await Promise.all([
    clients.issue({ cn: clientUser, client: true }),
    other.issue({ cn: clientUser, client: true }),
    other.issue({ dns: [HOST] }),
    below.issue({ dns: [HOST] }),
    root.issue({ dns: [HOST], client: true }),
  ]);
  const issued = Object.fromEntries(
    await Promise.all(
      Object.entries(SERVER_NAMES).map(async ([name, options]) => [name, await root.issue(options)] as const),
    ),
  ) as Record<keyof typeof SERVER_NAMES, Issued>;

  const show = ({ chainPem, keyPem }: Issued): ServerCertificate => ({ cert: chainPem, key: keyPem });
  const servers = {
    ...(Object.fromEntries(Object.entries(issued).map(([name, one]) => [name, show(one)])) as Record<
      keyof typeof SERVER_NAMES,
      ServerCertificate
    >),
    otherCa: show(fromOther),
    intermediate: show(fromBelow),
    intermediateUnsent: { cert: fromBelow.certPem, key: fromBelow.keyPem },
    forClients: show(forClients),
    mutual: { ...show(issued.named), ca: clients.certPem },
  };

  const files: Record<Exclude<ClientFile, 'missing'>, string | Buffer> = {
    'root.crt': root.certPem,
    'other.crt': other.certPem,
    'both.crt': other.certPem + root.certPem,
    'server.crt': issued.named.certPem,
    'garbage.crt': 'no certificate\n',
    'empty.crt': '',
    'root.crl': await root.crl([issued.revoked]),
    'empty.crl': await root.crl([]),
    'other.crl': await other.crl([]),
    'client.crt': client.certPem,
    'client.key': client.keyPem,
    'client.der': client.keyDer,
    'client.enc': client.encryptedKeyPem(SECRETS.passphrase),
    'open.key': client.keyPem,
    'stranger.crt': stranger.certPem,
    'stranger.key': stranger.keyPem,
  };
  const homes: Record<HomeName, Record<string, string | Buffer>> = {
    empty: {},
    root: { 'root.crt': files['root.crt'] },
    otherRoot: { 'root.crt': files['other.crt'] },
    garbageRoot: { 'root.crt': files['garbage.crt'] },
    revoking: { 'root.crt': files['root.crt'], 'root.crl': files['root.crl'] },
    client: { 'postgresql.crt': files['client.crt'], 'postgresql.key': files['client.key'] },
    openKey: { 'postgresql.crt': files['client.crt'], 'open.key': files['client.key'] },
    keyless: { 'postgresql.crt': files['client.crt'] },
  };

  const folder = await mkdtemp(join(tmpdir(), 'libpq-matrix-'));
  const home = (name: HomeName): string => join(folder, name);
  const write = async (directory: string, name: string, content: string | Buffer): Promise<void> => {
    const mode = name === 'open.key' ? 0o644 : 0o600;
    const target = name === 'open.key' && directory !== folder ? 'postgresql.key' : name;
    await writeFile(join(directory, target), content, { mode });
  };
  for (const [name, content] of Object.entries(files)) await write(folder, name, content);
  for (const [name, contents] of Object.entries(homes)) {
    const directory = join(folder, name, '.postgresql');
    await mkdir(directory, { recursive: true });
    for (const [file, content] of Object.entries(contents)) await write(directory, file, content);
  }
  return {
    servers,
    path: (name) => join(folder, name),
    home,
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}
