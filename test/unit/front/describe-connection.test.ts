import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { describeConnection, PgModuleError, type PgModuleOptions, type TlsProtection } from 'nestjs-pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createAuthority } from '../../support/certificates.js';

const authority = await createAuthority('Root');

/** Every test has a home, and an environment without PG* variables. */
let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'nestjs-pg-describe-'));
  for (const name of Object.keys(process.env)) if (name.startsWith('PG')) vi.stubEnv(name, undefined);
  vi.stubEnv('HOME', home);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true });
});

function write(name: string, text: string, mode = 0o600): string {
  const path = join(home, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, text, { mode });
  return path;
}

describe('the settings', () => {
  it('say where each value came from', () => {
    write('.pg_service.conf', '[orders]\ndbname=orders\nhost=not-this\nport=6543\n');
    write('.pgpass', 'db:6543:orders:app:wisteria-17\n');
    vi.stubEnv('PGUSER', 'app');
    vi.stubEnv('PGTZ', 'UTC');
    vi.stubEnv('PGPORT', '1');

    const { settings } = describeConnection({
      connectionString: 'service=orders host=db connect_timeout=7',
      application_name: 'shop',
      statement_timeout: 500,
      query_timeout: 600,
      keepAliveInitialDelayMillis: 1500,
    });

    expect(settings).toMatchObject({
      application_name: { value: 'shop', source: 'option' },
      statement_timeout: { value: '500', source: 'option' },
      query_timeout: { value: '600', source: 'option' },
      keepalives_idle: { value: '1.5', source: 'option' },
      service: { value: 'orders', source: 'string' },
      host: { value: 'db', source: 'string' },
      connect_timeout: { value: '7', source: 'string' },
      dbname: { value: 'orders', source: 'service' },
      port: { value: '6543', source: 'service' },
      user: { value: 'app', source: 'environment' },
      timezone: { value: 'UTC', source: 'environment' },
      password: { value: '[secret]', source: 'passfile' },
      sslmode: { value: 'prefer', source: 'default' },
    });
  });

  it('are the effective ones where several have a say', () => {
    const described = (options: PgModuleOptions): string | undefined =>
      describeConnection(options).settings['connect_timeout']?.value;

    expect(described({ host: 'db' })).toBe('10');
    expect(described({ connectionString: 'connect_timeout=-3' })).toBe('0');
    expect(described({ connectionString: 'connect_timeout=3', pool: { connectTimeoutMillis: 1500 } })).toBe('1.5');
    expect(describeConnection({ pool: { connectTimeoutMillis: 1 } }).settings['connect_timeout']?.source).toBe(
      'option',
    );
    expect(describeConnection({ user: 'app' }).settings).toMatchObject({ dbname: { value: 'app', source: 'default' } });
  });

  it('name files, and not what is in them', () => {
    const { keyPem } = authority;
    const root = write('.postgresql/root.crt', authority.certPem);
    const certificate = write('client.crt', authority.certPem);

    const { settings } = describeConnection({
      host: 'db',
      ssl: {
        mode: 'verify-ca',
        cert: { file: certificate },
        key: keyPem,
        passphrase: 'wisteria-17',
        serverName: 'other',
      },
    });

    expect(settings).toMatchObject({
      sslrootcert: { value: root, source: 'default' },
      sslcert: { value: certificate, source: 'option' },
      sslkey: { value: '(given as ssl.key)', source: 'option' },
      sslpassword: { value: '[secret]', source: 'option' },
      'ssl.serverName': { value: 'other', source: 'option' },
    });
    expect(settings).not.toHaveProperty('sslcrl');
  });

  it('hold no secret, in whatever form they are shown', () => {
    const secrets = ['wisteria-17', 'lilac-18'];
    for (const options of [
      { connectionString: 'postgresql://app:wisteria-17@db/x?sslpassword=lilac-18' },
      { password: 'wisteria-17', ssl: { mode: 'require', passphrase: 'lilac-18' } },
      { password: () => 'wisteria-17' },
    ] satisfies PgModuleOptions[]) {
      const description = describeConnection(options);
      const shown = [inspect(description, { depth: 9 }), JSON.stringify(description), String(description)].join('\n');
      expect(description.settings['password']).toMatchObject({ value: '[secret]' });
      for (const secret of secrets) expect(shown).not.toContain(secret);
    }
  });
});

describe('the attempts', () => {
  it('are the hosts in order, with address, encryption and what the session must be', () => {
    const { attempts, order } = describeConnection({
      host: 'db1,db2,/run/pg,@abstract,',
      hostaddr: '10.0.0.1,,,,::1',
      port: '1,2,3,4,5',
      target_session_attrs: 'prefer-standby',
    });
    const pass = (targetSessionAttrs: string): unknown[] => [
      { host: 'db1', address: '10.0.0.1', transport: 'tcp', port: 1, encryption: ['tls', 'plain'], targetSessionAttrs },
      { host: 'db2', address: 'db2', transport: 'tcp', port: 2, encryption: ['tls', 'plain'], targetSessionAttrs },
      {
        host: '/run/pg',
        address: '/run/pg/.s.PGSQL.3',
        transport: 'unix',
        port: 3,
        encryption: ['plain'],
        targetSessionAttrs,
      },
      {
        host: '@abstract',
        address: '@abstract/.s.PGSQL.4',
        transport: 'unix',
        port: 4,
        encryption: ['plain'],
        targetSessionAttrs,
      },
      { host: undefined, address: '::1', transport: 'tcp', port: 5, encryption: ['tls', 'plain'], targetSessionAttrs },
    ];
    expect(attempts).toEqual([...pass('standby'), ...pass('any')]);
    expect(order).toBe('as listed');
  });

  it('are in the order as written also where it is random', () => {
    const hosts = 'a,b,c,d,e,f';
    const description = describeConnection({ host: hosts, load_balance_hosts: 'random' });

    expect(description.order).toBe('random');
    expect(description.attempts.map(({ host }) => host).join()).toBe(hosts);
    expect(description.text).toContain('random order');
  });

  it.each([
    ['disable', ['plain']],
    ['allow', ['plain', 'tls']],
    ['prefer', ['tls', 'plain']],
    ['require', ['tls']],
  ] as const)('of sslmode=%s are %j', (ssl, encryption) => {
    expect(describeConnection({ host: 'db', ssl }).attempts[0]).toMatchObject({ encryption });
  });
});

describe('the protection', () => {
  it.each<[string, PgModuleOptions, TlsProtection, RegExp]>([
    ['nothing said', { host: 'db' }, 'nothing', /sslmode=prefer goes on without TLS/],
    ['disable', { host: 'db', ssl: false }, 'nothing', /TLS is off/],
    ['allow', { host: 'db', ssl: 'allow' }, 'nothing', /sslmode=allow/],
    ['prefer', { host: 'db', ssl: 'prefer' }, 'nothing', /sslmode=prefer/],
    ['prefer, bound', { host: 'db', ssl: 'prefer', channel_binding: 'require' }, 'eavesdropping', /channel_binding/],
    ['require', { host: 'db', ssl: 'require' }, 'eavesdropping', /believes whoever answers/],
    [
      'require with a root',
      { host: 'db', ssl: { mode: 'require', ca: authority.certPem } },
      'eavesdropping',
      /any certificate of the trusted authorities/,
    ],
    [
      'verify-ca',
      { host: 'db', ssl: { mode: 'verify-ca', ca: authority.certPem } },
      'eavesdropping',
      /any certificate of the trusted authorities/,
    ],
    ['verify-full', { host: 'db', ssl: { ca: authority.certPem } }, 'impersonation', /the host's/],
    ['a socket alone', { host: '/run', ssl: 'require' }, 'nothing', /does not leave this machine/],
    ['a socket besides', { host: '/run,db', ssl: { ca: authority.certPem } }, 'impersonation', /the host's/],
  ])('of %s', (_, options, protection, why) => {
    const description = describeConnection(options);
    expect(description.protection).toBe(protection);
    expect(description.text).toContain(`TLS protects against: ${protection}. `);
    expect(description.text).toMatch(why);
    expect(description.warnings).toEqual([]);
  });
});

it('warns of what is not as it should be, and of no socket that nobody makes', () => {
  const passfile = write('.pgpass', '*:*:*:*:wisteria-17\n', 0o644);
  const description = describeConnection({
    host: 'db',
    ssl: { mode: 'verify-ca', ca: { file: join(home, 'none.crt') } },
  });

  expect(description.warnings).toEqual([
    expect.stringContaining(passfile),
    expect.stringMatching(/^TLS is not possible: sslrootcert .*none\.crt" does not exist/),
  ]);
  expect(description.text).toContain(`Warning: ${description.warnings[0]}`);
  expect(description.settings).not.toHaveProperty('password');
});

it('takes what the module takes, and refuses what it refuses', () => {
  const described = describeConnection({ connect: 'lazy', retry: false, connectionFactory: (connect) => connect() });
  expect(described.text).toContain('connectionFactory');
  expect(() => describeConnection({ hots: 'db' } as PgModuleOptions)).toThrow(PgModuleError);
  expect(() => describeConnection({ connectionString: 'sslmode=none' })).toThrow(/sslmode/);
});

it('is frozen to the bottom', () => {
  const description = describeConnection({ host: 'a,b' });
  const seen: unknown[] = [description];
  for (const value of seen) {
    expect(Object.isFrozen(value), inspect(value)).toBe(true);
    seen.push(...Object.values(value as object).filter((part) => typeof part === 'object'));
  }
  expect(seen.length).toBeGreaterThan(10);
});
