import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { compileLibrary, type CompiledLibrary } from '../../support/compiled-library.js';
import { useServer } from '../../support/postgres.js';

const server = useServer();
let library: CompiledLibrary;

beforeAll(async () => {
  library = await compileLibrary(['.']);
});

afterAll(() => library[Symbol.asyncDispose]());

const ROWS = 1_000_000;
const MAX_MEGABYTES = 60;

/** In a process of its own: vitest's has more on its mind. */
const SCRIPT = `
import { createPool } from './create-pool.js';

const [, , connectionString, way, rows] = process.argv;
const pool = createPool({ connectionString });
const text = \`SELECT n AS id, n * 1000003::int8 AS total, n / 7.0::float8 AS ratio, 'row number ' || n AS name,
  timestamptz '2026-01-01' + n * interval '1 second' AS at FROM generate_series(1, $1::int) AS n\`;
await pool.query('SELECT 1');
const base = process.memoryUsage();
let peak = base;
let seen = 0;
let sum = 0;
const see = ({ id }) => {
  sum += id;
  if (++seen % 2000 !== 0) return;
  const now = process.memoryUsage();
  peak = { rss: Math.max(peak.rss, now.rss), heapUsed: Math.max(peak.heapUsed, now.heapUsed) };
};
const work = async () => {
  if (way === 'batches') for await (const batch of pool.stream(text, [rows]).batches()) batch.forEach(see);
  else if (way === 'observable') await pool.rows$(text, [rows]).forEach(see);
  else for await (const row of pool.stream(text, [rows])) see(row);
};
if (way === 'transaction') await pool.transaction(work);
else await work();
await pool.end();
const over = (name) => Math.round((peak[name] - base[name]) / 2 ** 20);
console.log(JSON.stringify({ seen, sum, rss: over('rss'), heap: over('heapUsed') }));
`;

it.each(['rows', 'batches', 'observable', 'transaction'])(`memory stays flat over ${ROWS} rows: %s`, async (way) => {
  const script = await library.script('rows-memory.mjs', SCRIPT);
  const { stdout } = await promisify(execFile)(process.execPath, [script, server().connectionString, way, `${ROWS}`]);
  const outcome = JSON.parse(stdout) as { seen: number; sum: number; rss: number; heap: number };
  console.log(`${way}: ${ROWS} rows took at most ${outcome.rss} MB (RSS) and ${outcome.heap} MB (heap) over base`);
  expect(outcome).toMatchObject({ seen: ROWS, sum: (ROWS * (ROWS + 1)) / 2 });
  expect(outcome.rss).toBeLessThanOrEqual(MAX_MEGABYTES);
});
