import { peer } from '../../peer.js';
import { stockPg } from '../../stock-pg.js';
import type { QuerySubject, Row } from './subject.js';

interface Repository {
  find(options: { where: object }): Promise<Row[]>;
}

interface DataSource {
  initialize(): Promise<DataSource>;
  query(text: string, values: readonly unknown[]): Promise<Row[]>;
  getRepository(entity: object): Repository;
  destroy(): Promise<void>;
}

interface TypeOrm {
  readonly DataSource: new (options: object) => DataSource;
  readonly EntitySchema: new (options: object) => object;
  And(...conditions: unknown[]): unknown;
  MoreThanOrEqual(value: number): unknown;
  LessThan(value: number): unknown;
}

const ID = { type: 'int', primary: true } as const;

/** With its repositories. */
export async function typeOrm(): Promise<QuerySubject> {
  const { DataSource, EntitySchema, And, MoreThanOrEqual, LessThan } = await peer<TypeOrm>('typeorm');
  const account = new EntitySchema({ name: 'account', columns: { id: ID, balance: { type: 'int' } } });
  const item = new EntitySchema({
    name: 'item',
    columns: {
      id: ID,
      name: { type: 'text' },
      active: { type: 'boolean' },
      score: { type: 'float8' },
      total: { type: 'bigint' },
      price: { type: 'numeric' },
      tags: { type: 'jsonb' },
      created_at: { type: 'timestamptz' },
    },
  });
  return {
    open: async (connectionString, connections) => {
      const source = await new DataSource({
        type: 'postgres',
        url: connectionString,
        driver: stockPg,
        poolSize: connections,
        entities: [account, item],
        installExtensions: false,
      }).initialize();
      const [accounts, items] = [source.getRepository(account), source.getRepository(item)];
      return {
        run: (text, values) => source.query(text, values),
        point: (id) => accounts.find({ where: { id } }),
        rows: (first, behind) => items.find({ where: { id: And(MoreThanOrEqual(first), LessThan(behind)) } }),
        close: () => source.destroy(),
      };
    },
  };
}
