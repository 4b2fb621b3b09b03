import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nodeContext } from '../../../lib/config/config-context.js';
import { KEYWORDS, type Keyword } from '../../../lib/config/keywords.js';
import { resolveConfig } from '../../../lib/config/resolve-config.js';
import type { ResolvedConfig } from '../../../lib/config/resolved-config.js';
import { picker, seededRandom, type Pick } from '../../support/libpq-corpus.js';
import { Libpq, libpqPath, type LibpqConnect } from '../../support/libpq.js';

const SEED = Number(process.env.LIBPQ_FUZZ_SEED ?? 20_261_122);
const CASES = 1_500;

/** A name that resolves without a server, and a port where nothing listens. */
const TARGET = 'host=127.0.0.1 port=1';

type Environment = Record<string, string>;
type Ours = { ok: true; config: ResolvedConfig; warnings: string[] } | { ok: false; error: Error };

/** libpq gets as far as the network only when it has found no fault in the settings. */
function refused(their: LibpqConnect): boolean {
  return !their.error
    .split('\n')
    .filter((line) => line !== '')
    .every((line) => /^(connection to server|\tIs the server running)/.test(line));
}

function resolveOurs(connectionString: string, env: Environment): Ours {
  const warnings: string[] = [];
  try {
    const { stat } = nodeContext();
    const config = resolveConfig(
      { connectionString },
      {
        env,
        warn: (message) => warnings.push(message),
        // A server of the machine's own must not become the default host.
        stat: (path) => (path.includes('.s.PGSQL.') ? undefined : stat(path)),
      },
    );
    return { ok: true, config, warnings };
  } catch (error) {
    return { ok: false, error: error as Error };
  }
}

const quote = (value: string): string => `'${value.replace(/[\\']/g, '\\$&')}'`;

const toConninfo = (values: Readonly<Record<string, string>>): string =>
  Object.entries(values)
    .map(([keyword, value]) => `${keyword}=${quote(value)}`)
    .join(' ');

describe.skipIf(libpqPath() === undefined)('resolveConfig against the real libpq', () => {
  const libpq = libpqPath() === undefined ? undefined : new Libpq({ processes: 1 });
  let home = '';
  let system = '';
  let env: Environment = {};

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'libpq-home-'));
    system = join(home, 'system');
    await mkdir(system);
    env = { HOME: home, PGSYSCONFDIR: system };
  });
  afterAll(async () => {
    await libpq?.close();
    await rm(home, { recursive: true, force: true });
  });

  const ask = (conninfo: string, extra: Environment = {}): Promise<LibpqConnect> =>
    libpq!.connect(conninfo, { env: { ...env, ...extra } });

  async function compare(conninfo: string, extra: Environment = {}): Promise<{ their: LibpqConnect; our: Ours }> {
    return { their: await ask(conninfo, extra), our: resolveOurs(conninfo, { ...env, ...extra }) };
  }

  it('takes the same value from string, service, environment and defaults', async () => {
    const random = seededRandom(SEED);
    const pick = picker(random);
    const differences: unknown[] = [];
    const outcomes = { both: 0, neither: 0 };
    for (let i = 0; i < CASES; i++) {
      const string = someValues(pick, random, 6);
      const service = someValues(pick, random, 4);
      const variables = toEnvironment(someValues(pick, random, 4));
      const useService = random() < 0.5;
      await writeFile(join(home, '.pg_service.conf'), `[a]\nuser=x\n[svc]\n${toLines(service)}[b]\n`);
      const conninfo = toConninfo({ ...(useService ? { service: 'svc' } : {}), ...string, ...closed(string) });
      const { their, our } = await compare(conninfo, variables);
      if (our.ok && !refused(their)) {
        outcomes.both++;
        const want = expectedOf(their);
        const got = shownOf(our.config);
        if (JSON.stringify(got) !== JSON.stringify(want)) differences.push({ conninfo, variables, service, got, want });
      } else if (our.ok || (!refused(their) && !isDeliberate(our.error))) {
        differences.push({
          conninfo,
          variables,
          service,
          their: their.error,
          our: our.ok ? 'taken' : our.error.message,
        });
      } else {
        outcomes.neither++;
      }
    }
    expect(differences.slice(0, 5)).toEqual([]);
    expect(outcomes.both).toBeGreaterThan(CASES / 10);
    expect(outcomes.neither).toBeGreaterThan(CASES / 10);
    await rm(join(home, '.pg_service.conf'));
  });

  it('takes and refuses each single value of each keyword alike', async () => {
    const differences: unknown[] = [];
    for (const [keyword, values] of Object.entries(VALUES)) {
      for (const value of values) {
        const string = { [keyword]: value };
        const { their, our } = await compare(toConninfo({ ...string, ...closed(string) }));
        const same = our.ok ? !refused(their) : refused(their) || isDeliberate(our.error);
        if (!same) differences.push({ string, their: their.error, our: our.ok ? 'taken' : our.error.message });
      }
    }
    expect(differences).toEqual([]);
  });

  describe('service files', () => {
    const LINES: readonly string[] = [
      '[svc]',
      '[svc] trailing',
      ' [svc]  ',
      '[svc',
      '[svcs]',
      '[other]',
      '[]',
      '# comment',
      '  # comment',
      '',
      '   ',
      'user=alice',
      'user=bob',
      'user =carol',
      ' user=dave ',
      'user= erin',
      "user='frank'",
      'dbname=a=b',
      'application_name=x # y',
      'application_name=',
      'options=-c geqo=off\r',
      'service=nested',
      'servicefile=x',
      'requiressl=1',
      'nonsense=1',
      'no equals sign',
      '=x',
      'ldap://localhost/x?y?base?z',
      'USER=grace',
      `application_name=${'x'.repeat(1004)}`,
      `application_name=${'x'.repeat(1005)}`,
      `#${'x'.repeat(1020)}`,
      `#${'x'.repeat(1021)}`,
      `#${'é'.repeat(511)}`,
    ];

    it('are read alike, line by line', async () => {
      const random = seededRandom(SEED);
      const pick = picker(random);
      const file = join(home, 'services');
      const differences: unknown[] = [];
      let accepted = 0;
      for (let i = 0; i < CASES; i++) {
        const lines = Array.from({ length: Math.floor(random() * 8) }, () => pick(LINES));
        if (random() < 0.6) lines.unshift('[svc]');
        const text = lines.join('\n') + pick(['', '\n', '\n\n']);
        await writeFile(file, text);
        const { their, our } = await compare(`service=svc ${TARGET}`, { PGSERVICEFILE: file });
        const want = refused(their) ? 'refused' : textsOf(their.values);
        const got = our.ok ? textsOf(effectiveOf(our.config)) : 'refused';
        if (want !== 'refused') accepted++;
        if (JSON.stringify(got) !== JSON.stringify(want)) differences.push({ text, got, want, their: their.error });
      }
      expect(differences.slice(0, 5)).toEqual([]);
      expect(accepted).toBeGreaterThan(CASES / 10);
    });

    it.each([
      ['the home file', { '.pg_service.conf': '[svc]\nuser=home\n' }, {}],
      ['the system file', { 'system/pg_service.conf': '[svc]\nuser=system\n' }, {}],
      [
        'the home file before the system file',
        { '.pg_service.conf': '[svc]\nuser=home\n', 'system/pg_service.conf': '[svc]\nuser=system\n' },
        {},
      ],
      [
        'the system file when the home file lacks the service',
        { '.pg_service.conf': '[x]\n', 'system/pg_service.conf': '[svc]\nuser=system\n' },
        {},
      ],
      [
        'PGSERVICEFILE instead of the home file',
        { '.pg_service.conf': '[svc]\nuser=home\n', 'named.conf': '[svc]\nuser=named\n' },
        { PGSERVICEFILE: 'named.conf' },
      ],
      ['PGSERVICEFILE that is missing', { 'system/pg_service.conf': '[svc]\nuser=system\n' }, { PGSERVICEFILE: 'no' }],
      ['the empty PGSERVICEFILE', { '.pg_service.conf': '[svc]\nuser=home\n' }, { PGSERVICEFILE: '' }],
      ['no file', {}, {}],
    ])('come from the same place: %s', async (_, files, variables: { PGSERVICEFILE?: string }) => {
      for (const [name, text] of Object.entries(files)) await writeFile(join(home, name), text);
      const named = variables.PGSERVICEFILE;
      const extra: Environment = named === undefined ? {} : { PGSERVICEFILE: named && join(home, named) };
      for (const [conninfo, more] of [
        [`service=svc ${TARGET}`, {}],
        [TARGET, { PGSERVICE: 'svc' }],
        [`service='' ${TARGET}`, { PGSERVICE: 'svc' }],
        [TARGET, { PGSERVICE: '' }],
        [`service=svc user=string ${TARGET}`, { PGUSER: 'environment' }],
        [`service=svc ${TARGET}`, { PGUSER: 'environment' }],
      ] as [string, Environment][]) {
        const { their, our } = await compare(conninfo, { ...extra, ...more });
        expect([conninfo, our.ok ? our.config.user : 'refused']).toEqual([
          conninfo,
          refused(their) ? 'refused' : their.user,
        ]);
      }
      for (const name of Object.keys(files)) await rm(join(home, name));
    });
  });

  describe('password files', () => {
    const FIELDS: readonly string[] = ['*', 'h', '127.0.0.1', 'localhost', '1', '5432', 'db', 'me', 'd:b', 'd\\:b'];
    const EXTRA: readonly string[] = ['d\\\\b', 'm*e', '*x', '\\*', '\\', '', ' h', 'd\\b', 'mé'];
    const PASSWORDS: readonly string[] = [
      'pw',
      'p:w',
      'p\\:w',
      'p\\\\w',
      'p\\w',
      'pw\\',
      '',
      ' pw ',
      'pw\r',
      'pä',
      '#pw',
    ];

    it('are matched and unescaped alike', async () => {
      const random = seededRandom(SEED);
      const pick = picker(random);
      const file = join(home, 'pass');
      await writeFile(file, '', { mode: 0o600 });
      const differences: unknown[] = [];
      let found = 0;
      for (let i = 0; i < CASES; i++) {
        const field = (right: string): string => (random() < 0.7 ? pick(['*', right]) : pick([...FIELDS, ...EXTRA]));
        const target = { host: pick(['127.0.0.1', '/nonexistent', '/tmp', '']), port: pick(['1', '']) };
        const database = pick(['db', 'd:b', 'd\\b', '*']);
        const user = pick(['me', 'm*e', 'mé']);
        const escape = (text: string): string => text.replace(/[\\:]/g, '\\$&');
        const line = (): string => {
          const fields = [field(target.host), field(target.port), field(escape(database)), field(user)];
          return [...fields, ...(random() < 0.9 ? [pick(PASSWORDS)] : [])].join(':');
        };
        const lines = Array.from({ length: 4 }, () =>
          random() < 0.1 ? pick(['', '# x', '#*:*:*:*:no', ' ']) : line(),
        );
        const text = lines.join('\n') + pick(['', '\n', '\r\n']);
        await writeFile(file, text);
        // Nothing listens on the default port's sockets in these directories, nor on this address of the loopback.
        const values = { ...target, ...(target.host === '' ? { hostaddr: '127.255.255.254' } : {}) };
        const conninfo = toConninfo({ ...values, dbname: database, user, passfile: file });
        const { their, our } = await compare(conninfo);
        const got = our.ok ? (our.config.hosts[0]?.password?.reveal() ?? '') : our.error.message;
        if (their.password !== '') found++;
        if (got !== their.password) differences.push({ conninfo, text, got, want: their.password });
      }
      expect(differences.slice(0, 5)).toEqual([]);
      expect(found).toBeGreaterThan(CASES / 10);
      await rm(file);
    });

    it.each([
      ['0600', 0o600],
      ['0400', 0o400],
      ['0700', 0o700],
      ['0640', 0o640],
      ['0604', 0o604],
      ['0610', 0o610],
      ['0601', 0o601],
    ])('are used or passed over by their permissions alike: %s', async (_, mode) => {
      const file = join(home, '.pgpass');
      await writeFile(file, '*:*:*:*:pw\n');
      await chmod(file, mode);
      const { their, our } = await compare(TARGET);
      expect(our.ok && (our.config.hosts[0]?.password?.reveal() ?? '')).toBe(their.password);
      expect(our.ok && our.warnings.length).toBe(their.password === '' ? 1 : 0);
      await rm(file);
    });

    it('are found in the same place, a configured password first', async () => {
      await writeFile(join(home, '.pgpass'), '*:*:*:*:home\n', { mode: 0o600 });
      await writeFile(join(home, 'other'), '*:*:*:*:other\n', { mode: 0o600 });
      await symlink(join(home, 'other'), join(home, 'link'));
      await mkdir(join(home, 'folder'), { mode: 0o700 });
      for (const [conninfo, extra] of [
        ['', {}],
        ['', { PGPASSFILE: join(home, 'other') }],
        [`passfile=${join(home, 'link')}`, { PGPASSFILE: join(home, '.pgpass') }],
        [`passfile=${join(home, 'missing')}`, {}],
        [`passfile=${join(home, 'folder')}`, {}],
        ["passfile=''", { PGPASSFILE: join(home, 'other') }],
        ['password=string', {}],
        ["password=''", { PGPASSWORD: 'environment' }],
        ['', { PGPASSWORD: 'environment' }],
        ['', { PGPASSWORD: '' }],
        ['', { HOME: '' }],
      ] as [string, Environment][]) {
        const { their, our } = await compare(`${conninfo} ${TARGET}`, extra);
        const got = our.ok && (our.config.password?.reveal() ?? our.config.hosts[0]?.password?.reveal() ?? '');
        expect([conninfo, extra, got]).toEqual([conninfo, extra, their.password]);
      }
    });
  });
});

/** Values of every keyword, good, bad and empty, with which libpq never leaves the loopback. */
const VALUES: Readonly<Partial<Record<Keyword, readonly string[]>>> = {
  user: ['alice', ''],
  password: ['pw', ''],
  channel_binding: ['disable', 'prefer', 'require', 'Require', ' require', 'x', ''],
  connect_timeout: [
    '1',
    '0',
    '-1',
    ' 3 ',
    '3s',
    '+4',
    '2147483647',
    '2147483648',
    '9999999999999',
    '1.5',
    '0x1',
    '',
    ' ',
  ],
  dbname: ['db', '', 'host=x'],
  host: ['127.0.0.1', '', '127.0.0.1,127.0.0.2', ',', '/nonexistent', '@nonexistent', '127.0.0.1,/nonexistent'],
  hostaddr: ['127.0.0.1', '::1', '', '127.0.0.1,::1', 'x', '127.0.0.1,x', '1.2.3'],
  port: ['1', '1,1', '1,1,1', '', ',', '0', '65536', '-1', 'x', ' 1 ', '1x', '+1'],
  client_encoding: ['UTF8', 'utf-8', 'Unicode', 'auto', 'LATIN1', ''],
  options: ['-c geqo=off', ''],
  application_name: ['app', ''],
  fallback_application_name: ['fallback', ''],
  keepalives: ['0', '1', '2', '-1', 'x', '', ' 0 '],
  keepalives_idle: ['0', '10', '-1', 'x', ''],
  keepalives_interval: ['0', '10', '-1', 'x', ''],
  keepalives_count: ['0', '10', '-1', 'x', ''],
  tcp_user_timeout: ['0', '10', '-1', 'x', ''],
  sslmode: ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify', 'Require', ''],
  sslnegotiation: ['postgres', 'direct', 'x', ''],
  sslcompression: ['0', '1', 'x', ''],
  sslcert: ['/no/cert', ''],
  sslkey: ['/no/key', 'engine:key', ''],
  sslcertmode: ['disable', 'allow', 'require', 'x', ''],
  sslpassword: ['pw', ''],
  sslrootcert: ['/no/root', 'system', 'System', ''],
  sslcrl: ['/no/crl', ''],
  sslcrldir: ['/no/dir', ''],
  sslsni: ['0', '1', 'x', '', '10'],
  requirepeer: ['postgres', ''],
  require_auth: [
    ...['password', 'md5,password', '!md5', '!md5,!password', 'md5,!password', '!md5,password', 'md5,md5', '!md5,!md5'],
    ...[
      'none',
      'none,md5',
      'none,none',
      '!none',
      '!none,!none',
      '!none,!md5',
      'scram-sha-256',
      'oauth',
      '!oauth,!oauth',
    ],
    ...[
      'gss',
      'sspi',
      'gss,sspi',
      '!gss,!sspi',
      'gss,gss',
      'x',
      '!x',
      '!',
      '',
      ',',
      'md5,',
      ',md5',
      ' md5',
      'MD5',
      '!!md5',
    ],
    ...['scram-sha-256,scram-sha-256', '!scram-sha-256,!oauth', 'scram-sha-256,oauth', 'oauth,oauth', 'none,!none'],
  ],
  min_protocol_version: ['3.0', '3.2', 'latest', '3.1', '2.0', '3', 'x', ''],
  max_protocol_version: ['3.0', '3.2', 'latest', '3.1', '2.0', '3', 'x', ''],
  ssl_min_protocol_version: ['TLSv1', 'TLSv1.1', 'tlsv1.2', 'TLSV1.3', 'TLSv1.4', 'SSLv3', 'x', ''],
  ssl_max_protocol_version: ['TLSv1', 'TLSv1.1', 'tlsv1.2', 'TLSV1.3', 'TLSv1.4', 'SSLv3', 'x', ''],
  gssencmode: ['disable', 'prefer', 'require', 'x', ''],
  krbsrvname: ['postgres', 'other', ''],
  gsslib: ['gssapi', ''],
  gssdelegation: ['0', '1', 'x', ''],
  replication: ['database', 'true', 'x', ''],
  target_session_attrs: ['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby', 'master', ''],
  load_balance_hosts: ['disable', 'random', 'x', ''],
  scram_client_key: ['x', '', Buffer.alloc(32).toString('base64')],
  scram_server_key: ['x', '', Buffer.alloc(32).toString('base64')],
  oauth_issuer: ['https://issuer', ''],
  oauth_client_id: ['id', ''],
  oauth_client_secret: ['secret', ''],
  oauth_scope: ['scope', ''],
  sslkeylogfile: ['/no/log', ''],
};

const KEYWORDS_WITH_VALUES = Object.keys(VALUES) as Keyword[];

function someValues(pick: Pick, random: () => number, most: number): Record<string, string> {
  const values: Record<string, string> = {};
  for (let n = Math.floor(random() * most); n > 0; n--) {
    const keyword = pick(KEYWORDS_WITH_VALUES);
    const all = VALUES[keyword] ?? [];
    // The first ones are good ones: more of them, or hardly a combination would be taken.
    values[keyword] = random() < 0.8 ? pick(all.slice(0, 2)) : pick(all);
  }
  return values;
}

/** Wherever host and port are left open, a place where nothing listens. */
function closed(string: Readonly<Record<string, string>>): Record<string, string> {
  return { ...('host' in string ? {} : { host: '127.0.0.1' }), ...('port' in string ? {} : { port: '1' }) };
}

function toEnvironment(values: Readonly<Record<string, string>>): Environment {
  const env: Environment = {};
  for (const [keyword, value] of Object.entries(values)) {
    const variable = KEYWORDS[keyword as Keyword].env;
    if (variable !== undefined && keyword !== 'service') env[variable] = value;
  }
  return env;
}

const toLines = (values: Readonly<Record<string, string>>): string =>
  Object.entries(values)
    .map(([keyword, value]) => `${keyword}=${value}\n`)
    .join('');

/** The differences of docs/connection.md: what is refused here and not there. */
function isDeliberate(error: Error): boolean {
  return (
    error.message.includes('cannot be honoured') ||
    error.message.includes('names an OpenSSL engine') ||
    // libpq reads these only for TCP, and a port only when its turn comes.
    /(keepalives\w*|tcp_user_timeout|connect_timeout|port|PGPORT|PGCONNECT_TIMEOUT)\b.* must be an integer/.test(
      error.message,
    ) ||
    // "1.2.3" is an address to the C library's old notation.
    /hostaddr.* is not an IPv4 or IPv6 address/i.test(error.message)
  );
}

/** The fields of a ResolvedConfig in libpq's words, as far as PQconninfo tells them. */
function effectiveOf(config: ResolvedConfig): Record<string, string | undefined> {
  const { tls } = config;
  return {
    user: config.user,
    dbname: config.database,
    password: config.password === undefined ? '' : String(config.password.reveal()),
    application_name: config.session.application_name ?? '',
    options: config.session.options ?? '',
    replication: config.session.replication ?? '',
    channel_binding: config.channelBinding,
    target_session_attrs: config.targetSessionAttrs,
    load_balance_hosts: config.loadBalanceHosts,
    sslmode: tls.mode,
    sslnegotiation: tls.negotiation,
    sslcertmode: tls.certMode,
    sslrootcert: tls.ca?.kind === 'system' ? 'system' : pathOf(tls.ca),
    sslcert: pathOf(tls.cert),
    sslkey: pathOf(tls.key),
    sslcrl: pathOf(tls.crl),
    sslcrldir: tls.crlDir ?? '',
    sslpassword: tls.passphrase?.reveal() ?? '',
    sslsni: tls.sni ? '1' : '0',
    sslkeylogfile: tls.keyLogFile ?? '',
    ssl_min_protocol_version: tls.minVersion ?? '',
    ssl_max_protocol_version: tls.maxVersion ?? '',
    connect_timeout: config.connectTimeoutMillis === undefined ? '' : String(config.connectTimeoutMillis / 1000),
    keepalives: config.keepalive.enabled ? '1' : '0',
    keepalives_idle: String(config.keepalive.idleMillis / 1000),
    hosts: config.hosts.map(({ host }) => host ?? '').join(),
    hostaddr: config.hosts.map(({ hostaddr }) => hostaddr ?? '').join(),
    port: config.hosts.map(({ port }) => port).join(),
  };
}

function pathOf(pem: ResolvedConfig['tls']['ca']): string {
  return pem?.kind === 'file' && pem.required ? pem.path : '';
}

const shownOf = effectiveOf;

/** The same from PQconninfo, with the readings that libpq gives each value later on. */
function expectedOf(their: LibpqConnect): Record<string, string | undefined> {
  const v = (keyword: Keyword): string => their.values[keyword] ?? '';
  const integer = (keyword: Keyword, unset: string): string =>
    v(keyword) === '' ? unset : String(Math.max(0, Number(v(keyword))));
  const version = (keyword: Keyword): string => v(keyword).replace(/^tlsv/i, 'TLSv');
  const list = (keyword: Keyword, count: number): string[] => {
    const items = v(keyword).split(',');
    return Array.from({ length: count }, (_, i) => items[items.length === 1 && keyword === 'port' ? 0 : i] ?? '');
  };
  const count = (v('hostaddr') || v('host')).split(',').length;
  const addresses = list('hostaddr', count);
  return {
    user: v('user'),
    dbname: v('dbname'),
    password: v('password'),
    application_name: their.values.application_name ?? v('fallback_application_name'),
    options: v('options'),
    replication: v('replication'),
    channel_binding: v('channel_binding'),
    target_session_attrs: v('target_session_attrs'),
    load_balance_hosts: v('load_balance_hosts'),
    sslmode: v('sslmode'),
    sslnegotiation: v('sslnegotiation'),
    sslcertmode: v('sslcertmode'),
    sslrootcert: v('sslrootcert'),
    sslcert: v('sslcert'),
    sslkey: v('sslkey'),
    sslcrl: v('sslcrl'),
    sslcrldir: v('sslcrldir'),
    sslpassword: v('sslpassword'),
    sslsni: v('sslsni').startsWith('1') ? '1' : '0',
    sslkeylogfile: v('sslkeylogfile'),
    ssl_min_protocol_version: version('ssl_min_protocol_version'),
    ssl_max_protocol_version: version('ssl_max_protocol_version'),
    connect_timeout: integer('connect_timeout', ''),
    keepalives: Number(their.values.keepalives ?? '1') === 0 ? '0' : '1',
    keepalives_idle: integer('keepalives_idle', '0'),
    // Where neither name nor address is given both take the first socket's directory, or localhost.
    hosts: list('host', count)
      .map((host, i) => host || (addresses[i] ? '' : 'localhost'))
      .join(),
    hostaddr: addresses.join(),
    port: list('port', count)
      .map((port) => (port === '' ? 5432 : Number(port)))
      .join(),
  };
}

/** What the service-file cases set. */
function textsOf(values: Readonly<Record<string, string | undefined>>): (string | undefined)[] {
  return [values.user, values.dbname, values.application_name ?? '', values.options ?? '', values.sslmode];
}
