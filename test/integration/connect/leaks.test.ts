import dns from 'node:dns/promises';
import { isDeepStrictEqual } from 'node:util';
import {
  createConnectionFactory,
  PgConnectError,
  PgModuleError,
  type ConnectionFactory,
  type PgClient,
  type PgOptions,
} from 'nestjs-pg';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { createAuthority } from '../../support/certificates.js';
import { fullBacklog, type FullBacklog } from '../../support/full-backlog.js';
import { seededRandom } from '../../support/libpq-corpus.js';
import { sessionsOf, useServer, waitFor } from '../../support/postgres.js';
import { startProxy, type FaultProxy } from '../../support/proxy.js';
import { startScriptedServer, type ScriptedServer } from '../../support/scripted-server.js';
import { census } from './support/opening.js';

const ATTEMPTS = 1_000;
const AT_ONCE = 50;
/**
 * How long an attempt may take, in the time that a good one takes here and now, with as many others at once: some end
 * early on their way, some at its end, and the rest where they hang.
 */
const PATIENCE = [0.05, 0.3, 0.8, 1.5];

const authority = await createAuthority('Root');
const certificate = await authority.issue({ dns: ['localhost'], ips: ['127.0.0.1'] });
const server = useServer({
  settings: { max_connections: 200 },
  ssl: { cert: certificate.certPem, key: certificate.keyPem },
});

let slow: FaultProxy;
let blackHole: FaultProxy;
let backlog: FullBacklog;
let noHandshake: ScriptedServer;
let noAnswer: ScriptedServer;

beforeAll(async () => {
  const target = { host: server().host, port: server().port };
  [slow, blackHole] = [await startProxy(target), await startProxy(target)];
  slow.latency(1);
  blackHole.blackHole();
  backlog = await fullBacklog();
  noHandshake = await startScriptedServer(async (connection) => {
    await connection.startup();
    connection.send('S');
    await connection.read(1_000_000);
  });
  noAnswer = await startScriptedServer(async (connection) => {
    await connection.startupWithoutEncryption();
    await connection.message();
  });
});
afterAll(async () => {
  await Promise.all([slow, blackHole, backlog, noHandshake, noAnswer].map((one) => one?.[Symbol.asyncDispose]()));
});
afterEach(() => vi.restoreAllMocks());

const never = (): Promise<never> => new Promise(() => undefined);

const places: Record<string, () => PgOptions> = {
  'anywhere on the way': () => ({ port: slow.port }),
  'a name look-up that hangs': () => ({ host: 'db.internal' }),
  'a TCP connect that hangs': () => ({ port: backlog.port }),
  'a black hole': () => ({ port: blackHole.port }),
  'a TLS handshake that hangs': () => ({ port: noHandshake.port }),
  'an authentication that hangs': () => ({ port: noAnswer.port, ssl: 'prefer' }),
  'a password function that hangs': () => ({ password: never }),
  'an onConnect that hangs': () => ({ pool: { onConnect: never } }),
  'an onConnect with a statement that goes on': () => ({
    pool: {
      onConnect: async (client: PgClient) => {
        await client.query('SELECT pg_sleep(3600)');
      },
    },
  }),
};

function optionsOf(place: PgOptions, connectTimeoutMillis: number): PgOptions {
  return {
    host: '127.0.0.1',
    port: server().port,
    user: server().user,
    password: server().password,
    database: server().database,
    ssl: { mode: 'verify-full', ca: authority.certPem },
    ...place,
    pool: { ...place.pool, connectTimeoutMillis },
  };
}

it(`${ATTEMPTS} connects that are aborted or come too late leave no socket, no timer and no session`, async () => {
  const lookup = dns.lookup.bind(dns);
  vi.spyOn(dns, 'lookup').mockImplementation(((name: string, options: object) =>
    name === 'db.internal' ? never() : lookup(name, options)) as typeof dns.lookup);
  const random = seededRandom(20_261_122);
  const outcomes = new Map<string, number>();
  const count = (what: string): void => void outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
  // What is made once and stays (the thread pool of look-ups, modules that are loaded late), and a measure of time.
  const connect = createConnectionFactory(optionsOf({}, 0));
  const begun = performance.now();
  await Promise.all(Array.from({ length: AT_ONCE }, async () => (await connect()).close()));
  const patience = PATIENCE.map((share) => Math.ceil((performance.now() - begun) * share));
  await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'the first sessions to end' });
  await waitFor(() => census()['Timeout'] === undefined, { message: 'the timers of others' });
  const before = census();

  const byTimeout = new Map<string, ConnectionFactory>();
  const bySignal = new Map<string, ConnectionFactory>();
  for (const [place, options] of Object.entries(places)) {
    bySignal.set(place, createConnectionFactory(optionsOf(options(), 0)));
    for (const millis of patience) {
      byTimeout.set(`${place}, ${millis}`, createConnectionFactory(optionsOf(options(), millis)));
    }
  }

  async function attempt(number: number): Promise<void> {
    const names = Object.keys(places);
    const place = names[number % names.length]!;
    const millis = patience[Math.floor(random() * patience.length)]!;
    const isAborted = random() < 0.5;
    const abort = new AbortController();
    const timer = isAborted ? setTimeout(() => abort.abort(), millis) : undefined;
    const connect = isAborted ? bySignal.get(place)! : byTimeout.get(`${place}, ${millis}`)!;
    try {
      const client = await connect({ signal: abort.signal });
      count('connected');
      await client.close();
    } catch (error) {
      if (error instanceof PgConnectError) {
        expect(error.attempts.map(({ error: { message } }) => message)).toEqual([
          expect.stringContaining('no connection within'),
        ]);
        count(error.attempts[0]!.phase);
      } else {
        expect(error).toBeInstanceOf(PgModuleError);
        expect(error).toMatchObject({ code: 'PG_ABORTED' });
        count('aborted');
      }
    } finally {
      clearTimeout(timer);
    }
  }

  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < ATTEMPTS) await attempt(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));

  // Every phase has had its share.
  const phases = ['name look-up', 'TCP connect', 'TLS', 'authentication', 'password', 'onConnect'];
  for (const what of [...phases, 'aborted']) expect(outcomes.get(what), what).toBeGreaterThan(5);
  expect(outcomes.get('connected') ?? 0).toBeLessThan(ATTEMPTS / 9);

  await waitFor(async () => (await sessionsOf(server())).length === 0, {
    message: 'the sessions to end',
    deadline: 15_000,
  });
  for (const [name, other] of Object.entries({ slow, blackHole, noHandshake, noAnswer })) {
    if (other === blackHole) blackHole.heal();
    await waitFor(() => other.connections === 0, { message: `the connections of ${name} to end` });
  }
  const same = (): boolean => isDeepStrictEqual(census(), before);
  await waitFor(same, { message: 'nothing more than before' }).catch(() => expect(census()).toEqual(before));
}, 120_000);
