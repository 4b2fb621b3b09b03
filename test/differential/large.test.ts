import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { useServer } from '../support/postgres.js';
import { outcomeOf, type Rival } from './rivals.js';
import { SessionPair } from './session-pair.js';

/** Values of many megabytes, both ways, are the same as with stock pg. */
const MEGABYTE = 2 ** 20;
const isLargest = process.env['DIFFERENTIAL_LARGE'] === '1';
const SIZE = (isLargest ? 64 : 16) * MEGABYTE;
/** Just below what a text of V8 can be; a server can send one gigabyte. */
const LARGEST = 500 * MEGABYTE;

const server = useServer({ settings: { shared_buffers: '32MB' } });
let pair: SessionPair;
beforeAll(async () => {
  pair = await SessionPair.open(server());
});
afterAll(() => pair[Symbol.asyncDispose]());

async function valueOf(rival: unknown, text: string, values: unknown[]): Promise<unknown> {
  const { rows } = (await (rival as Rival).query(text, values)) as { rows: { v: unknown }[] };
  return rows[0]?.v;
}

/** Not by `expect`, which would print them. */
function isSame(ours: unknown, stock: unknown): boolean {
  if (Buffer.isBuffer(ours) && Buffer.isBuffer(stock)) return ours.equals(stock);
  return ours === stock;
}

async function expectSameValue(text: string, values: unknown[], length: number, uses: number): Promise<void> {
  const expected = (await valueOf(pair.stock, text, values)) as { length: number };
  expect(expected.length).toBe(length);
  for (let use = 1; use <= uses; use++)
    expect(isSame(await valueOf(pair.ours, text, values), expected), `use ${use}`).toBe(true);
}

describe(`${SIZE / MEGABYTE} MB`, () => {
  const long = 'ä😀b'.repeat(SIZE / 16);
  const bytes = Buffer.alloc(SIZE, Buffer.from([0, 1, 254, 255, 65]));

  it('of text', () => expectSameValue("SELECT repeat('xyz ', $1) AS v", [SIZE / 4], SIZE, 2));
  it('of text that is not ASCII', () =>
    expectSameValue("SELECT repeat('ä😀', $1) AS v", [SIZE / 32], (SIZE / 32) * 3, 2));
  it('of bytea', () => expectSameValue("SELECT decode(repeat('00ff1080', $1), 'hex') AS v", [SIZE / 4], SIZE, 1));

  it.each([
    ['text', 'SELECT md5($1::text) || length($1) || octet_length($1) AS v', long],
    ['bytes', 'SELECT md5($1::bytea) || length($1) AS v', bytes],
    [
      'an array',
      'SELECT md5($1::text[]::text) || cardinality($1) AS v',
      Array<string>(1_000).fill('"ä\\'.repeat(2_000)),
    ],
  ])('of %s as a parameter', async (_, text, value) => {
    const expected = await valueOf(pair.stock, text, [value]);
    for (let use = 1; use <= 2; use++) expect(await valueOf(pair.ours, text, [value])).toBe(expected);
  });

  it('of many rows', async () => {
    const text = "SELECT i AS id, repeat('row ', 25) AS name, i % 2 = 0 AS even FROM generate_series(1, $1) AS i";
    const [ours, stock] = [await pair.ours.query(text, [300_000]), await pair.stock.query(text, [300_000])];
    expect(ours.rows.length).toBe(stock.rows.length);
    expect(ours.rows.every((row, at) => JSON.stringify(row) === JSON.stringify(stock.rows[at]))).toBe(true);
  });

  it('more than the server takes fails alike', async () => {
    const text = "SELECT repeat('x', $1) AS v";
    const [ours, stock] = [pair.ours, pair.stock].map((rival) =>
      outcomeOf(() => (rival as unknown as Rival).query(text, [1_100 * MEGABYTE])),
    );
    expect(await ours).toEqual(await stock);
    expect(await ours).toHaveProperty('error');
  });
});

const skipped = isLargest
  ? ''
  : ' (skipped: it takes 4 GB of memory and a minute or more; DIFFERENTIAL_LARGE=1 runs it)';

describe(`500 MB${skipped}`, { timeout: 600_000 }, () => {
  it.skipIf(!isLargest)('of text', async () => {
    await expectSameValue("SELECT repeat('xyz ', $1) AS v", [LARGEST / 4], LARGEST, 1);
  });

  it.skipIf(!isLargest)('of bytea, whose text is twice as long', async () => {
    await expectSameValue("SELECT decode(repeat('00ff1080', $1), 'hex') AS v", [LARGEST / 8], LARGEST / 2, 1);
  });

  it.skipIf(!isLargest)('and what no text can hold fails the statement, and not the process', async () => {
    const text = "SELECT repeat('x', $1) AS v";
    // Stock pg throws it out of the socket's event.
    await expect(pair.ours.query(text, [600 * MEGABYTE])).rejects.toMatchObject({ code: 'ERR_STRING_TOO_LONG' });
    expect((await pair.ours.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });
});
