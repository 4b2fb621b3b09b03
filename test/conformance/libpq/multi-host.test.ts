import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createConnectionFactory, PgConnectError } from 'nestjs-pg';
import { startPostgres, startStandby, type PostgresServer } from 'nestjs-pg/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { freePort } from '../../../lib/testing/free-port.js';
import { createAuthority } from '../../support/certificates.js';
import { Libpq, libpqPath } from '../../support/libpq.js';
import { FaultProxy, startProxy } from '../../support/proxy.js';
import { startScriptedServer, type ScriptedConnection } from '../../support/scripted-server.js';

/** What stands at a port. */
type Place =
  | 'primary'
  | 'standby'
  /** default_transaction_read_only=on */
  | 'read-only'
  /** Another password; TLS. */
  | 'locked'
  /** In recovery without hot_standby: 57P03. */
  | 'recovering'
  /** 57P03 */
  | 'starting'
  /** 53300 */
  | 'full'
  /** Hangs up at the first packet. */
  | 'hanging up'
  /** Speaks another protocol. */
  | 'http'
  /** Accepts, and says nothing. */
  | 'black hole'
  /** Nobody listens. */
  | 'dead'
  // PostgreSQL before 14, which does not report what its sessions are.
  | 'old primary'
  | 'old standby'
  | 'old read-only';

const ATTRS = ['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby'] as const;
const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === '::1'));
const BASE = 'user=postgres password=postgres dbname=postgres';

interface Outcome {
  /** Where the session is. */
  readonly reached?: string;
  readonly encrypted?: boolean;
  /** `place: what was wrong`, attempt by attempt, where no session came of it. */
  readonly failed?: readonly string[];
}

/** The kinds of failure, in the words of libpq, the server, Node and ours. */
const KINDS: readonly (readonly [string, RegExp])[] = [
  ['refused', /refused/i],
  ['timeout', /timeout expired|no connection within/],
  ['unknown name', /could not translate host name|name look-up/],
  ['no socket', /No such file|ENOENT/],
  ['starting', /starting up|not accepting connections|not yet accepting/],
  ['full', /too many clients/],
  ['no password', /no password supplied|none is configured/],
  ['wrong password', /password authentication failed/],
  ['no such database', /database ".*" does not exist/],
  ['read-only', /session is read-only/],
  ['writable', /session is not read-only/],
  ['no standby', /not in hot standby mode|is not a standby/],
  ['standby', /in hot standby mode|is a standby/],
  ['no TLS', /does not support (SSL|TLS)/],
  ['hung up', /closed the connection unexpectedly|terminated unexpectedly/],
  ['garbage', /invalid (response|byte)|does not appear to be a PostgreSQL|expected authentication request/i],
];
const kindOf = (text: string): string => KINDS.find(([, pattern]) => pattern.test(text))?.[0] ?? text;

describe.skipIf(libpqPath() === undefined)('a list of hosts, through the real libpq and through ours', () => {
  const ports = new Map<Place, number>();
  const closeables: AsyncDisposable[] = [];
  let home: string;
  let libpq: Libpq;
  let primary: PostgresServer;
  let standby: PostgresServer;

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'nestjs-pg-hosts-'));
    libpq = new Libpq();
    const certificate = await (await createAuthority('Root')).issue({ dns: ['localhost'] });
    const [first, readOnly, locked] = await Promise.all([
      startPostgres(),
      startPostgres({ settings: { default_transaction_read_only: true } }),
      startPostgres({ password: 'wisteria-17', ssl: { cert: certificate.certPem, key: certificate.keyPem } }),
    ]);
    primary = first;
    standby = await startStandby(primary);
    const recovering = await startStandby(primary, { name: 'cold', settings: { hot_standby: 'off' } });
    const blackHole = await startProxy({ host: '127.0.0.1', port: primary.port });
    blackHole.blackHole();
    const scripted = {
      starting: refuse('57P03', 'the database system is starting up'),
      full: refuse('53300', 'sorry, too many clients already'),
      'hanging up': async (connection) => {
        await connection.startup();
        connection.end();
      },
      http: (connection) => connection.send('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n'),
      'old primary': oldServer({ readOnly: 'off', inRecovery: 'f' }),
      'old standby': oldServer({ readOnly: 'on', inRecovery: 't' }),
      'old read-only': oldServer({ readOnly: 'on', inRecovery: 'f' }),
    } satisfies Partial<Record<Place, (connection: ScriptedConnection) => unknown>>;
    const servers = { primary, standby, 'read-only': readOnly, locked, recovering, 'black hole': blackHole } as const;
    for (const [place, server] of Object.entries(servers)) put(place as Place, server);
    for (const [place, handler] of Object.entries(scripted)) put(place as Place, await startScriptedServer(handler));
    ports.set('dead', await freePort());
  });
  afterAll(async () => {
    await libpq.close();
    await Promise.all(closeables.map((one) => one[Symbol.asyncDispose]()));
    await rm(home, { recursive: true });
  });
  afterEach(() => vi.unstubAllEnvs());

  function put(place: Place, server: AsyncDisposable & { readonly port: number }): void {
    ports.set(place, server.port);
    closeables.push(server);
  }

  const portOf = (place: Place): number => ports.get(place) ?? 0;

  const placeOf = (port: number | string): string =>
    [...ports].find(([, one]) => one === Number(port))?.[0] ?? `port ${port}`;

  /** The list of `host` and `port` for these places. */
  const hosts = (places: readonly Place[], name = '127.0.0.1'): string =>
    `host=${places.map(() => name).join()} port=${places.map(portOf).join()}`;

  async function theirs(conninfo: string, env: Record<string, string> = {}): Promise<Outcome> {
    const outcome = await libpq.connect(conninfo, { env: { HOME: home, ...env } });
    if (outcome.ok) return { reached: placeOf(outcome.port), encrypted: outcome.sslInUse };
    // An attempt's text may go on in further lines.
    const lines = outcome.error.split('\n').filter((line) => !/^(\t|DETAIL:|HINT:|password retrieved)/.test(line));
    return {
      failed: lines.filter(Boolean).map((line) => {
        const port = /^connection to server .*?(?:, port (\d+)|\.s\.PGSQL\.(\d+)") failed/.exec(line);
        return port ? `${placeOf(port[1] ?? port[2] ?? '')}: ${kindOf(line)}` : kindOf(line);
      }),
    };
  }

  async function ours(connectionString: string, env: Record<string, string> = {}): Promise<Outcome> {
    for (const [name, value] of Object.entries({ HOME: home, ...env })) vi.stubEnv(name, value);
    // libpq's default; ours of 10 s would be in the way of nothing here.
    const connect = createConnectionFactory({ connectionString });
    try {
      await using client = await connect();
      return { reached: placeOf(client.port), encrypted: client.security.encrypted };
    } catch (error) {
      if (!(error instanceof PgConnectError)) throw error;
      const failed = error.attempts.map(({ port, phase, error: { message } }) =>
        // libpq names no port where it got none.
        phase === 'name look-up' ? kindOf(phase) : `${placeOf(port)}: ${kindOf(message)}`,
      );
      return { failed };
    }
  }

  /** Both come to the same end; which one that is. */
  async function same(conninfo: string, env?: Record<string, string>): Promise<Outcome> {
    const [their, our] = await Promise.all([theirs(conninfo, env), ours(conninfo, env)]);
    expect(our, conninfo).toEqual(their);
    return our;
  }

  const LISTS: readonly (readonly Place[])[] = [
    ['primary'],
    ['standby'],
    ['read-only'],
    ['primary', 'standby'],
    ['standby', 'primary'],
    ['read-only', 'primary', 'standby'],
    ['standby', 'read-only'],
    ['dead', 'standby', 'primary'],
    ['starting', 'primary'],
    ['recovering', 'standby', 'starting', 'primary'],
    ['dead', 'starting', 'recovering'],
    ['standby', 'hanging up', 'primary'],
    ['old primary', 'old standby'],
    ['old standby', 'old primary'],
    ['old read-only', 'old standby', 'old primary'],
  ];
  const matrix = LISTS.flatMap((list) => ATTRS.map((attrs) => [list.join(', '), attrs, list] as const));

  describe('every target_session_attrs', () => {
    const outcomes = { reached: 0, failed: 0 };

    it.each(matrix)('%s: %s', async (_, attrs, list) => {
      const { reached } = await same(`${BASE} ${hosts(list)} sslmode=disable target_session_attrs=${attrs}`);
      outcomes[reached === undefined ? 'failed' : 'reached']++;
    });

    it('comes to both ends', () => {
      expect(outcomes.reached).toBeGreaterThan(matrix.length / 3);
      expect(outcomes.failed).toBeGreaterThan(matrix.length / 8);
    });

    it.each([
      ['any', 'dead, standby, primary', 'standby'],
      ['read-write', 'standby, read-only, primary', 'primary'],
      ['read-only', 'primary, standby', 'standby'],
      ['read-only', 'primary, read-only', 'read-only'],
      ['primary', 'standby, read-only', 'read-only'],
      ['standby', 'primary, read-only, standby', 'standby'],
      ['prefer-standby', 'primary, standby', 'standby'],
      ['prefer-standby', 'starting, read-only, primary', 'read-only'],
    ])('%s of %s is the %s', async (attrs, list, reached) => {
      const places = list.split(', ') as Place[];
      expect(await same(`${BASE} ${hosts(places)} sslmode=disable target_session_attrs=${attrs}`)).toMatchObject({
        reached,
      });
    });

    it.each(['read-write', 'primary'])('%s follows a promotion', async (attrs) => {
      const next = await startStandby(primary, { name: `next-${attrs}` });
      closeables.push(next);
      const list = (): string => `host=127.0.0.1,127.0.0.1 port=${portOf('standby')},${next.port}`;
      const conninfo = `${BASE} ${list()} sslmode=disable target_session_attrs=${attrs}`;
      expect((await same(conninfo)).failed).toHaveLength(2);
      await next.promote();
      expect(await same(conninfo)).toMatchObject({ reached: `port ${next.port}` });
    });
  });

  describe('what goes on, and what stops', () => {
    it.each<[string, readonly Place[], string, Outcome]>([
      ['a server that starts, goes on', ['starting', 'primary'], '', { reached: 'primary' }],
      ['one in recovery, goes on', ['recovering', 'primary'], '', { reached: 'primary' }],
      ['a full one, stops', ['full', 'primary'], '', { failed: ['full: full'] }],
      ['one that hangs up, stops', ['hanging up', 'primary'], '', { failed: ['hanging up: hung up'] }],
      ['a wrong password, stops', ['locked', 'primary'], '', { failed: ['locked: wrong password'] }],
      ['a wrong password behind a dead host, stops', ['dead', 'locked', 'primary'], '', {}],
      ['a wrong database, stops', ['primary', 'standby'], 'dbname=none', { failed: ['primary: no such database'] }],
      ['no password, stops', ['primary', 'standby'], "password=''", { failed: ['primary: no password'] }],
      ['a black hole, goes on', ['black hole', 'primary'], 'connect_timeout=1', { reached: 'primary' }],
      ['two black holes', ['black hole', 'black hole', 'standby'], 'connect_timeout=1', { reached: 'standby' }],
      ['nothing but black holes', ['black hole', 'dead', 'black hole'], 'connect_timeout=1', {}],
      [
        'a black hole before the one that is wanted',
        ['black hole', 'standby', 'primary'],
        'connect_timeout=1 target_session_attrs=primary',
        { reached: 'primary' },
      ],
      [
        'a black hole in both passes',
        ['black hole', 'primary'],
        'connect_timeout=1 target_session_attrs=prefer-standby',
        { reached: 'primary' },
      ],
    ])('%s', async (_, list, settings, expected) => {
      expect(await same(`${BASE} ${hosts(list)} sslmode=disable ${settings}`)).toMatchObject(expected);
    });

    it.each<[string, readonly Place[], string]>([
      ['prefer: without TLS', ['dead', 'primary'], ''],
      ['prefer: a wrong password is tried again without TLS, and stops', ['locked', 'primary'], ''],
      ['prefer: 57P03 goes on and changes nothing else', ['starting', 'locked'], 'password=wisteria-17'],
      ['prefer: hung up in answer to the TLS request', ['hanging up', 'primary'], ''],
      ['prefer: another protocol', ['http', 'primary'], ''],
      ['prefer: a black hole', ['black hole', 'locked'], 'password=wisteria-17 connect_timeout=1'],
      ['allow: plain first', ['dead', 'locked'], 'sslmode=allow password=wisteria-17'],
      ['allow: a wrong password is tried again with TLS', ['starting', 'locked', 'primary'], 'sslmode=allow'],
      ['require: a server without TLS stops', ['primary', 'locked'], 'sslmode=require password=wisteria-17'],
      ['require: a dead one goes on', ['dead', 'locked'], 'sslmode=require password=wisteria-17'],
      ['prefer: the wrong kind of server', ['locked', 'primary', 'standby'], 'target_session_attrs=standby'],
      [
        'require: the wrong kind of server',
        ['locked', 'locked'],
        'sslmode=require password=wisteria-17 target_session_attrs=standby',
      ],
    ])('sslmode=%s', async (_, list, settings) => {
      await same(`${BASE} ${hosts(list)} ${settings}`);
    });
  });

  describe('names, addresses and ports', () => {
    /** No name server is asked: a label has at most 63 letters. */
    const NOWHERE = `${'x'.repeat(70)}.invalid`;

    it.each<[string, (port: typeof portOf, socket: () => string) => string, Outcome]>([
      ['a name', (port) => `host=localhost port=${port('primary')}`, { reached: 'primary' }],
      [
        'names, and one port each',
        (port) => `host=localhost,localhost port=${port('dead')},${port('primary')}`,
        { reached: 'primary' },
      ],
      ['one port for all', (port) => `host=127.0.0.1,localhost port=${port('dead')}`, {}],
      [
        'an unknown name goes on',
        (port) => `host=${NOWHERE},127.0.0.1 port=${port('primary')}`,
        { reached: 'primary' },
      ],
      ['unknown names', (port) => `host=${NOWHERE},${NOWHERE} port=${port('primary')}`, {}],
      [
        'an unknown name, and a wrong kind of server',
        (port) => `host=${NOWHERE},127.0.0.1 port=${port('standby')} target_session_attrs=primary`,
        { failed: ['unknown name', 'standby: standby'] },
      ],
      [
        'hostaddr spares the look-up',
        (port) => `host=${NOWHERE} hostaddr=127.0.0.1 port=${port('primary')}`,
        { reached: 'primary' },
      ],
      ['hostaddr alone', (port) => `hostaddr=127.0.0.1 port=${port('primary')}`, { reached: 'primary' }],
      [
        'several of them',
        (port) => `hostaddr=127.0.0.1,127.0.0.1 port=${port('dead')},${port('standby')}`,
        { reached: 'standby' },
      ],
      [
        'some of them, the others by name',
        (port) => `host=${NOWHERE},localhost hostaddr=127.0.0.1, port=${port('dead')},${port('primary')}`,
        { reached: 'primary' },
      ],
      [
        'hostaddr and the wrong kind of server',
        (port) =>
          `host=a,b hostaddr=127.0.0.1,127.0.0.1 port=${port('standby')},${port('primary')} target_session_attrs=primary`,
        { reached: 'primary' },
      ],
      [
        'a socket',
        (port, socket) => `host=${socket()} port=${port('primary')}`,
        { reached: 'primary', encrypted: false },
      ],
      [
        'a socket, whatever the sslmode',
        (port, socket) => `host=${socket()} port=${port('primary')} sslmode=require`,
        { reached: 'primary', encrypted: false },
      ],
      [
        'a folder without the socket goes on',
        (port, socket) => `host=/nonexistent,${socket()} port=${port('primary')}`,
        { reached: 'primary' },
      ],
      [
        'a socket behind a dead address',
        (port, socket) => `host=127.0.0.1,${socket()} port=${port('dead')},${port('primary')}`,
        { reached: 'primary' },
      ],
      ['folders without a socket', (port) => `host=/nonexistent,/nowhere port=${port('primary')}`, {}],
    ])('%s', async (_, conninfo, expected) => {
      const outcome = await same(`${BASE} connect_timeout=3 ${conninfo(portOf, () => primary.socketDir)}`);
      expect(outcome).toMatchObject(expected);
    });

    /** Which of localhost's addresses comes first, and whether there is more than one, is the machine's to say. */
    it.each<[Place | undefined, Place | undefined, string]>([
      [undefined, 'primary', ''],
      ['primary', undefined, ''],
      ['starting', 'primary', ''],
      ['primary', 'starting', ''],
      ['full', 'primary', ''],
      ['black hole', 'primary', 'connect_timeout=1'],
      ['standby', 'primary', 'target_session_attrs=primary'],
      ['standby', 'primary', 'target_session_attrs=standby'],
      ['hanging up', 'primary', ''],
    ])('a name with %s at one address, and %s at the other', async (v6, v4, settings) => {
      const port = await freePort(hasIpv6 ? ['127.0.0.1', '::1'] : ['127.0.0.1']);
      const twins: FaultProxy[] = [];
      for (const [place, address] of [[v6, '::1'] as const, [v4, '127.0.0.1'] as const]) {
        if (place === undefined || (address === '::1' && !hasIpv6)) continue;
        const twin = new FaultProxy({ host: '127.0.0.1', port: portOf(place) }, address, port);
        twins.push(twin);
        await twin.accept();
      }
      try {
        await same(`${BASE} host=localhost,localhost port=${port} sslmode=disable ${settings}`);
      } finally {
        await Promise.all(twins.map((twin) => twin.close()));
      }
    });

    it('as a URI', async () => {
      const list = (...places: Place[]): string => places.map((place) => `127.0.0.1:${portOf(place)}`).join();
      const uri = (places: string, rest: string): string => `postgresql://postgres:postgres@${places}/postgres${rest}`;

      expect(await same(uri(list('dead', 'standby', 'primary'), '?target_session_attrs=read-write'))).toMatchObject({
        reached: 'primary',
      });
      expect(await same(uri(list('starting', 'standby'), '?sslmode=disable'))).toMatchObject({ reached: 'standby' });
      expect((await same(uri(list('dead', 'full', 'primary'), ''))).failed).toHaveLength(2);
    });

    it('from the environment', async () => {
      const env = {
        PGHOST: '127.0.0.1,127.0.0.1,127.0.0.1',
        PGPORT: (['dead', 'primary', 'standby'] as const).map(portOf).join(),
        PGTARGETSESSIONATTRS: 'standby',
        PGLOADBALANCEHOSTS: 'random',
      };
      expect(await same(BASE, env)).toMatchObject({ reached: 'standby' });
      expect(await same(`${BASE} target_session_attrs=primary`, env)).toMatchObject({ reached: 'primary' });
    });

    it('with a password for each host from the password file', async () => {
      const passfile = join(home, 'passwords');
      const write = (lines: readonly string[]): Promise<void> => writeFile(passfile, lines.join('\n'), { mode: 0o600 });
      const conninfo = (...places: Place[]): string =>
        `user=postgres dbname=postgres passfile=${passfile} sslmode=disable ${hosts(places)}`;

      await write([`127.0.0.1:${portOf('locked')}:*:*:wisteria-17`, '*:*:*:postgres:postgres']);
      expect(await same(conninfo('starting', 'locked', 'primary'))).toMatchObject({ reached: 'locked' });
      expect(await same(`${conninfo('locked', 'primary', 'standby')} target_session_attrs=standby`)).toMatchObject({
        reached: 'standby',
      });
      await write([`127.0.0.1:${portOf('primary')}:*:*:postgres`]);
      expect(await same(conninfo('starting', 'locked', 'primary'))).toMatchObject({
        failed: [{}, {}].map(() => expect.any(String)),
      });
      await write(['*:*:*:postgres:postgres']);
      expect((await same(conninfo('locked', 'primary'))).failed).toEqual(['locked: wrong password']);
    });
  });

  describe('load_balance_hosts=random', () => {
    it.each<[readonly Place[], string, readonly Place[]]>([
      [['primary', 'standby', 'read-only'], '', ['primary', 'standby', 'read-only']],
      [['dead', 'starting', 'primary'], '', ['primary']],
      [['primary', 'standby', 'read-only'], 'target_session_attrs=primary', ['primary', 'read-only']],
      [['primary', 'standby', 'dead'], 'target_session_attrs=prefer-standby', ['standby']],
      [['primary', 'read-only', 'starting'], 'target_session_attrs=prefer-standby', ['primary', 'read-only']],
    ])('of %j %s reaches each of %j', async (list, settings, wanted) => {
      const conninfo = `${BASE} ${hosts(list)} sslmode=disable load_balance_hosts=random ${settings}`;
      for (const connect of [theirs, ours]) {
        const reached = new Set<string | undefined>();
        // A host that is left out 40 times by a fair die of three: once in ten million runs.
        for (let i = 0; i < 40 && (i < 5 || reached.size < wanted.length); i++) {
          reached.add((await connect(conninfo)).reached);
        }
        expect([...reached].sort()).toEqual([...wanted].sort());
      }
    });

    it('changes nothing when all fail but the order', async () => {
      const conninfo = `${BASE} ${hosts(['dead', 'starting', 'recovering'])} sslmode=disable load_balance_hosts=random`;
      const sorted = async (outcome: Promise<Outcome>): Promise<unknown> => [...((await outcome).failed ?? [])].sort();
      expect(await sorted(ours(conninfo))).toEqual(await sorted(theirs(conninfo)));
    });
  });
});

function refuse(code: string, text: string): (connection: ScriptedConnection) => Promise<void> {
  return async (connection) => {
    await connection.startupWithoutEncryption();
    connection.sendError(code, text);
    connection.end();
  };
}

/** PostgreSQL 13, as far as a client asks it what kind of session it has. */
function oldServer(facts: { readOnly: string; inRecovery: string }): (connection: ScriptedConnection) => Promise<void> {
  return async (connection) => {
    await connection.startupWithoutEncryption();
    connection.sendMessage('R', Buffer.alloc(4));
    connection.sendMessage('S', 'server_version\x0013.4\0');
    connection.sendMessage('Z', 'I');
    for (;;) {
      const { type, body } = await connection.message();
      if (type !== 'Q') break;
      const isBoolean = body.includes('pg_is_in_recovery');
      const value = isBoolean ? facts.inRecovery : facts.readOnly;
      connection.sendMessage('T', rowDescription(isBoolean ? 16 : 25));
      connection.sendMessage('D', Buffer.concat([Buffer.from([0, 1, 0, 0, 0, value.length]), Buffer.from(value)]));
      connection.sendMessage('C', 'SELECT 1\0');
      connection.sendMessage('Z', 'I');
    }
    connection.end();
  };
}

/** One column, in text; `type` is the OID. */
function rowDescription(type: number): Buffer {
  const name = Buffer.from(type === 16 ? 'standby\0' : 'transaction_read_only\0');
  const rest = Buffer.alloc(18);
  rest.writeInt32BE(type, 6);
  rest.writeInt32BE(-1, 12);
  return Buffer.concat([Buffer.from([0, 1]), name, rest]);
}
