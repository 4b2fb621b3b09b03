import { inspect } from 'node:util';
import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { createPool, type PgOptions, type PgPool } from 'nestjs-pg';
import { ADMIN_HBA, sessionsOf, useServer, waitFor } from '../../support/postgres.js';
import { createAuthority } from '../../support/certificates.js';

const authority = await createAuthority('Servers');
const certificate = await authority.issue({ dns: ['localhost'] });
const server = useServer({
  ssl: { cert: certificate.certPem, key: certificate.keyPem },
  hba: [ADMIN_HBA, 'hostssl all all all scram-sha-256', 'host all all all reject'],
});

/** Over TLS, with the server's name checked: what a connection made from these options must not fall below. */
function openPool(options: PgOptions = {}): PgPool {
  const { port, user, password, database } = server();
  return createPool({
    ...{ host: 'localhost', hostaddr: '127.0.0.1', port, user, password, database, application_name: 'mine' },
    ssl: { mode: 'verify-full', ca: authority.certPem },
    ...options,
  });
}

type Options = pg.PoolConfig & { password: unknown };
interface WithClient {
  Client: new (options: unknown) => pg.Client;
}

describe('options', () => {
  it("carry pg's names for the settings and the limits", async () => {
    await using pool = openPool({ pool: { min: 1, max: 3, acquireTimeoutMillis: 7 }, statement_timeout: 9_000 });
    expect(pool.options).toMatchObject({
      ...{ host: '127.0.0.1', port: server().port, user: 'postgres', database: 'postgres', application_name: 'mine' },
      ...{ min: 1, max: 3, maxUses: Infinity, idleTimeoutMillis: 300_000, connectionTimeoutMillis: 7 },
      ...{ allowExitOnIdle: true, maxLifetimeSeconds: 3_600, keepAlive: true },
    });
  });

  it('let stock pg connect with the same TLS, and with no less', async () => {
    await using pool = openPool();
    const options = pool.options as Options;
    const connect = async (changes: object): Promise<pg.Client> => {
      // The password is not copied along, as in stock pg.
      const client = new pg.Client({ ...options, password: options.password, ...changes });
      await client.connect();
      return client;
    };
    const client = await connect({});
    expect((await sessionsOf(server(), 'mine')).map(({ ssl }) => ssl)).toEqual([true]);
    await client.end();
    const { ssl } = openPool({ ssl: { mode: 'verify-full', ca: (await createAuthority('Others')).certPem } })
      .options as Options;
    await expect(connect({ ssl })).rejects.toThrow(/certificate/);
  });

  it('show no password, whoever prints or copies them', async () => {
    await using pool = openPool({ password: 'very-secret' });
    const texts = [inspect(pool.options, { showHidden: true, depth: 5 }), JSON.stringify({ ...pool.options })];
    for (const text of texts) expect(text).not.toContain('very-secret');
    expect({ ...pool.options }).not.toHaveProperty('password');
  });
});

describe('Client', () => {
  it('connects as the pool does, whatever it is given, outside of the pool', async () => {
    await using pool = openPool();
    const { Client } = pool as unknown as WithClient;
    const client = new Client({ ...pool.options, host: 'elsewhere', ssl: false });
    await client.connect();
    expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect((await sessionsOf(server(), 'mine')).map(({ ssl }) => ssl)).toEqual([true]);
    expect(pool.totalCount).toBe(0);
    await client.end();
    await waitFor(async () => (await sessionsOf(server(), 'mine')).length === 0, { message: 'the session to end' });
  });

  it('takes callbacks, tells of a failure, and can be ended whatever became of it', async () => {
    await using pool = openPool({ password: 'wrong' });
    const { Client } = pool as unknown as WithClient;
    const client = new Client(pool.options);
    expect(() => client.query('SELECT 1')).toThrow('connect() this client');
    const error = await new Promise((resolve) => client.connect(resolve));
    expect(error).toMatchObject({ code: 'PG_CONNECT_FAILED' });
    await client.end();
    await new Promise<void>((resolve) => client.end(() => resolve()));
  });
});
