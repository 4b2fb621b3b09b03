import { inspect } from 'node:util';
import { createConnectionFactory, PgConnectError, type PgOptions } from 'nestjs-pg';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { freePort } from '../../../lib/testing/free-port.js';
import { createAuthority } from '../../support/certificates.js';
import { ADMIN_HBA, adminQuery, sessionsOf, useServer, waitFor } from '../../support/postgres.js';
import { startScriptedServer } from '../../support/scripted-server.js';

const PASSWORD = 'wisteria-17';
/** A label has at most 63 letters: no name server needs to be asked. */
const NOWHERE = `${'x'.repeat(70)}.invalid`;

const authority = await createAuthority('Root');
const certificate = await authority.issue({ dns: ['localhost'] });

const server = useServer({
  password: PASSWORD,
  ssl: { cert: certificate.certPem, key: certificate.keyPem },
  hba: [
    ADMIN_HBA,
    'hostssl all only_tls all scram-sha-256',
    'host all only_tls all reject',
    'host all nobody all reject',
    'host all stranger all trust',
    'host all all all scram-sha-256',
  ],
});
const withoutTls = useServer({ password: PASSWORD });

beforeAll(async () => {
  // No password file, and no variables.
  for (const name of Object.keys(process.env)) if (name.startsWith('PG')) vi.stubEnv(name, undefined);
  vi.stubEnv('HOME', '/nonexistent');
  await adminQuery(server(), 'CREATE DATABASE closed');
  await adminQuery(
    server(),
    `CREATE ROLE only_tls LOGIN; CREATE ROLE nobody LOGIN;
     CREATE ROLE app LOGIN PASSWORD '${PASSWORD}'; CREATE ROLE busy LOGIN PASSWORD '${PASSWORD}' CONNECTION LIMIT 0;
     REVOKE CONNECT ON DATABASE closed FROM PUBLIC`,
  );
});

afterEach(async () => {
  for (const one of [server(), withoutTls()]) {
    await waitFor(async () => (await sessionsOf(one)).length === 0, { message: 'no session to be left' });
  }
});
afterAll(() => vi.unstubAllEnvs());

async function failureOf(options: PgOptions): Promise<PgConnectError> {
  const outcome = await createConnectionFactory(options)().catch((error: unknown) => error);
  if (!(outcome instanceof PgConnectError)) throw new Error('expected a failure to connect', { cause: outcome });
  expect(outcome.code).toBe('PG_CONNECT_FAILED');
  expect(outcome.message).not.toContain('\n');
  expect(outcome.message).toMatch(/^Could not connect as "\w+" to database "\w+"/);
  expect(outcome.cause).toBe(outcome.attempts.at(-1)?.error);
  for (const text of [inspect(outcome, { depth: 9 }), JSON.stringify(outcome)]) expect(text).not.toContain(PASSWORD);
  return outcome;
}

/** Connects to `server()` if nothing else is said. */
const real = (options: PgOptions = {}): PgOptions => ({
  host: server().host,
  port: server().port,
  user: 'app',
  password: PASSWORD,
  database: 'postgres',
  ssl: 'require',
  ...options,
});

describe('a failure names host, address, TLS, what went wrong, and its usual cause:', () => {
  it.each<[string, () => PgOptions | Promise<PgOptions>, RegExp, boolean]>([
    [
      'nobody listens',
      async () => ({ host: 'localhost', hostaddr: '127.0.0.1', port: await freePort(), ssl: false }),
      /: localhost:\d+ \(127\.0\.0\.1\), unencrypted, TCP connect: connect ECONNREFUSED .* is this its port/,
      false,
    ],
    [
      'there is no socket',
      () => ({ host: '/nonexistent', port: 5433 }),
      /: \/nonexistent:5433, unencrypted, TCP connect: connect ENOENT \/nonexistent\/\.s\.PGSQL\.5433\. There is no such socket/,
      false,
    ],
    [
      'nobody knows the name',
      () => ({ host: NOWHERE, ssl: true }),
      /: x+\.invalid:5432, TLS, name look-up: getaddrinfo \w+ .*\. Nobody knows this host name/,
      false,
    ],
    [
      'the password is wrong',
      () => real({ password: 'lilac-18' }),
      /: 127\.0\.0\.1:\d+, TLS, authentication: password authentication failed for user "app" \[SQLSTATE 28P01\]\. Check user and password \(the password is that of the options\): /,
      true,
    ],
    [
      'the user is locked out',
      () => real({ user: 'nobody' }),
      /authentication: pg_hba\.conf rejects connection .*\[SQLSTATE 28000\]\. The server's pg_hba\.conf has no line that lets this user in/,
      true,
    ],
    [
      'the user is let in with TLS only',
      () => real({ user: 'only_tls', ssl: false }),
      /, unencrypted, authentication: pg_hba\.conf rejects .* no encryption \[SQLSTATE 28000\].*set sslmode to require/,
      true,
    ],
    [
      'there is no such role',
      () => real({ user: 'stranger' }),
      /role "stranger" does not exist .*Create the role/,
      true,
    ],
    [
      'there is no such database',
      () => real({ database: 'none' }),
      /database "none" does not exist \[SQLSTATE 3D000\]\. Create the database/,
      true,
    ],
    [
      'the database is closed to the user',
      () => real({ database: 'closed' }),
      /\(User does not have CONNECT privilege\) \[SQLSTATE 42501\].*GRANT CONNECT/,
      true,
    ],
    ['all connections are taken', () => real({ user: 'busy' }), /\[SQLSTATE 53300\].*max_connections/, false],
    [
      'the server has no TLS',
      () => real({ port: withoutTls().port }),
      /, TLS, TLS: the server does not support TLS, and sslmode demands it\. Switch TLS on at the server/,
      false,
    ],
    [
      'the certificate is another',
      () => real({ host: 'localhost', hostaddr: '127.0.0.1', ssl: { ca: certificate.certPem } }),
      /: localhost:\d+ \(127\.0\.0\.1\), TLS, TLS: the server's certificate does not lead to a trusted root .*: name the root/,
      true,
    ],
    [
      'the certificate is for another name',
      () => real({ ssl: { ca: authority.certPem } }),
      /the certificate is valid, but it is not for this host .*: connect under one of the certificate's names/,
      true,
    ],
    [
      'the server is of the wrong kind',
      () => real({ target_session_attrs: 'standby' }),
      /, TLS, session check: the server is not a standby, but target_session_attrs=standby\. Name a server/,
      false,
    ],
    [
      'a root that is named is missing',
      () => real({ ssl: { ca: { file: '/nonexistent/root.crt' } } }),
      /, TLS, TLS: sslrootcert .*"\/nonexistent\/root\.crt" does not exist/,
      true,
    ],
    [
      'there is no password',
      () => ({ ...real(), password: undefined }),
      /, TLS, password: the server asks for a password and none is configured/,
      true,
    ],
    [
      'onConnect fails',
      () =>
        real({
          pool: {
            onConnect: async (client) => {
              await client.query('SET search_path_of_nobody = 1');
            },
          },
        }),
      /, TLS, onConnect: unrecognized configuration parameter "search_path_of_nobody" \[SQLSTATE 42704\]\.$/,
      false,
    ],
  ])('%s', async (_, options, message, permanent) => {
    const error = await failureOf(await options());
    expect(error.message).toMatch(message);
    expect(error.permanent).toBe(permanent);
    expect(error.attempts).toHaveLength(1);
  });
});

it('a failure of many attempts lists each, in one line, and each hint once', async () => {
  const dead = [await freePort(), await freePort()];
  await using starting = await startScriptedServer(async (connection) => {
    await connection.startupWithoutEncryption();
    connection.sendError('57P03', 'the database system is starting up');
    connection.end();
  });
  const { port } = server();

  const error = await failureOf(
    real({
      host: `127.0.0.1,127.0.0.1,${NOWHERE},127.0.0.1,localhost`,
      hostaddr: ',,,,127.0.0.1',
      port: [...dead, 1, starting.port, port].join(),
      password: 'lilac-18',
      ssl: 'prefer',
    }),
  );

  expect(error.attempts).toMatchObject([
    { host: '127.0.0.1', port: dead[0], address: '127.0.0.1', encryption: 'tls', phase: 'TCP connect' },
    { host: '127.0.0.1', port: dead[1], address: '127.0.0.1', encryption: 'tls', phase: 'TCP connect' },
    { host: NOWHERE, port: 1, address: undefined, encryption: 'tls', phase: 'name look-up' },
    { port: starting.port, encryption: 'plain', phase: 'authentication', error: { code: '57P03' } },
    {
      host: 'localhost',
      port,
      address: '127.0.0.1',
      encryption: 'tls',
      phase: 'authentication',
      error: { code: '28P01' },
    },
    {
      host: 'localhost',
      port,
      address: '127.0.0.1',
      encryption: 'plain',
      phase: 'authentication',
      error: { code: '28P01' },
    },
  ]);
  expect(error.permanent).toBe(true);
  const [head, list] = error.message.split('6 attempts: ');
  expect(head).toBe('Could not connect as "app" to database "postgres", ');
  expect(list).toMatch(
    new RegExp(
      String.raw`^\(1\) 127\.0\.0\.1:${dead[0]}, TLS, TCP connect: .*; \(2\) 127\.0\.0\.1:${dead[1]}, .*; ` +
        String.raw`\(3\) x+\.invalid:1, TLS, name look-up: .*; \(4\) 127\.0\.0\.1:${starting.port}, unencrypted, ` +
        String.raw`authentication: the database system is starting up \[SQLSTATE 57P03\]; ` +
        String.raw`\(5\) localhost:${port} \(127\.0\.0\.1\), TLS, .*; \(6\) localhost:${port} \(127\.0\.0\.1\), unencrypted, `,
    ),
  );
  for (const hint of [
    'Nothing listens there',
    'Nobody knows this host name',
    'in a moment',
    'Check user and password',
  ]) {
    expect(error.message.split(hint)).toHaveLength(2);
  }
});
