import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { Socket } from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { settle } from '../support/manual-clock.js';
import { closed, openSession, type MemorySession } from '../support/memory-session.js';
import { useServer } from '../support/postgres.js';
import { difference } from './difference.js';
import { RandomLiterals } from './literals.js';
import { outcomeOf, type Outcome } from './session-pair.js';

const SEED = Number(process.env['DIFFERENTIAL_SEED'] ?? randomInt(2 ** 31));
/** Random ways to cut each answer into many pieces. */
const WAYS = 100;
/** ParseComplete: what a statement's answer begins with until it is known by its name. */
const PARSED = Buffer.from('1\0\0\0\x04');

const QUERIES: readonly (readonly [name: string, text: string])[] = [
  [
    'rows',
    `SELECT i, i::text AS "text", NULL AS "null", '2026-11-22 12:34:56.789+00'::timestamptz + i * interval '1 d' AS "at",
     i % 2 = 0 AS even, 'ä😀"' AS "unicöde", i / 3.0::float8 AS f, '\\x00ff'::bytea AS b, '[1,{}]'::jsonb AS j, ARRAY[i, NULL] AS "array"
     FROM generate_series(-1, 2) AS i WHERE $1`,
  ],
  ['no rows', 'SELECT 1 AS "constructor", 2 AS "__proto__" WHERE NOT $1'],
  ['rows without columns', 'SELECT FROM generate_series(1, 3) WHERE $1'],
  ['no description', 'DELETE FROM item WHERE id < 0 AND $1'],
  ['a notice between the rows', 'SELECT i, noisy(i) FROM generate_series(1, 3) AS i WHERE $1'],
  ['an error', 'SELECT nothing_like_it WHERE $1'],
  ['an error behind rows', 'SELECT 10 / (3 - i) AS i FROM generate_series(1, 5) AS i WHERE $1'],
];

interface Recording {
  readonly answer: Buffer;
  readonly outcome: Outcome;
}

const server = useServer();
let recorder: pg.Client;
let received: Buffer[] = [];

beforeAll(async () => {
  console.log(`DIFFERENTIAL_SEED=${SEED}`);
  const { host, port, user, password, database } = server();
  const stream = new Socket();
  stream.on('data', (bytes: Buffer) => received.push(Buffer.from(bytes)));
  recorder = new pg.Client({ host, port, user, password, database, stream: () => stream });
  await recorder.connect();
  await recorder.query(`
    CREATE TABLE item (id int);
    CREATE FUNCTION noisy(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'at %', i; RETURN i; END $$`);
});

afterAll(async () => recorder.end());

/** What the server answers stock pg, and what that makes of it. */
async function record(text: string, values: unknown[] | undefined): Promise<Recording> {
  received = [];
  // The server sends an error at once, and ReadyForQuery behind it: the outcome alone may be known too early.
  const ready = once(recorder, 'drain');
  const outcome = await outcomeOf(recorder, { text, values });
  await ready;
  return { answer: Buffer.concat(received), outcome };
}

/** Gives a statement its answer in pieces that end at `cuts`. */
async function differenceInPieces(
  { client, stream }: MemorySession,
  [text, values]: [string, unknown[] | undefined],
  { answer, outcome }: Recording,
  cuts: readonly number[],
): Promise<string[]> {
  const result = outcomeOf(client, { text, values });
  await settle();
  let from = 0;
  for (const to of [...cuts, answer.length]) {
    stream.push(Buffer.from(answer.subarray(from, to)));
    from = to;
    await settle();
  }
  const found = difference(await result, outcome);
  return found === undefined ? [] : [`cut at ${cuts.join(', ')}: ${found}`];
}

/** At each position, at all positions, and at random ones. */
function waysToCut(length: number): number[][] {
  const random = new RandomLiterals(SEED);
  const positions = Array.from({ length: length - 1 }, (_, at) => at + 1);
  return [
    ...positions.map((at) => [at]),
    positions,
    ...Array.from({ length: WAYS }, () => positions.filter(() => random.below(40) === 0)),
  ];
}

describe.each(QUERIES)('an answer with %s is the same wherever its packets end', (_, text) => {
  it.each([
    ['simple', text.replace('$1', 'true'), undefined, 0],
    ['extended', text, [true], 0],
    ['by name', text, [true], 100],
  ] as const)('%s', async (kind, asked, values, limit) => {
    const query: [string, unknown[] | undefined] = [asked, values && [...values]];
    const recorded = await record(...query);
    const session = await openSession({ limit });
    let recording = recorded;
    let request = kind === 'simple' ? 'Query' : 'Parse';
    if (kind === 'by name') {
      for (let use = 0; use < 2; use++) expect(await differenceInPieces(session, query, recorded, [])).toEqual([]);
      const isParsed = recorded.answer.subarray(0, PARSED.length).equals(PARSED);
      // One that could not be parsed gets another name, and the old one is closed before.
      request = isParsed ? 'Bind' : 'Close';
      const answer = isParsed ? recorded.answer.subarray(PARSED.length) : Buffer.concat([closed, recorded.answer]);
      recording = { ...recorded, answer };
      session.messages();
    }
    const found: string[] = [];
    for (const cuts of waysToCut(recording.answer.length)) {
      found.push(...(await differenceInPieces(session, query, recording, cuts)));
    }
    expect(found).toEqual([]);
    expect(session.sent().split(' ')[0]).toBe(request);
  });
});
