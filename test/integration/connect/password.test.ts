import { createConnectionFactory, createPool, type PgConnectError, type PgOptions } from 'nestjs-pg';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { createAuthority } from '../../support/certificates.js';
import { ADMIN_HBA, adminQuery, sessionsOf, useServer, waitFor } from '../../support/postgres.js';

const PASSWORD = 'wisteria-17';

const certificate = await (await createAuthority('Root')).issue({ dns: ['localhost'] });
const server = useServer({
  ssl: { cert: certificate.certPem, key: certificate.keyPem },
  hba: [
    ADMIN_HBA,
    'host all by_trust all trust',
    'host all by_password all password',
    'host all by_md5 all md5',
    'host all all all scram-sha-256',
  ],
});

beforeAll(async () => {
  await adminQuery(server(), `SET password_encryption = 'md5'; CREATE ROLE by_md5 LOGIN PASSWORD '${PASSWORD}'`);
  for (const name of ['by_password', 'by_scram', 'token']) {
    await adminQuery(server(), `CREATE ROLE ${name} LOGIN PASSWORD '${PASSWORD}'`);
  }
  await adminQuery(server(), 'CREATE ROLE by_trust LOGIN');
});
afterEach(async () => {
  await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'no session' });
});

const options = (user: string, password: PgOptions['password'], more: PgOptions = {}): PgOptions => ({
  host: server().host,
  port: server().port,
  user,
  password,
  database: 'postgres',
  ssl: 'prefer',
  ...more,
});

async function failureOf(wanted: PgOptions): Promise<PgConnectError> {
  return (await createConnectionFactory(wanted)().catch((error: unknown) => error)) as PgConnectError;
}

describe('a password function', () => {
  it.each([
    ['by_scram', 1],
    ['by_md5', 1],
    ['by_password', 1],
    ['by_trust', 0],
  ])('is asked for each connection that needs it: %s %i times', async (user, times) => {
    const password = vi.fn(() => Promise.resolve(PASSWORD));
    const connect = createConnectionFactory(options(user, password));
    for (const connection of [1, 2, 3]) {
      await using client = await connect();
      expect((await client.query('SELECT current_user AS user')).rows).toEqual([{ user }]);
      expect(password).toHaveBeenCalledTimes(connection * times);
    }
  });

  it('may give another one each time: short-lived tokens', async () => {
    let token = '';
    const password = vi.fn(() => token);
    await using pool = createPool(options('token', password, { pool: { max: 1, maxUses: 1 } }));
    for (const connection of [1, 2, 3]) {
      token = `token-${connection}`;
      await adminQuery(server(), `ALTER ROLE token PASSWORD '${token}'`);
      expect((await pool.query('SELECT current_user AS user')).rows).toEqual([{ user: 'token' }]);
      expect(password).toHaveBeenCalledTimes(connection);
    }
  });

  it.each<[string, () => unknown, string]>([
    ['rejects', () => Promise.reject(new Error('the vault is sealed')), 'password: the vault is sealed'],
    [
      'throws',
      () => {
        throw new Error('the vault is sealed');
      },
      'password: the vault is sealed',
    ],
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- that is the point
    ['rejects with nothing', () => Promise.reject(), 'password: undefined'],
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- that is the point
    ['rejects with a text', () => Promise.reject('sealed'), 'password: sealed'],
  ])('that %s is a failure that names it, and may heal', async (_, password, message) => {
    const error = await failureOf(options('by_scram', password as () => string));
    expect(error).toMatchObject({ code: 'PG_CONNECT_FAILED', permanent: false });
    expect(error.message).toContain(`TLS, ${message}.`);
    // Without TLS the function would be asked again, and for the same.
    expect(error.attempts).toMatchObject([{ phase: 'password', encryption: 'tls' }]);
  });

  it.each([
    ['nothing', undefined],
    ['null', null],
    ['an empty text', ''],
    ['a number', 17],
    ['an object', { password: PASSWORD }],
  ])('that gives %s is a failure that says so', async (_, value) => {
    const error = await failureOf(options('by_scram', () => value as unknown as string));
    expect(error).toMatchObject({ code: 'PG_CONNECT_FAILED', permanent: true });
    expect(error.message).toContain(
      'password: the server asks for a password and the configured one is empty or not a string',
    );
    expect(error.message).not.toContain(PASSWORD);
  });

  it('that hangs ends with the deadline of the attempt', async () => {
    const password = vi.fn(() => new Promise<string>(() => undefined));
    const error = await failureOf(options('by_scram', password, { pool: { connectTimeoutMillis: 500 } }));
    expect(password).toHaveBeenCalledOnce();
    expect(error.attempts).toMatchObject([{ phase: 'password', error: { code: 'PG_CONNECT_TIMEOUT' } }]);
    expect(error.message).toContain('The function given as password did not answer');
  });

  it('that fails for a while is asked again by the pool', async () => {
    const password = vi.fn(() => Promise.resolve(PASSWORD));
    for (const _ of [1, 2]) password.mockRejectedValueOnce(new Error('the vault is sealed'));
    await using pool = createPool(options('by_scram', password));

    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(password).toHaveBeenCalledTimes(3);
  });

  it('keeps its answers out of the connection', async () => {
    const { inspect } = await import('node:util');
    await using client = await createConnectionFactory(options('by_scram', () => PASSWORD))();
    expect(inspect(client, { depth: 12 })).not.toContain(PASSWORD);
    expect(JSON.stringify([client.host, client.user, client.security])).not.toContain(PASSWORD);
  });
});
