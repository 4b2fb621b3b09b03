import 'reflect-metadata';
import type { AddressInfo } from 'node:net';
import { Body, Controller, Get, Inject, Injectable, Post, type INestApplication } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import Cursor from 'pg-cursor';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { afterCommit, afterRollback, createPool, PG_POOL, PgModule, PgPool, Transactional } from 'nestjs-pg';
import { rollbackEachTest } from 'nestjs-pg/testing';
import { adminQuery, useServer } from '../../support/postgres.js';

const server = useServer();
const FAILURE = new Error('undo this');

@Injectable()
class Items {
  constructor(@Inject(PG_POOL) readonly pool: PgPool) {}

  async add(name: string): Promise<void> {
    await this.pool.query('INSERT INTO item (name) VALUES ($1)', [name]);
  }

  async names(): Promise<string[]> {
    return (await this.pool.query<{ name: string }>('SELECT name FROM item ORDER BY id')).rows.map(({ name }) => name);
  }

  @Transactional()
  async addAll(names: string[], failure?: Error): Promise<void> {
    for (const name of names) await this.add(name);
    if (failure) throw failure;
  }

  @Transactional({ propagation: 'RequiresNew' })
  async addApart(name: string): Promise<void> {
    await this.add(name);
  }

  @Transactional({ propagation: 'NotSupported' })
  async addOutside(name: string): Promise<boolean> {
    await this.add(name);
    return this.pool.currentTransaction === undefined;
  }

  @Transactional({ propagation: 'Mandatory' })
  async mandatory(): Promise<void> {}

  @Transactional({ propagation: 'Never' })
  async never(): Promise<void> {}
}

@Controller('items')
class ItemsController {
  constructor(readonly items: Items) {}

  @Post()
  async add(@Body() { names, fail }: { names: string[]; fail?: boolean }): Promise<void> {
    await this.items.addAll(names, fail ? FAILURE : undefined);
  }

  @Get()
  names(): Promise<string[]> {
    return this.items.names();
  }
}

let app: INestApplication;
let items: Items;
let pool: PgPool;
let url: string;
const warnings: string[] = [];

const { begin, rollback } = rollbackEachTest(() => app.get<PgPool>(PG_POOL), { patienceMillis: 2_000 });

/** What there is on the server, whatever the test's transaction says. */
const committed = async (): Promise<unknown[]> =>
  (await adminQuery(server(), 'SELECT name FROM item ORDER BY id')).map(({ name }) => name);

const pidOf = async (): Promise<number> =>
  (await pool.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]!.pid;

beforeAll(async () => {
  await adminQuery(server(), 'CREATE TABLE item (id serial PRIMARY KEY, name text NOT NULL UNIQUE)');
  await adminQuery(server(), `INSERT INTO item (name) VALUES ('before')`);
  const module = await Test.createTestingModule({
    imports: [PgModule.forRoot({ connectionString: server().connectionString })],
    controllers: [ItemsController],
    providers: [Items],
  }).compile();
  app = module.createNestApplication({ logger: false });
  await app.listen(0, '127.0.0.1');
  url = `http://127.0.0.1:${(app.getHttpServer().address() as AddressInfo).port}/items`;
  items = app.get(Items);
  pool = app.get(PG_POOL);
  pool.on('warning', (message) => warnings.push(message));
});

afterAll(async () => {
  await app?.close();
});

describe('rollbackEachTest', () => {
  beforeEach(begin);
  afterEach(async () => {
    await rollback();
    expect(await committed()).toEqual(['before']);
    expect(pool.stats()).toMatchObject({ leased: 0 });
    expect(warnings.splice(0)).toEqual([]);
  });

  it('has functions without parameters, as test runners want them', () => {
    expect([begin.length, rollback.length]).toEqual([0, 0]);
  });

  it('undoes what pool.query() does, which sees its own rows', async () => {
    await items.add('one');
    expect(await items.names()).toEqual(['before', 'one']);
  });

  it('begins each test with what was there before', async () => {
    expect(await items.names()).toEqual(['before']);
  });

  it('makes savepoints of transactions, so that they commit and roll back as ever', async () => {
    await items.addAll(['one', 'two']);
    await expect(items.addAll(['three'], FAILURE)).rejects.toBe(FAILURE);
    await pool.transaction(async (transaction) => {
      await transaction.query(`INSERT INTO item (name) VALUES ('four')`);
      await expect(transaction.transaction(() => items.addAll(['five'], FAILURE))).rejects.toBe(FAILURE);
    });
    expect(await items.names()).toEqual(['before', 'one', 'two', 'four']);
  });

  it('survives a statement that fails, as a connection outside of a transaction does', async () => {
    await items.add('one');
    await expect(items.add('one')).rejects.toMatchObject({ code: '23505' });
    await expect(items.addAll(['two', 'one'])).rejects.toMatchObject({ code: '23505' });
    expect(await items.names()).toEqual(['before', 'one']);
  });

  it('has everything on one connection', async () => {
    const pids = await Promise.all([pidOf(), pool.transaction(() => pidOf()), pool.outside(() => pidOf()), pidOf()]);
    expect(new Set(pids).size).toBe(1);
  });

  it('has requests over HTTP in it, many at once', async () => {
    const post = (body: unknown): Promise<Response> =>
      fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
    const all = Array.from({ length: 20 }, (_, index) =>
      post({ names: [`${index}a`, `${index}b`], fail: index % 2 === 1 }),
    );
    expect((await Promise.all(all)).filter(({ status }) => status === 201)).toHaveLength(10);
    const names = (await (await fetch(url)).json()) as string[];
    expect(names).toHaveLength(21);
    expect(names).toEqual(await items.names());
  });

  it('has statements and transactions that are started together take turns', async () => {
    await Promise.all([
      items.addAll(['a1', 'a2']),
      items.add('b'),
      items.addAll(['c1', 'c2'], FAILURE).catch(() => undefined),
      items.addAll(['d1', 'd2']),
    ]);
    expect(await items.names()).toEqual(['before', 'a1', 'a2', 'b', 'd1', 'd2']);
  });

  it('has no current transaction where the application has none, so that propagation is as ever', async () => {
    expect(pool.currentTransaction).toBeUndefined();
    await expect(items.mandatory()).rejects.toMatchObject({ code: 'PG_TRANSACTION_REQUIRED' });
    await items.never();
    await pool.transaction(async () => {
      await items.mandatory();
      await expect(items.never()).rejects.toMatchObject({ code: 'PG_TRANSACTION_FORBIDDEN' });
    });
  });

  it('makes savepoints of what is outside of a transaction, inside of that one', async () => {
    await pool.transaction(async () => {
      await items.add('one');
      await items.addApart('two');
      expect(await items.addOutside('three')).toBe(true);
      await pool.transaction(() => items.addApart('four'));
      await expect(pool.outside(() => items.addAll(['five'], FAILURE))).rejects.toBe(FAILURE);
      expect(await items.names()).toEqual(['before', 'one', 'two', 'three', 'four']);
    });
    expect(await items.names()).toEqual(['before', 'one', 'two', 'three', 'four']);
  });

  it('runs hooks when the transaction of the application ends', async () => {
    const told: string[] = [];
    await pool.transaction(async () => {
      afterCommit(() => void told.push('committed'));
      afterRollback(() => void told.push('wrong'));
      await pool.outside(() => pool.transaction(async () => afterCommit(() => void told.push('inner'))));
      expect(told).toEqual(['inner']);
    });
    expect(told).toEqual(['inner', 'committed']);
    await pool
      .transaction(async () => {
        afterCommit(() => void told.push('wrong'));
        afterRollback(() => void told.push('rolled back'));
        throw FAILURE;
      })
      .catch(() => undefined);
    expect(told).toEqual(['inner', 'committed', 'rolled back']);
    await pool.transaction(async () => {
      afterCommit(() => {
        throw new Error('in the hook');
      });
    });
    expect(warnings.splice(0)).toEqual([expect.stringContaining('in the hook')]);
  });

  it('takes options: settings and role end with the transaction, isolation is the one of the test', async () => {
    const show = async (): Promise<unknown> =>
      (
        await pool.query(
          `SELECT current_setting('app.tenant', true) AS tenant, current_setting('statement_timeout') AS timeout,
                  current_user::text AS role`,
        )
      ).rows[0];
    const without = { tenant: null, timeout: '0', role: 'postgres' };
    expect(await show()).toEqual(without);
    const options = {
      isolation: 'serializable',
      settings: { 'app.tenant': 'blue', statement_timeout: '9s' },
      role: 'pg_monitor',
    } as const;
    await pool.transaction(async () => {
      expect(await show()).toEqual({ tenant: 'blue', timeout: '9s', role: 'pg_monitor' });
      // As in the application: what the outer one has, the inner one may ask for.
      await pool.transaction(async () => undefined, { settings: { 'app.tenant': 'blue' }, isolation: 'serializable' });
      await expect(
        pool.transaction(async () => undefined, { settings: { 'app.tenant': 'red' } }),
      ).rejects.toMatchObject({
        code: 'PG_CONFIG_INVALID',
      });
    }, options);
    expect(await show()).toEqual({ ...without, tenant: '' });
    await expect(pool.transaction(() => Promise.reject(FAILURE), options)).rejects.toBe(FAILURE);
    expect(await show()).toEqual({ ...without, tenant: '' });
  });

  it('tries again as in the application', async () => {
    const attempts: number[] = [];
    await pool.transaction(
      async ({ attempt }) => {
        attempts.push(attempt);
        await items.add(`run ${attempt}`);
        if (attempt < 3) await pool.query(`DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$`);
      },
      { retry: { baseMillis: 1 } },
    );
    expect(attempts).toEqual([1, 2, 3]);
    expect(await items.names()).toEqual(['before', 'run 3']);
  });

  it('takes batches', async () => {
    const add = (name: string): { text: string; values: string[] } => ({
      text: 'INSERT INTO item (name) VALUES ($1)',
      values: [name],
    });
    expect(await pool.batch([add('one'), add('two')])).toHaveLength(2);
    await expect(pool.batch([add('three'), add('one')])).rejects.toMatchObject({ code: 'PG_BATCH_FAILED', index: 1 });
    expect(await items.names()).toEqual(['before', 'one', 'two']);
  });

  it('takes cursors and streams of rows, with statements between the rows of these', async () => {
    const cursor = pool.query(new Cursor<{ n: number }>('SELECT n FROM generate_series(1, 3) AS n'));
    expect(await cursor.read(2)).toEqual([{ n: 1 }, { n: 2 }]);
    await cursor.close();
    for await (const { n } of pool.stream<{ n: number }>('SELECT n FROM generate_series(1, 3) AS n')) {
      await items.add(`${n}`);
    }
    await expect(
      (async () => {
        for await (const _ of pool.stream('SELECT 1 / 0')) expect.unreachable();
      })(),
    ).rejects.toMatchObject({ code: '22012' });
    expect(await items.names()).toEqual(['before', '1', '2', '3']);
  });

  it('tells callbacks', async () => {
    const told = await new Promise((resolve) => {
      pool.query('SELECT 1 AS one', (error, result) => resolve([error, result.rows]));
    });
    expect(told).toEqual([null, [{ one: 1 }]]);
    const failed = await new Promise<Error>((resolve) => pool.query('SELECT 1 / 0', (error) => resolve(error)));
    expect(failed).toMatchObject({ code: '22012' });
  });

  it('refuses connect(), whose connection would see nothing of the test, and BEGIN', async () => {
    await expect(pool.connect()).rejects.toMatchObject({ code: 'PG_TRANSACTION_FORBIDDEN' });
    const told = await new Promise<Error | undefined>((resolve) => pool.connect((error) => resolve(error)));
    expect(told).toMatchObject({ code: 'PG_TRANSACTION_FORBIDDEN' });
    await expect(pool.query('BEGIN')).rejects.toMatchObject({ code: 'PG_TRANSACTION_BUSY' });
  });

  it('a turn that does not come is an error that says who has it', async () => {
    const other = vi.fn();
    await pool.transaction(async () => {
      await items.add('one');
      // A context of its own, as an HTTP request to the same application has: it cannot know of this transaction.
      const error = await fetch(url).then((response) => response.status, other);
      expect(error).toBe(500);
    });
    expect(await items.names()).toEqual(['before', 'one']);
  });

  it('what still runs when the test ends is refused', async () => {
    const late = pool.query('SELECT pg_sleep(60)').catch((error: unknown) => error);
    const waiting = items.add('late').catch((error: unknown) => error);
    pool.query('SELECT 1', () => undefined);
    await rollback();
    expect(await late).toMatchObject({ code: expect.stringMatching(/57014|PG_TRANSACTION_ENDED/) as string });
    expect(await waiting).toMatchObject({ code: 'PG_TRANSACTION_ENDED' });
  });
});

describe('between tests', () => {
  it('the pool is as ever', async () => {
    await items.add('stays');
    expect(await committed()).toEqual(['before', 'stays']);
    await adminQuery(server(), `DELETE FROM item WHERE name = 'stays'`);
    expect(await pool.withConnection(async (client) => (await client.query('SELECT 1 AS one')).rows)).toEqual([
      { one: 1 },
    ]);
  });

  it('rollback() without begin() does nothing, and begin() twice is a mistake', async () => {
    await using own = createPool({ connectionString: server().connectionString });
    const each = rollbackEachTest(own);
    await each.rollback();
    await each.begin();
    await expect(each.begin()).rejects.toMatchObject({ code: 'PG_CONFIG_INVALID' });
    await each.rollback();
  });

  it('takes a pool of one connection, and gives connections away if it is told to', async () => {
    const { connectionString } = server();
    await using small = createPool({ connectionString, pool: { max: 1 } });
    const each = rollbackEachTest(small);
    await each.begin();
    expect((await small.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await each.rollback();

    await using larger = createPool({ connectionString, pool: { max: 2 } });
    const other = rollbackEachTest(larger, { allowConnect: true });
    await other.begin();
    const [{ pid }] = (await larger.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows as [{ pid: number }];
    await using client = await larger.connect();
    expect((await client.query('SELECT pg_backend_pid() AS pid')).rows).not.toEqual([{ pid }]);
    await other.rollback();
  });

  it('tells why a test cannot begin', async () => {
    await using none = createPool({ host: '127.0.0.1', port: 1, pool: { acquireTimeoutMillis: 500 } });
    const each = rollbackEachTest(none);
    await expect(each.begin()).rejects.toMatchObject({ code: expect.stringMatching(/^PG_/) as string });
    await each.rollback();
    await expect(rollbackEachTest({} as PgPool).begin()).rejects.toMatchObject({ code: 'PG_CONFIG_INVALID' });
    expect(() => rollbackEachTest(pool, { patience: 1 } as object)).toThrow(/patience/);
  });
});
