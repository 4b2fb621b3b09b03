import { stockPg } from '../../stock-pg.js';
import type { Item } from './subject.js';

export const ROWS = 1_000_000;
export const COLUMNS = ['id', 'total', 'ratio', 'name', 'at'] as const;
export const SOURCE = 'stream_source';
export const TARGET = 'stream_target';

const DEFINITION =
  '(id int NOT NULL, total bigint NOT NULL, ratio float8 NOT NULL, name text NOT NULL, at timestamptz NOT NULL)';
const FIRST = Date.UTC(2026, 0, 1);

/** The first rows of the source. */
export function selectFirst(count: number): string {
  // A LIMIT would begin wherever the last scan has stopped (synchronize_seqscans).
  return `SELECT ${COLUMNS.join(', ')} FROM ${SOURCE} WHERE id <= ${count}`;
}

/** The same rows, as the application makes them. */
export function* items(count: number): Generator<Item, void, undefined> {
  for (let id = 1; id <= count; id++) {
    yield [id, id * 1_000_003, id / 7, `row number ${id}`, new Date(FIRST + id * 1000)];
  }
}

export async function createTables(connectionString: string): Promise<void> {
  await run(connectionString, [
    `DROP TABLE IF EXISTS ${SOURCE}, ${TARGET}`,
    `CREATE TABLE ${SOURCE} ${DEFINITION}`,
    `CREATE TABLE ${TARGET} ${DEFINITION}`,
    `INSERT INTO ${SOURCE} SELECT id, id * 1000003::bigint, id / 7.0::float8, 'row number ' || id,
       timestamptz '2026-01-01 00:00:00+00' + id * interval '1 second' FROM generate_series(1, ${ROWS}) AS id`,
    `VACUUM ANALYZE ${SOURCE}`,
  ]);
}

export async function emptyTarget(connectionString: string): Promise<void> {
  await run(connectionString, [`TRUNCATE ${TARGET}`]);
}

/** @throws unless the target holds the first rows */
export async function checkTarget(connectionString: string, count: number): Promise<void> {
  const text = `SELECT count(*)::int AS count, count(DISTINCT t.id)::int AS same FROM ${TARGET} t
    JOIN (${selectFirst(count)}) s ON (t.id, t.total, t.name, t.at) = (s.id, s.total, s.name, s.at) AND abs(t.ratio - s.ratio) < 1e-9`;
  const [found] = await run(connectionString, [text]);
  const { count: rows, same } = found as { count: number; same: number };
  if (rows !== count || same !== count) throw new Error(`${count} rows were loaded, and ${same} of them are right`);
}

/** @returns the rows of the last statement */
async function run(connectionString: string, statements: readonly string[]): Promise<unknown[]> {
  const client = new stockPg.Client({ connectionString });
  await client.connect();
  try {
    let rows: unknown[] = [];
    for (const statement of statements) ({ rows } = await client.query(statement));
    return rows;
  } finally {
    await client.end();
  }
}
