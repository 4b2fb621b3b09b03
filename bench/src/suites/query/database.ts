import { stockPg } from '../../stock-pg.js';

export const ACCOUNTS = 100_000;
export const ITEMS = 10_000;
export const PARTS = 1_000;
const JOINED = 7;

const levels = Array.from({ length: JOINED }, (_, index) => index + 1);

export const POINT = 'SELECT id, balance FROM account WHERE id = $1';

/** Eight columns of the types that applications have. */
export const ROWS =
  'SELECT id, name, active, score, total, price, tags, created_at FROM item WHERE id >= $1 AND id < $2';
export const ROW_COUNT = 100;

export const INSERT = 'INSERT INTO entry (account_id, amount, note) VALUES ($1, $2, $3) RETURNING id';

/** The server plans it longer than it runs it. */
export const JOIN = `SELECT ${levels.map((level) => `p${level}.label AS label_${level}`).join(', ')} FROM part_1 p1 ${levels
  .slice(1)
  .map((level) => `JOIN part_${level} p${level} ON p${level}.id = p${level - 1}.next_id`)
  .join(' ')} WHERE p1.id = $1`;

/** Reads a table that {@link LOCK_GATE} locks. */
export const GATE = 'SELECT id, opened FROM gate WHERE id = $1';
export const LOCK_GATE = 'LOCK TABLE gate IN ACCESS EXCLUSIVE MODE';

const TABLES = `
DROP TABLE IF EXISTS account, item, entry, gate, ${levels.map((level) => `part_${level}`).join(', ')};
CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);
INSERT INTO account SELECT id, id % 1000 FROM generate_series(1, ${ACCOUNTS}) AS id;
CREATE TABLE item (
  id int PRIMARY KEY, name text NOT NULL, active boolean NOT NULL, score float8 NOT NULL, total bigint NOT NULL,
  price numeric(10, 2) NOT NULL, tags jsonb NOT NULL, created_at timestamptz NOT NULL
);
INSERT INTO item
  SELECT id, 'item number ' || id, id % 3 = 0, id / 7.0, id * 1000003::bigint, id / 100.0,
    jsonb_build_object('color', 'green', 'size', id % 50), timestamptz '2026-01-01 00:00:00+00' + id * interval '1 minute'
  FROM generate_series(1, ${ITEMS}) AS id;
CREATE TABLE entry (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id int NOT NULL, amount int NOT NULL, note text
);
CREATE TABLE gate (id int PRIMARY KEY, opened int NOT NULL);
INSERT INTO gate SELECT id, 0 FROM generate_series(1, 100) AS id;
${levels
  .map(
    (level) => `
CREATE TABLE part_${level} (id int PRIMARY KEY, next_id int NOT NULL, label text NOT NULL);
CREATE INDEX ON part_${level} (next_id);
INSERT INTO part_${level} SELECT id, 1 + id * ${level} % ${PARTS}, 'part ' || id FROM generate_series(1, ${PARTS}) AS id;`,
  )
  .join('')}
VACUUM ANALYZE`;

export async function createTables(connectionString: string): Promise<void> {
  const client = new stockPg.Client({ connectionString });
  await client.connect();
  try {
    // VACUUM wants to be alone.
    for (const statement of TABLES.split(';')) await client.query(statement);
  } finally {
    await client.end();
  }
}
