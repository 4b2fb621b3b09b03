import 'reflect-metadata';
import { Test } from '@nestjs/testing';
import pg from 'pg';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { PG_POOL, PgModule, type PgPool } from 'nestjs-pg';
import { createTestDatabase, startPostgres } from 'nestjs-pg/testing';
import { adminQuery, useServer } from '../../support/postgres.js';

const server = useServer();

/** The databases that tests have left. */
const databases = async (): Promise<unknown[]> =>
  (await adminQuery(server(), `SELECT datname FROM pg_database WHERE datname LIKE 'test%' OR datname LIKE 'app%'`)).map(
    ({ datname }) => datname,
  );

async function run(connectionString: string, text: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end();
  }
}

const migrate = vi.fn(async (connectionString: string) => {
  await run(connectionString, `CREATE TABLE item (name text); INSERT INTO item VALUES ('seed')`);
});

beforeEach(() => {
  migrate.mockClear();
});

describe('createTestDatabase', () => {
  it('creates an empty database with a name of its own, and drops it with whoever is connected', async () => {
    const { connectionString } = server();
    const [one, two] = await Promise.all([
      createTestDatabase({ connectionString }),
      createTestDatabase({ connectionString }),
    ]);
    expect(one.name).not.toBe(two.name);
    expect((await databases()).sort()).toEqual([one.name, two.name].sort());
    expect(await run(one.connectionString, 'SELECT current_database() AS name')).toEqual([{ name: one.name }]);
    const client = new pg.Client({ connectionString: one.connectionString });
    const ended = new Promise((resolve) => client.on('error', resolve));
    await client.connect();
    await Promise.all([one.drop(), one.drop(), two.drop()]);
    await ended;
    expect(await databases()).toEqual([]);
  });

  it('is the database of a Nest application, which goes with `await using`', async () => {
    {
      await using database = await createTestDatabase({ connectionString: server().connectionString, migrate });
      const module = await Test.createTestingModule({
        imports: [PgModule.forRoot({ connectionString: database.connectionString })],
      }).compile();
      await module.init();
      const { rows } = await module.get<PgPool>(PG_POOL).query('SELECT name, current_database() AS database FROM item');
      expect(rows).toEqual([{ name: 'seed', database: database.name }]);
      await module.close();
    }
    expect(await databases()).toEqual([]);
  });

  it('makes a template once for all that ask at the same time, and copies it', async () => {
    const options = { connectionString: server().connectionString, template: 'app_v1', migrate };
    const all = await Promise.all(Array.from({ length: 4 }, () => createTestDatabase(options)));
    expect(migrate).toHaveBeenCalledOnce();
    for (const { connectionString } of all) {
      expect(await run(connectionString, 'SELECT name FROM item')).toEqual([{ name: 'seed' }]);
    }
    await run(all[0]!.connectionString, `INSERT INTO item VALUES ('own')`);
    expect(await run(all[1]!.connectionString, 'SELECT name FROM item')).toEqual([{ name: 'seed' }]);
    await Promise.all(all.map((one) => one.drop()));
    expect(await databases()).toEqual(['app_v1']);

    await using later = await createTestDatabase({ ...options, migrate: undefined });
    expect(await run(later.connectionString, 'SELECT name FROM item')).toEqual([{ name: 'seed' }]);
    await adminQuery(server(), 'DROP DATABASE app_v1');
  });

  it.each([
    ['of its own', {}],
    ['a template', { template: 'app_v2' }],
  ])('leaves no database behind when migrate() fails: %s', async (_, options) => {
    const failure = new Error('no such migration');
    const failing = createTestDatabase({
      connectionString: server().connectionString,
      ...options,
      migrate: () => Promise.reject(failure),
    });
    await expect(failing).rejects.toBe(failure);
    expect(await databases()).toEqual([]);
  });

  it('says who keeps a template from being copied', async () => {
    const options = { connectionString: server().connectionString, template: 'app_v3' };
    const open: pg.Client[] = [];
    const leaky = async (connectionString: string): Promise<void> => {
      const client = new pg.Client({ connectionString });
      client.on('error', () => undefined);
      open.push(client);
      await client.connect();
    };
    await expect(createTestDatabase({ ...options, migrate: leaky })).rejects.toThrow(
      /migrate\(\) has left connections to the template "app_v3" open/,
    );
    expect(await databases()).toEqual([]);
    await Promise.all(open.map((client) => client.end()));
  });

  it('starts a server where none is given, and ends it with the database', async () => {
    const database = await createTestDatabase({ migrate });
    expect(await run(database.connectionString, 'SELECT name FROM item')).toEqual([{ name: 'seed' }]);
    await database.drop();
    await expect(run(database.connectionString, 'SELECT 1')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    expect(await databases()).toEqual([]);
  });

  it.each([
    ['parameters', (uri: string) => `${uri}?application_name=a&dbname=postgres&connect_timeout=9`],
    ['no database', (uri: string) => uri.replace(/\/postgres$/, '')],
    [
      'keywords and values',
      () => `host=127.0.0.1 port=${server().port} user=postgres password=postgres dbname=postgres`,
    ],
  ])('takes a connection string with %s', async (_, stringOf) => {
    await using database = await createTestDatabase({ connectionString: stringOf(server().connectionString) });
    const module = await Test.createTestingModule({
      imports: [PgModule.forRoot({ connectionString: database.connectionString })],
    }).compile();
    await module.init();
    const { rows } = await module.get<PgPool>(PG_POOL).query('SELECT current_database() AS name');
    expect(rows).toEqual([{ name: database.name }]);
    await module.close();
  });

  it('refuses what it cannot do', async () => {
    const code = 'PG_CONFIG_INVALID';
    const { connectionString } = server();
    await expect(createTestDatabase({ connectionString, template: 'app_none' })).rejects.toMatchObject({ code });
    await expect(createTestDatabase({ connectionString: '' })).rejects.toMatchObject({ code });
    await expect(createTestDatabase({ connectionString, template: 'x'.repeat(64) })).rejects.toMatchObject({ code });
    await expect(createTestDatabase({ migrations: [] } as object)).rejects.toMatchObject({ code });
    await using other = await startPostgres();
    await other.stop();
    await expect(createTestDatabase({ connectionString: other.connectionString })).rejects.toMatchObject({
      code: expect.stringMatching(/^PG_/) as string,
    });
  });
});
