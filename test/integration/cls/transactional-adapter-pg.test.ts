import 'reflect-metadata';
import {
  ClsPluginTransactional,
  InjectTransaction,
  Propagation,
  Transactional,
  TransactionHost,
  type Transaction,
} from '@nestjs-cls/transactional';
import { Inject, Injectable } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import { ClsModule } from 'nestjs-cls';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { getPoolToken, PG_POOL, PgModule, PgPool } from 'nestjs-pg';
import { TransactionalAdapterPg } from 'nestjs-pg/cls';
import { adminQuery, useServer } from '../../support/postgres.js';

// What the tests of the other adapters of @nestjs-cls/transactional show of theirs, and what is different here.

const server = useServer();
const FAILURE = new Error('rolled back');

interface Row {
  readonly id: number;
  readonly name: string;
}

interface Seen {
  readonly pid: number;
  readonly isolation: string;
}

const SEEN = `SELECT pg_backend_pid() AS pid, current_setting('transaction_isolation') AS isolation`;

@Injectable()
class People {
  constructor(@InjectTransaction() private readonly tx: Transaction<TransactionalAdapterPg>) {}

  async add(name: string): Promise<Row> {
    const { rows } = await this.tx.query<Row>('INSERT INTO person (name) VALUES ($1) RETURNING *', [name]);
    return rows[0]!;
  }

  async find(id: number): Promise<Row | undefined> {
    return (await this.tx.query<Row>('SELECT * FROM person WHERE id = $1', [id])).rows[0];
  }

  async seen(): Promise<Seen> {
    return (await this.tx.query<Seen>(SEEN)).rows[0]!;
  }
}

@Injectable()
class Service {
  constructor(
    readonly people: People,
    readonly host: TransactionHost<TransactionalAdapterPg>,
    @Inject(PG_POOL) readonly pool: PgPool,
  ) {}

  @Transactional()
  async add(name: string, failure?: Error): Promise<[Row, Row | undefined]> {
    const row = await this.people.add(name);
    if (failure) throw failure;
    return [row, await this.people.find(row.id)];
  }

  @Transactional<TransactionalAdapterPg>({ isolation: 'serializable' })
  async serializable(): Promise<Seen> {
    return this.people.seen();
  }

  @Transactional()
  async around<T>(work: () => Promise<T>): Promise<T> {
    return work();
  }

  @Transactional(Propagation.Nested)
  async nested(name: string, failure?: Error): Promise<void> {
    await this.people.add(name);
    if (failure) throw failure;
  }

  @Transactional(Propagation.RequiresNew)
  async requiresNew(name: string): Promise<Seen> {
    await this.people.add(name);
    return this.people.seen();
  }

  @Transactional(Propagation.NotSupported)
  async notSupported(name: string): Promise<Seen> {
    await this.people.add(name);
    return this.people.seen();
  }

  @Transactional(Propagation.Mandatory)
  async mandatory(): Promise<Seen> {
    return this.people.seen();
  }

  @Transactional(Propagation.Never)
  async never(): Promise<Seen> {
    return this.people.seen();
  }

  @Transactional(Propagation.Supports)
  async supports(): Promise<Seen> {
    return this.people.seen();
  }

  runs = 0;

  @Transactional<TransactionalAdapterPg>({ retry: { baseMillis: 1 } })
  async flaky(): Promise<void> {
    this.runs++;
    await this.people.add(`run ${this.runs}`);
    if (this.runs < 3) await this.pool.query(`DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$`);
  }
}

const names = async (): Promise<unknown[]> =>
  (await adminQuery(server(), 'SELECT name FROM person ORDER BY id')).map(({ name }) => name);

describe('TransactionalAdapterPg', () => {
  let module: TestingModule;
  let service: Service;

  beforeAll(async () => {
    await adminQuery(server(), 'CREATE TABLE person (id serial PRIMARY KEY, name text NOT NULL)');
    module = await Test.createTestingModule({
      imports: [
        PgModule.forRoot({ connectionString: server().connectionString }),
        ClsModule.forRoot({
          plugins: [
            new ClsPluginTransactional({ adapter: new TransactionalAdapterPg(), enableTransactionProxy: true }),
          ],
        }),
      ],
      providers: [Service, People],
    }).compile();
    await module.init();
    service = module.get(Service);
  });

  afterAll(async () => {
    await module?.close();
  });

  beforeEach(async () => {
    await adminQuery(server(), 'TRUNCATE person');
  });

  it('is the pool where there is no transaction', async () => {
    const row = await service.people.add('Ada');
    expect(await service.people.find(row.id)).toEqual(row);
    expect(service.host.tx).toBe(service.pool);
    expect(await names()).toEqual(['Ada']);
  });

  it('commits, and sees its own rows before that', async () => {
    const [added, found] = await service.add('Ada');
    expect(found).toEqual(added);
    expect(await names()).toEqual(['Ada']);
  });

  it('rolls back on an error, with the very error', async () => {
    await expect(service.add('Ada', FAILURE)).rejects.toBe(FAILURE);
    expect(await names()).toEqual([]);
  });

  it('passes options on, of the decorator and of the function', async () => {
    expect(await service.serializable()).toMatchObject({ isolation: 'serializable' });
    const seen = await service.host.withTransaction({ isolation: 'repeatable read' }, () => service.people.seen());
    expect(seen).toMatchObject({ isolation: 'repeatable read' });
    const wrong = service.host.withTransaction({ isolation: 'none' as 'serializable' }, () => service.people.seen());
    await expect(wrong).rejects.toMatchObject({ code: 'PG_CONFIG_INVALID' });
  });

  it('is not seen from outside before its end', async () => {
    await service.around(async () => {
      await service.people.add('Ada');
      expect(await names()).toEqual([]);
    });
    expect(await names()).toEqual(['Ada']);
  });

  it('has pool.query() in it as well, of whoever knows nothing of CLS', async () => {
    const failing = service.around(async () => {
      await service.people.add('Ada');
      await service.pool.query(`INSERT INTO person (name) VALUES ('Grace')`);
      throw FAILURE;
    });
    await expect(failing).rejects.toBe(FAILURE);
    expect(await names()).toEqual([]);
  });

  it('Required takes part; Nested is a savepoint, undone alone or with the whole', async () => {
    await service.around(async () => {
      const outer = await service.people.seen();
      expect((await service.around(() => service.people.seen())).pid).toBe(outer.pid);
      await service.nested('stays');
      await expect(service.nested('goes', FAILURE)).rejects.toBe(FAILURE);
      await service.people.add('stays, too');
    });
    expect(await names()).toEqual(['stays', 'stays, too']);

    const failing = service.around(async () => {
      await service.nested('goes');
      throw FAILURE;
    });
    await expect(failing).rejects.toBe(FAILURE);
    expect(await names()).toEqual(['stays', 'stays, too']);
  });

  it('Nested begins a transaction where there is none', async () => {
    await expect(service.nested('goes', FAILURE)).rejects.toBe(FAILURE);
    expect(await names()).toEqual([]);
  });

  it.each(['requiresNew', 'notSupported'] as const)('%s is outside, and stays when the other goes', async (method) => {
    const failing = service.around(async () => {
      const outer = await service.people.seen();
      expect((await service[method]('stays')).pid).not.toBe(outer.pid);
      expect((await service.people.seen()).pid).toBe(outer.pid);
      await service.people.add('goes');
      throw FAILURE;
    });
    await expect(failing).rejects.toBe(FAILURE);
    expect(await names()).toEqual(['stays']);
  });

  it('Mandatory, Never and Supports do as they say', async () => {
    // The host throws before it has a promise.
    expect(() => service.mandatory()).toThrow(/MANDATORY/);
    await expect(service.around(() => service.never())).rejects.toThrow(/NEVER/);
    expect(await service.never()).toMatchObject({ isolation: 'read committed' });
    expect(await service.supports()).toMatchObject({ isolation: 'read committed' });
    await service.around(async () => {
      const { pid } = await service.people.seen();
      expect((await service.mandatory()).pid).toBe(pid);
      expect((await service.supports()).pid).toBe(pid);
    });
  });

  it('takes part in a transaction that was begun with pool.transaction()', async () => {
    const failing = service.pool.transaction(async () => {
      await service.add('goes');
      await service.people.add('goes, too');
      throw FAILURE;
    });
    await expect(failing).rejects.toBe(FAILURE);
    expect(await names()).toEqual([]);
  });

  it('runs the function again after a serialization failure, on the next transaction', async () => {
    service.runs = 0;
    await service.flaky();
    expect(await names()).toEqual(['run 3']);
  });

  it('keeps many at once apart', async () => {
    const all = Array.from({ length: 30 }, (_, index) => service.add(`${index}`, index % 2 ? FAILURE : undefined));
    await Promise.allSettled(all);
    expect(await names()).toHaveLength(15);
  });
});

describe('the adapter', () => {
  it('has default options, which those of a transaction go over', async () => {
    const defaultTxOptions = { isolation: 'serializable', readOnly: true } as const;
    const adapter = new TransactionalAdapterPg({ poolToken: getPoolToken('reports'), defaultTxOptions });
    expect(adapter.defaultTxOptions).toEqual(defaultTxOptions);
    const module = await Test.createTestingModule({
      imports: [
        PgModule.forRoot({ name: 'reports', connectionString: server().connectionString }),
        ClsModule.forRoot({ plugins: [new ClsPluginTransactional({ connectionName: 'reports', adapter })] }),
      ],
    }).compile();
    try {
      const host = TransactionHost.getInstance<TransactionalAdapterPg>('reports');
      const show = async (): Promise<unknown> =>
        (
          await host.tx.query(
            `SELECT current_setting('transaction_isolation') AS isolation, current_setting('transaction_read_only') AS ro`,
          )
        ).rows[0];
      expect(await host.withTransaction(show)).toEqual({ isolation: 'serializable', ro: 'on' });
      expect(await host.withTransaction({ readOnly: false }, show)).toEqual({ isolation: 'serializable', ro: 'off' });
    } finally {
      await module.close();
    }
  });

  it('is for the default pool, unless it is told otherwise', () => {
    expect(new TransactionalAdapterPg().connectionToken).toBe(PG_POOL);
    expect(new TransactionalAdapterPg().defaultTxOptions).toBeUndefined();
  });
});
