import { createHmac, pbkdf2Sync } from 'node:crypto';
import pg from 'pg';
import { createConnectionFactory, createPool, type PgOptions } from 'nestjs-pg';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { ScramKeys, type ScramKeySet } from '../../../lib/client/scram-keys.js';
import type { Secret } from '../../../lib/errors/secret.js';
import { createAuthority } from '../../support/certificates.js';
import { ADMIN_HBA, adminQuery, useServer } from '../../support/postgres.js';
import { startScriptedServer } from '../../support/scripted-server.js';

const PASSWORD = 'wisteria-17';

const certificate = await (await createAuthority('Root')).issue({ dns: ['localhost'] });
const server = useServer({
  ssl: { cert: certificate.certPem, key: certificate.keyPem },
  hba: [ADMIN_HBA, 'host all all all scram-sha-256'],
});

const { prototype: stock } = pg.Client as unknown as {
  prototype: { _handleAuthSASLContinue(message: object): Promise<void> };
};
const stockWay = vi.spyOn(stock, '_handleAuthSASLContinue');
const asked = vi.spyOn(ScramKeys.prototype, 'of');

beforeAll(async () => {
  await adminQuery(
    server(),
    `CREATE ROLE one LOGIN PASSWORD '${PASSWORD}'; CREATE ROLE two LOGIN PASSWORD '${PASSWORD}'`,
  );
});
beforeEach(() => {
  vi.clearAllMocks();
});
afterEach(() => expect(stockWay).not.toHaveBeenCalled());

const options = (user: string, password: PgOptions['password'], more: PgOptions = {}): PgOptions => {
  const { host, port } = server();
  return { host, port, user, password, database: 'postgres', ssl: false, ...more };
};
const TLS: PgOptions = { ssl: 'require', channel_binding: 'require' };

/** The keys that the connections have used, the same object for those that were derived once. */
async function keysUsed(): Promise<Secret<ScramKeySet>[]> {
  return Promise.all(asked.mock.results.map(({ value }) => value as Promise<Secret<ScramKeySet>>));
}

async function whoAmI(connect: ReturnType<typeof createConnectionFactory>): Promise<unknown> {
  await using client = await connect();
  return (await client.query('SELECT current_user AS name')).rows[0];
}

const refusedBy = async (connect: ReturnType<typeof createConnectionFactory>): Promise<unknown> =>
  connect().then(
    () => 'let in',
    (error: { attempts: { error: unknown }[] }) => error.attempts[0]?.error,
  );

describe.each<[string, PgOptions]>([
  ['without TLS', {}],
  ['with TLS and channel binding', TLS],
])('%s', (_, more) => {
  it('the connections of a pool derive their keys once, also those that are opened together', async () => {
    await using pool = createPool(options('one', PASSWORD, { ...more, pool: { max: 5 } }));
    const clients = await Promise.all(Array.from({ length: 5 }, () => pool.connect()));
    clients[0]?.release(true);
    clients.splice(0, 1);
    clients.push(await pool.connect());
    for (const client of clients) {
      expect((await client.query('SELECT current_user AS name')).rows).toEqual([{ name: 'one' }]);
      client.release();
    }
    expect(asked).toHaveBeenCalledTimes(6);
    expect(new Set(await keysUsed()).size).toBe(1);
  });

  it('a wrong password is refused, and its keys are forgotten', async () => {
    const connect = createConnectionFactory(options('one', 'wrong', more));
    for (let count = 0; count < 2; count++) {
      expect(await refusedBy(connect)).toMatchObject({ code: '28P01' });
    }
    expect(new Set(await keysUsed()).size).toBe(2);
  });

  it('a password that has changed on the server is refused, and the new one lets us in', async () => {
    await adminQuery(server(), `DROP ROLE IF EXISTS changing; CREATE ROLE changing LOGIN PASSWORD 'before'`);
    let password = 'before';
    const connect = createConnectionFactory(options('changing', () => password, more));
    for (let count = 0; count < 2; count++) expect(await whoAmI(connect)).toEqual({ name: 'changing' });
    await adminQuery(server(), `ALTER ROLE changing PASSWORD 'after'`);
    expect(await refusedBy(connect)).toMatchObject({ code: '28P01' });
    password = 'after';
    for (let count = 0; count < 2; count++) expect(await whoAmI(connect)).toEqual({ name: 'changing' });
  });

  it('the same password with another salt, and then another count, lets us in', async () => {
    await adminQuery(server(), `DROP ROLE IF EXISTS changing; CREATE ROLE changing LOGIN PASSWORD 'same'`);
    const connect = createConnectionFactory(options('changing', 'same', more));
    for (let count = 0; count < 2; count++) expect(await whoAmI(connect)).toEqual({ name: 'changing' });
    await adminQuery(server(), `ALTER ROLE changing PASSWORD 'same'`);
    for (let count = 0; count < 2; count++) expect(await whoAmI(connect)).toEqual({ name: 'changing' });
    await adminQuery(server(), `SET scram_iterations = 5000; ALTER ROLE changing PASSWORD 'same'`);
    for (let count = 0; count < 2; count++) expect(await whoAmI(connect)).toEqual({ name: 'changing' });
    expect(new Set(await keysUsed()).size).toBe(3);
    expect(asked.mock.calls.map(([, { iterations }]) => iterations)).toEqual([4096, 4096, 4096, 4096, 5000, 5000]);
  });
});

it('two roles with one password have salts of their own, and a factory has keys of its own', async () => {
  const [one, two] = [
    createConnectionFactory(options('one', PASSWORD)),
    createConnectionFactory(options('two', PASSWORD)),
  ];
  for (const connect of [one, two, one, two]) await whoAmI(connect);
  const [first, second, ...again] = await keysUsed();
  expect(again).toEqual([first, second]);
  expect(second?.reveal()).not.toEqual(first?.reveal());
  expect(new Set(asked.mock.calls.map(([, { salt }]) => salt)).size).toBe(2);
});

it.each([
  ['a soft hyphen', 'I\u00adX', 'IX'],
  ['a Roman numeral', '\u2168', 'IX'],
  ['a space that is not ASCII', 'a\u00a0b', 'a b'],
  ['an accent of its own', 'e\u0301te\u0301', '\u00e9t\u00e9'],
])('a password with %s is the same as without it', async (_, written, normal) => {
  await adminQuery(server(), `DROP ROLE IF EXISTS changing; CREATE ROLE changing LOGIN PASSWORD '${written}'`);
  for (const password of [written, normal]) {
    const connect = createConnectionFactory(options('changing', password));
    for (let count = 0; count < 2; count++) expect(await whoAmI(connect)).toEqual({ name: 'changing' });
  }
});

it('a server that does not know the password is not believed, whether the keys are new or not', async () => {
  const salt = Buffer.from('salt');
  const salted = pbkdf2Sync(PASSWORD, salt, 4096, 32, 'sha256');
  let knows = false;
  await using impostor = await startScriptedServer(async (connection) => {
    await connection.startupWithoutEncryption();
    const int32 = (value: number): Buffer => Buffer.from([0, 0, 0, value]);
    connection.sendMessage('R', Buffer.concat([int32(10), Buffer.from('SCRAM-SHA-256\0\0')]));
    const { body } = await connection.message();
    const clientFirst = body.toString('latin1', 'SCRAM-SHA-256\0'.length + 4).replace('n,,', '');
    const nonce = `${clientFirst.replace(/.*r=/, '')}more`;
    const serverFirst = `r=${nonce},s=${salt.toString('base64')},i=4096`;
    connection.sendMessage('R', Buffer.concat([int32(11), Buffer.from(serverFirst)]));
    const clientFinal = (await connection.message()).body.toString('latin1').replace(/,p=.*/, '');
    const serverKey = createHmac('sha256', knows ? salted : 'not')
      .update('Server Key')
      .digest();
    const signature = createHmac('sha256', serverKey).update(`${clientFirst},${serverFirst},${clientFinal}`);
    connection.sendMessage('R', Buffer.concat([int32(12), Buffer.from(`v=${signature.digest('base64')}`)]));
    connection.sendReady();
    await connection.message();
  });
  const connect = createConnectionFactory(options('one', PASSWORD, { host: impostor.host, port: impostor.port }));
  const objection = { message: 'SASL: SCRAM-SERVER-FINAL-MESSAGE: server signature does not match' };
  expect(await refusedBy(connect)).toMatchObject(objection);
  knows = true;
  await (await connect()).close();
  await (await connect()).close();
  knows = false;
  expect(await refusedBy(connect)).toMatchObject(objection);
  const [first, second, third, fourth] = await keysUsed();
  expect(second).not.toBe(first);
  expect([third, fourth]).toEqual([second, second]);
  expect(impostor.errors).toEqual([]);
});
