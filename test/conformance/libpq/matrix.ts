import type { ServerCertificate } from '../../../lib/testing/server-files.js';
import { ADMIN_HBA } from '../../support/postgres.js';
import { axis, cross, OWN_SOCKET, type Settings } from './duel.js';
import { HOST, SECRETS, type Material, type ServerName } from './material.js';

/** One state of the server, and what is tried on it. */
export interface Group {
  readonly name: string;
  readonly ssl: ServerCertificate | undefined;
  /** Lines of postgresql.conf. */
  readonly versions?: Readonly<Record<string, string>>;
  readonly cases: readonly Settings[];
}

/** Who may come in how: one role for each rule of pg_hba.conf. */
export const ROLES = {
  scram: 'host all scram all scram-sha-256',
  md5: 'host all md5 all md5',
  cleartext: 'host all cleartext all password',
  trusted: 'host all trusted all trust',
  tls_only: 'hostssl all tls_only all scram-sha-256',
  plain_only: 'hostnossl all plain_only all scram-sha-256',
  tls_trusted: 'hostssl all tls_trusted all trust',
  plain_trusted: 'hostnossl all plain_trusted all trust',
  rejected: 'host all rejected all reject',
  no_login: 'host all no_login all scram-sha-256',
  full: 'host all full all scram-sha-256',
  certified: 'hostssl all certified all cert',
  // Both of these need the name of the certificate's owner, or a rule that does not ask for it.
  with_certificate: 'hostssl all with_certificate all scram-sha-256 clientcert=verify-ca',
  with_own_certificate: 'hostssl all with_own_certificate all scram-sha-256 clientcert=verify-full',
} as const;

export const HBA = [
  ADMIN_HBA,
  'local all trusted trust',
  'local all scram scram-sha-256',
  'local all rejected reject',
  ...Object.values(ROLES),
];

/** What makes the roles; each has the right password, one of them as an MD5 hash. */
export const ROLES_SQL = [
  'SET scram_iterations = 64',
  ...Object.keys(ROLES).flatMap((role) => [
    `SET password_encryption = ${role === 'md5' ? "'md5'" : "'scram-sha-256'"}`,
    `CREATE ROLE ${role} LOGIN PASSWORD '${SECRETS.password}'`,
  ]),
  'ALTER ROLE no_login NOLOGIN',
  'ALTER ROLE full CONNECTION LIMIT 0',
].join(';');

export const MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'];
const TLS_MODES = ['prefer', 'require', 'verify-ca', 'verify-full'];

export function matrix(material: Material): Group[] {
  const { path, home, servers } = material;
  const ground: Settings = {
    host: HOST,
    hostaddr: '127.0.0.1',
    user: 'scram',
    dbname: 'postgres',
    password: SECRETS.password,
    HOME: home('empty'),
  };
  const modes = axis('sslmode', MODES);
  const tlsModes = axis('sslmode', TLS_MODES);
  const negotiations = axis('sslnegotiation', [undefined, 'direct']);
  const right: Settings = { sslrootcert: path('root.crt') };
  const none: Settings = {};
  const wrong: Settings = { sslrootcert: path('other.crt') };
  const missing: Settings = { sslrootcert: path('missing') };
  const system: Settings = { sslrootcert: 'system', SSL_CERT_FILE: path('root.crt') };
  const roots = [none, right, wrong, missing, system];
  const user = (...names: (keyof typeof ROLES)[]): Settings[] => axis('user', names);
  const passwords: Settings[] = [{}, { password: SECRETS.wrongPassword }, { password: '' }];
  const file = (keyword: string, ...names: Parameters<Material['path']>[0][]): Settings[] =>
    names.map((name) => ({ [keyword]: path(name) }));
  const homes = (...names: Parameters<Material['home']>[0][]): Settings[] =>
    names.map((name) => ({ HOME: home(name) }));

  const whole = (extra: Settings = {}): Settings[] => cross({ ...ground, ...extra }, modes, negotiations, roots);
  const byAddress: Settings = { host: '127.0.0.1' };
  const hosts: Settings[] = [
    ...axis('host', [HOST, HOST.toUpperCase(), `a.${HOST}`, 'example.test', '127.0.0.1', '127.1', 'localhost', '']),
    { host: `${HOST}.` },
  ];
  const names = cross(ground, [{ sslmode: 'verify-full', ...right }], hosts);
  const chain = cross(ground, tlsModes, [right, system]);
  const certificate: Settings = { sslcert: path('client.crt'), sslkey: path('client.key') };

  const shown = (server: ServerName, cases: readonly Settings[], about = ''): Group => ({
    name: about ? `${server}, ${about}` : server,
    ssl: servers[server],
    cases,
  });
  const limited = (keyword: string, version: string, cases: readonly Settings[]): Group => ({
    ...shown('named', cases, `${keyword}=${version}`),
    versions: { [keyword]: version },
  });
  return [
    {
      name: 'TLS off',
      ssl: undefined,
      cases: [
        ...whole(),
        ...cross(ground, modes, user('trusted', 'tls_only', 'plain_only', 'plain_trusted', 'rejected'), passwords),
        ...cross(
          ground,
          axis('channel_binding', ['disable', 'prefer', 'require']),
          axis('sslmode', ['disable', 'prefer']),
          user('scram', 'md5', 'cleartext', 'trusted'),
        ),
        ...cross(
          ground,
          axis('sslmode', ['prefer', 'require']),
          homes('garbageRoot', 'openKey', 'keyless', 'otherRoot'),
        ),
        ...cross(
          { ...ground, host: OWN_SOCKET, hostaddr: '' },
          modes,
          negotiations,
          [none, missing, system],
          user('scram', 'trusted', 'rejected'),
        ),
        ...cross(
          { ...ground, host: OWN_SOCKET, hostaddr: '', user: 'scram' },
          axis('channel_binding', ['disable', 'require']),
          axis('require_auth', [undefined, 'none', 'scram-sha-256']),
          passwords,
        ),
      ],
    },
    shown('named', [...whole(), ...names]),
    shown(
      'named',
      [
        ...cross(
          ground,
          modes,
          negotiations,
          [none, right, wrong],
          user('tls_only', 'plain_only', 'tls_trusted', 'plain_trusted'),
        ),
        ...cross(
          ground,
          modes,
          user('scram', 'tls_only', 'plain_only', 'rejected', 'no_login', 'full', 'certified', 'with_certificate'),
          passwords,
        ),
        ...cross({ ...ground, dbname: 'nosuch' }, modes),
        ...cross({ ...ground, user: 'nobody_here' }, modes),
        ...cross({ ...ground, options: '-c nosuch.thing.at=all -c work_mem=much' }, modes),
      ],
      'pg_hba.conf',
    ),
    shown(
      'named',
      [
        ...cross(
          ground,
          axis('sslmode', ['disable', 'prefer', 'require']),
          user('scram', 'md5', 'cleartext', 'trusted'),
          axis('channel_binding', ['disable', 'prefer', 'require']),
          passwords,
        ),
        ...cross(
          ground,
          axis('sslmode', ['disable', 'allow', 'prefer', 'require']),
          user('scram', 'md5', 'cleartext', 'trusted', 'tls_only'),
          axis('require_auth', [
            'none',
            '!none',
            'password',
            'md5',
            'scram-sha-256',
            '!scram-sha-256',
            'md5,password',
            '!md5,!password',
            'scram-sha-256,none',
            'gss',
          ]),
        ),
        ...cross(
          ground,
          axis('require_auth', ['scram-sha-256', 'none']),
          axis('channel_binding', ['require']),
          modes,
          user('scram', 'trusted'),
        ),
      ],
      'authentication',
    ),
    shown(
      'named',
      [
        ...cross(ground, modes, [
          ...file('sslrootcert', 'both.crt', 'server.crt', 'garbage.crt', 'empty.crt'),
          { sslrootcert: 'system', SSL_CERT_FILE: path('other.crt') },
          { sslrootcert: 'system' },
        ]),
        ...cross(ground, modes, homes('root', 'otherRoot', 'garbageRoot', 'revoking', 'client', 'openKey', 'keyless')),
        ...cross(
          ground,
          [none, right, system],
          tlsModes,
          file('sslcrl', 'root.crl', 'empty.crl', 'other.crl', 'missing', 'garbage.crt'),
        ),
        ...cross(
          ground,
          axis('sslmode', ['prefer', 'require']),
          axis('ssl_min_protocol_version', [undefined, 'TLSv1.2', 'TLSv1.3']),
          axis('ssl_max_protocol_version', [undefined, 'TLSv1.2', 'TLSv1.3']),
          negotiations,
        ),
        ...cross(ground, axis('sslsni', ['0', '1']), tlsModes, negotiations),
        ...cross(
          ground,
          axis('max_protocol_version', ['3.0', '3.2', 'latest']),
          axis('sslmode', ['disable', 'require']),
        ),
        ...cross(ground, axis('sslcertmode', ['disable', 'allow', 'require']), modes, [none, certificate]),
      ],
      'files and versions',
    ),
    shown('mutual', [
      ...cross(ground, user('certified'), modes, negotiations, axis('sslcertmode', [undefined, 'disable', 'require']), [
        none,
        certificate,
      ]),
      ...cross(
        ground,
        user('with_certificate', 'with_own_certificate', 'scram'),
        axis('sslmode', ['allow', 'prefer', 'require', 'verify-full']),
        axis('ssl_max_protocol_version', [undefined, 'TLSv1.2']),
        [right],
        [none, certificate, { sslcert: path('stranger.crt'), sslkey: path('stranger.key') }],
      ),
      ...cross(ground, user('certified', 'scram'), axis('sslmode', ['prefer', 'require']), [
        { ...certificate, sslkey: path('client.der') },
        { ...certificate, sslkey: path('client.enc'), sslpassword: SECRETS.passphrase },
        { ...certificate, sslkey: path('client.enc'), sslpassword: SECRETS.wrongPassphrase },
        { ...certificate, sslpassword: SECRETS.passphrase },
        { ...certificate, sslkey: path('open.key') },
        { ...certificate, sslkey: path('stranger.key') },
        { ...certificate, sslkey: path('missing') },
        { ...certificate, sslkey: path('garbage.crt') },
        { ...certificate, sslkey: home('empty') },
        { ...certificate, sslcert: path('missing') },
        { ...certificate, sslcert: path('garbage.crt') },
        { sslcert: path('client.crt') },
        { sslkey: path('client.key') },
        { HOME: home('client') },
        { HOME: home('openKey') },
        { HOME: home('keyless') },
        { HOME: home('client'), sslcertmode: 'disable' },
        { HOME: home('openKey'), sslcertmode: 'disable' },
        { HOME: home('empty'), sslcertmode: 'require' },
      ]),
    ]),
    shown('otherCa', whole()),
    shown('otherName', [...whole(), ...names]),
    shown('address', [...whole(byAddress), ...names]),
    shown('wildcard', [...whole(), ...names]),
    shown('expired', whole()),
    shown('revoked', [
      ...whole({ sslcrl: path('root.crl') }),
      ...cross(ground, tlsModes, [right], file('sslcrl', 'empty.crl', 'other.crl')),
      ...cross(ground, modes, homes('revoking')),
    ]),
    shown('commonName', [...names, ...chain]),
    shown('addressAsCommonName', names),
    shown('addressAsName', names),
    shown('nameless', names),
    shown('early', chain),
    shown('intermediate', [...chain, ...cross(ground, tlsModes, [right], file('sslcrl', 'empty.crl'))]),
    shown('intermediateUnsent', chain),
    shown('forClients', chain),
    shown('rsa', [...chain, ...cross(ground, axis('channel_binding', ['require']), tlsModes)]),
    limited('ssl_max_protocol_version', 'TLSv1.2', [
      ...cross(ground, modes, negotiations, axis('ssl_min_protocol_version', [undefined, 'TLSv1.3'])),
    ]),
    limited('ssl_min_protocol_version', 'TLSv1.3', [
      ...cross(ground, modes, negotiations, axis('ssl_max_protocol_version', [undefined, 'TLSv1.2'])),
    ]),
  ];
}
