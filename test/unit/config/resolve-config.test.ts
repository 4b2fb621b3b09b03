import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { KEYWORD_NAMES, KEYWORDS } from '../../../lib/config/keywords.js';
import { resolveConfig } from '../../../lib/config/resolve-config.js';
import type { ConnectionSettings } from '../../../lib/config/settings.js';
import { PgModuleError } from '../../../lib/errors/pg-module.error.js';
import { world, type FakeFile } from './world.js';

const SECRET = 'zQ7xWvKj4LpT';

const settings = (value: object): ConnectionSettings => value;

describe('resolveConfig', () => {
  it('needs nothing: the account, its database, the socket of the own machine or localhost', () => {
    const config = resolveConfig({}, world());
    expect(config).toMatchObject({
      user: 'account',
      database: 'account',
      password: undefined,
      hosts: [{ host: 'localhost', hostaddr: undefined, port: 5432, password: undefined }],
      tls: { mode: 'prefer', negotiation: 'postgres', certMode: 'allow', sni: true, minVersion: 'TLSv1.2' },
      requireAuth: undefined,
      channelBinding: 'prefer',
      targetSessionAttrs: 'any',
      loadBalanceHosts: 'disable',
      connectTimeoutMillis: undefined,
      queryTimeoutMillis: 0,
      keepalive: { enabled: true, idleMillis: 0 },
      session: {},
      types: undefined,
    });
    expect(config.tls.ca).toBeUndefined();
    expect(new Set(Object.values(config.sources))).toEqual(new Set(['default']));
  });

  it.each([
    [
      { '/var/run/postgresql/.s.PGSQL.5432': { kind: 'socket' }, '/tmp/.s.PGSQL.5432': { kind: 'socket' } },
      '/var/run/postgresql',
    ],
    [{ '/tmp/.s.PGSQL.5432': { kind: 'socket' } }, '/tmp'],
    [{ '/tmp/.s.PGSQL.5432': { kind: 'file' } }, 'localhost'],
    [{ '/tmp/.s.PGSQL.5433': { kind: 'socket' } }, 'localhost'],
  ] as [Record<string, FakeFile>, string][])('finds the default host in %j', (files, host) => {
    expect(resolveConfig({}, world({ files })).hosts[0]?.host).toBe(host);
  });

  it('needs a user where the account has no name', () => {
    const osUser = (): string => {
      throw new Error('ENOENT');
    };
    expect(() => resolveConfig({}, world({ osUser }))).toThrow('set user or PGUSER');
    expect(resolveConfig({ user: 'u' }, world({ osUser })).database).toBe('u');
  });

  it('takes each keyword from the first place that has it', () => {
    const context = world({
      env: {
        PGSERVICEFILE: '/services',
        PGAPPNAME: 'environment',
        PGUSER: 'environment',
        PGDATABASE: 'environment',
        PGHOST: 'environment',
        PGPASSWORD: 'environment',
      },
      files: { '/services': '[svc]\napplication_name=service\nuser=service\ndbname=service\n' },
    });
    const config = resolveConfig(
      { application_name: 'option', connectionString: 'application_name=string user=string service=svc' },
      context,
    );
    expect(config).toMatchObject({
      session: { application_name: 'option' },
      user: 'string',
      database: 'service',
      hosts: [{ host: 'environment', port: 5432 }],
    });
    expect(config.password?.reveal()).toBe('environment');
    expect(config.sources).toMatchObject({
      application_name: 'option',
      user: 'string',
      service: 'string',
      dbname: 'service',
      host: 'environment',
      password: 'environment',
      port: 'default',
      sslmode: 'default',
    });
  });

  it('lets the service option win over that of the string, and both over PGSERVICE', () => {
    const context = world({
      env: { PGSERVICE: 'c', PGSERVICEFILE: '/s' },
      files: { '/s': '[a]\nuser=a\n[b]\nuser=b\n[c]\nuser=c\n' },
    });
    expect(resolveConfig({ service: 'a', connectionString: 'service=b' }, context).user).toBe('a');
    expect(resolveConfig({ connectionString: 'service=b' }, context).user).toBe('b');
    expect(resolveConfig({}, context).user).toBe('c');
  });

  it('takes an empty field as absent, like PQconnectdbParams', () => {
    const context = world({ env: { PGHOST: 'e', PGPORT: '7', PGPASSWORD: 'pw' } });
    const config = resolveConfig({ host: '', port: '', user: '', password: '', application_name: '' }, context);
    expect(config).toMatchObject({ hosts: [{ host: 'e', port: 7 }], user: 'account', session: {} });
    expect(config.password?.reveal()).toBe('pw');
  });

  describe('hosts', () => {
    const hosts = (value: ConnectionSettings): unknown =>
      resolveConfig(value, world()).hosts.map(({ host, hostaddr, port }) => [host, hostaddr, port]);

    it.each([
      [
        { host: 'a,b', port: 6 },
        [
          ['a', undefined, 6],
          ['b', undefined, 6],
        ],
      ],
      [
        { host: 'a,b', port: '6,7' },
        [
          ['a', undefined, 6],
          ['b', undefined, 7],
        ],
      ],
      [
        { host: 'a,b', port: '6,' },
        [
          ['a', undefined, 6],
          ['b', undefined, 5432],
        ],
      ],
      [
        { host: 'a,,/s' },
        [
          ['a', undefined, 5432],
          ['localhost', undefined, 5432],
          ['/s', undefined, 5432],
        ],
      ],
      [
        { hostaddr: '127.0.0.1,::1' },
        [
          [undefined, '127.0.0.1', 5432],
          [undefined, '::1', 5432],
        ],
      ],
      [
        { host: 'a,b', hostaddr: '127.0.0.1,' },
        [
          ['a', '127.0.0.1', 5432],
          ['b', undefined, 5432],
        ],
      ],
      [
        { connectionString: 'postgres://a:1,b:2/d' },
        [
          ['a', undefined, 1],
          ['b', undefined, 2],
        ],
      ],
      [{ connectionString: 'postgres://a:1/d', port: 9 }, [['a', undefined, 9]]],
      [{ host: 'fe80::1%eth0' }, [['fe80::1%eth0', undefined, 5432]]],
      [{ host: '@abstract' }, [['@abstract', undefined, 5432]]],
    ])('of %j', (value, expected) => {
      expect(hosts(value)).toEqual(expected);
    });

    it.each([
      [{ host: 'a,b', hostaddr: '127.0.0.1' }, /2 names in host for 1 addresses in hostaddr/],
      [{ host: 'a,b,c', port: '1,2' }, /2 ports in port for 3 hosts/],
      [{ connectionString: 'host=a port=1,2' }, /2 ports in port in the connection string for 1 hosts/],
      [{ hostaddr: 'a' }, /Entry 1 of hostaddr is not an IPv4 or IPv6 address/],
      [{ host: 'a b' }, /Entry 1 of host cannot be a host name/],
      [{ connectionString: 'postgres://u:p@x@h/d' }, /cannot be a host name. In a URI, write .* %40 for "@"/],
      [{ connectionString: 'postgres://u:p/x@h/d' }, /port in the connection string must be an integer .* %2F/],
      [{ port: 0 }, /port is 0; it must be an integer from 1 to 65535/],
      [{ port: 1.5 }, /port is 1.5/],
      [{ port: NaN }, /port is NaN/],
      [{ port: 'abc' }, /port \("abc"\) must be an integer from 1 to 65535/],
      [{ port: '70000' }, /port \("70000"\) must be an integer from 1 to 65535/],
    ])('refuses %j', (value, message) => {
      expect(() => hosts(value)).toThrow(message);
    });
  });

  describe('passwords', () => {
    const passfile = {
      '/me/.pgpass': 'a:*:*:*:for a\nlocalhost:*:*:*:for the socket\n127.0.0.1:*:*:*:for the address\n',
    };
    const ofHosts = (value: ConnectionSettings, env: Record<string, string> = {}): unknown =>
      resolveConfig(value, world({ env, files: passfile, home: '/me' })).hosts.map(({ password }) =>
        password?.reveal(),
      );

    it('come from the password file host by host', () => {
      expect(ofHosts({ host: 'a,b,/tmp' })).toEqual(['for a', undefined, 'for the socket']);
      expect(ofHosts({ host: 'a', hostaddr: '127.0.0.1' })).toEqual(['for a']);
      expect(ofHosts({ hostaddr: '127.0.0.1' })).toEqual(['for the address']);
      expect(ofHosts({ host: '/elsewhere' })).toEqual([undefined]);
    });

    it('come from the file only when none is configured', () => {
      expect(ofHosts({ host: 'a', password: 'x' })).toEqual([undefined]);
      expect(ofHosts({ host: 'a', password: () => 'x' })).toEqual([undefined]);
      expect(ofHosts({ host: 'a' }, { PGPASSWORD: 'x' })).toEqual([undefined]);
      expect(ofHosts({ host: 'a' }, { PGPASSWORD: '' })).toEqual(['for a']);
    });

    it('tell where they are from', () => {
      const sources = (value: ConnectionSettings): unknown =>
        resolveConfig(value, world({ files: passfile, home: '/me' })).sources.password;
      expect(sources({ host: 'a' })).toBe('passfile');
      expect(sources({ host: 'b' })).toBeUndefined();
      expect(sources({ host: 'a', password: () => 'x' })).toBe('option');
      expect(sources({ connectionString: 'password=x' })).toBe('string');
    });

    it('may be a function, which is not called yet', () => {
      const password = (): never => {
        throw new Error('too early');
      };
      expect(resolveConfig({ password }, world()).password?.reveal()).toBe(password);
    });

    it('warn of a named file that is not there', () => {
      const context = world();
      resolveConfig({ passfile: '/no' }, context);
      expect(context.warnings).toEqual(['The password file /no is not there: it is not used.']);
    });
  });

  describe('the session', () => {
    it.each([
      [{ application_name: 'a', fallback_application_name: 'f' }, {}, { application_name: 'a' }],
      [{ fallback_application_name: 'f' }, {}, { application_name: 'f' }],
      [{ connectionString: "application_name='' fallback_application_name=f" }, {}, {}],
      [{ fallback_application_name: 'f' }, { PGAPPNAME: 'e' }, { application_name: 'e' }],
      [{ options: '-c a=b', replication: 'database' }, {}, { options: '-c a=b', replication: 'database' }],
      [{ statement_timeout: 5, lock_timeout: 0 }, {}, { statement_timeout: '5', lock_timeout: '0' }],
      [
        { idle_in_transaction_session_timeout: 7 },
        { PGTZ: 'UTC' },
        { idle_in_transaction_session_timeout: '7', timezone: 'UTC' },
      ],
      [{ client_encoding: 'UTF-8' }, {}, {}],
    ])('of %j and %j is %j', (value, env, session) => {
      expect(resolveConfig(value, world({ env })).session).toEqual(session);
    });
  });

  it.each([
    ['connect_timeout=3', { connectTimeoutMillis: 3000 }],
    ['connect_timeout=1', { connectTimeoutMillis: 1000 }],
    ['connect_timeout=0', { connectTimeoutMillis: 0 }],
    ['connect_timeout=-1', { connectTimeoutMillis: 0 }],
    ['keepalives=0', { keepalive: { enabled: false, idleMillis: 0 } }],
    ['keepalives=2 keepalives_idle=10', { keepalive: { enabled: true, idleMillis: 10_000 } }],
    ['keepalives=0 keepalives_interval=10', { keepalive: { enabled: false } }],
    ['target_session_attrs=prefer-standby', { targetSessionAttrs: 'prefer-standby' }],
    ['load_balance_hosts=random', { loadBalanceHosts: 'random' }],
    ['channel_binding=require', { channelBinding: 'require' }],
    ['require_auth=!md5', { requireAuth: { negated: true } }],
    ['max_protocol_version=latest min_protocol_version=3.0', {}],
    ['gssencmode=prefer sslcompression=1', {}],
    ['requirepeer=postgres', {}],
  ])('reads %j', (string, expected) => {
    expect(resolveConfig({ connectionString: `host=h ${string}` }, world())).toMatchObject(expected);
  });

  it('reads what has no keyword', () => {
    const types = { getTypeParser: () => String };
    const config = resolveConfig(
      settings({ keepAlive: false, keepAliveInitialDelayMillis: 1500, query_timeout: 9, types }),
      world(),
    );
    expect(config.keepalive).toEqual({ enabled: false, idleMillis: 1500 });
    expect(config.queryTimeoutMillis).toBe(9);
    expect(config.types).toBe(types);
    expect(Object.isFrozen(types)).toBe(false);
    expect(config.sources).toMatchObject({ keepalives: 'option', keepalives_idle: 'option' });
  });

  describe('refuses', () => {
    it.each([
      [null, /connection settings must be an object with named values, not null/],
      ['postgres://h', /not a string/],
      [{ max: 5 }, /Unknown key "max" in the connection settings: it belongs to the pool; write pool: \{ max: ... \}/],
      [{ min: 5 }, /pool: \{ min: ... \}/],
      [{ idleTimeoutMillis: 5 }, /pool: \{ idleTimeoutMillis: ... \}/],
      [{ connectionTimeoutMillis: 5 }, /acquireTimeoutMillis: ..., connectTimeoutMillis/],
      [{ maxUses: 5 }, /pool: \{ maxUses: ... \}/],
      [{ sslmode: 'require' }, /write ssl: \{ mode: ... \}/],
      [{ dbname: 'x' }, /write database/],
      [{ hots: 'x' }, /did you mean "host"\?/],
      [{ connectionString: 5 }, /connection string must be a string/],
      [{ host: 5 }, /host must be a string, not a number/],
      [{ host: ['a'] }, /host must be a string, not an array/],
      [{ host: null }, /host must be a string, not null/],
      [{ user: 'a\0b' }, /user contains a NUL/],
      [{ password: 5 }, /password must be a string or a function that returns one, not a number/],
      [{ password: 'a\0b' }, /password contains a NUL/],
      [{ port: true }, /port must be a number or a string, not a boolean/],
      [{ statement_timeout: '5' }, /statement_timeout must be a number of milliseconds, not a string/],
      [{ lock_timeout: -1 }, /lock_timeout is -1; it must be an integer from 0 \(none\) to 2147483647/],
      [{ query_timeout: Infinity }, /query_timeout is Infinity/],
      [{ keepAlive: 1 }, /keepAlive must be true or false/],
      [{ types: {} }, /types must have a function getTypeParser/],
      [{ target_session_attrs: 'master' }, /target_session_attrs \("master"\) must be any, .* or prefer-standby/],
      [{ load_balance_hosts: 'x' }, /load_balance_hosts \("x"\) must be disable or random/],
      [{ connectionString: 'sslmode=x' }, /sslmode in the connection string must be disable, .* or verify-full/],
      [{ connectionString: "sslmode=''" }, /sslmode/],
      [{ connectionString: 'connect_timeout=3s' }, /connect_timeout in the connection string must be an integer/],
      [{ connectionString: 'keepalives=x' }, /keepalives in the connection string must be an integer/],
    ])('%j', (value, message) => {
      let caught: unknown;
      try {
        resolveConfig(value as ConnectionSettings, world());
      } catch (error) {
        caught = error;
      }
      expect(caught).toBeInstanceOf(PgModuleError);
      expect(caught).toMatchObject({ code: 'PG_CONFIG_INVALID', message: expect.stringMatching(message) as unknown });
    });

    it.each([
      ['PGSSLMODE', 'bad', /^PGSSLMODE \(or PGREQUIRESSL\) must be/],
      ['PGPORT', 'bad', /^PGPORT must be an integer/],
      ['PGCHANNELBINDING', '', /^PGCHANNELBINDING must be/],
      ['PGGSSENCMODE', 'require', /^PGGSSENCMODE cannot be honoured/],
    ])('a bad %s by its name', (variable, value, message) => {
      expect(() => resolveConfig({}, world({ env: { [variable]: value } }))).toThrow(message);
    });

    const beyond: Record<string, string> = {
      client_encoding: 'LATIN1',
      keepalives_interval: '5',
      keepalives_count: '5',
      tcp_user_timeout: '5',
      sslkey: 'engine:key',
      requirepeer: 'postgres',
      min_protocol_version: '3.2',
      gssencmode: 'require',
      krbsrvname: 'other',
      gssdelegation: '1',
    };
    const limited = KEYWORD_NAMES.filter((keyword) => ['partly', 'refused'].includes(KEYWORDS[keyword].treatment));

    it.each(limited)('what cannot be honoured of %s, with the reason', (keyword) => {
      const value = beyond[keyword] ?? 'anything';
      expect(() => resolveConfig({ connectionString: `host=/s ${keyword}=${value}` }, world())).toThrow(
        keyword === 'sslkey'
          ? /OpenSSL engine/
          : `${keyword} in the connection string cannot be honoured: ${KEYWORDS[keyword].note}.`,
      );
    });
  });

  it('gives an object that nobody can change', () => {
    const config = resolveConfig(
      { host: 'a,b', ssl: { ca: { file: '/c' } }, require_auth: 'md5', application_name: 'x' },
      world(),
    );
    const loose: string[] = [];
    const visit = (value: unknown, path: string): void => {
      if (typeof value !== 'object' || value === null) return;
      if (!Object.isFrozen(value)) loose.push(path);
      for (const [key, inner] of Object.entries(value)) visit(inner, `${path}.${key}`);
    };
    visit(config, 'config');
    expect(loose).toEqual([]);
  });

  it('shows no secret, however it is printed', () => {
    const files = { '/p': `*:*:*:*:${SECRET}\n` };
    for (const value of [
      { password: SECRET },
      { connectionString: `postgres://u:${SECRET}@h/d?sslpassword=${SECRET}` },
      { passfile: '/p' },
      { ssl: { key: `-----BEGIN ${SECRET}`, passphrase: SECRET, cert: Buffer.from(SECRET) } },
    ] satisfies ConnectionSettings[]) {
      const config = resolveConfig(value, world({ files }));
      expect(inspect(config, { depth: Infinity, showHidden: true })).not.toContain(SECRET);
      expect(inspect(config, { depth: Infinity, customInspect: false })).not.toContain(SECRET);
      expect(JSON.stringify(config)).not.toContain(SECRET);
      expect(Object.values(structuredClone({ ...config.session }))).not.toContain(SECRET);
    }
  });
});
