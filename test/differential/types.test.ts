import { randomInt } from 'node:crypto';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { useServer } from '../support/postgres.js';
import { RandomLiterals } from './literals.js';
import { SessionPair } from './session-pair.js';
import { TypeCatalog, type ServerType } from './type-catalog.js';

const SEED = Number(process.env['DIFFERENTIAL_SEED'] ?? randomInt(2 ** 31));
/** Random values for each base type. */
const PER_TYPE = Number(process.env['DIFFERENTIAL_VALUES'] ?? 15);
/** Longer texts are never prepared by name. */
const MAX_TEXT = 12_000;

const OWN_TYPES = `
  CREATE SCHEMA "Odd ""one""";
  CREATE TYPE mood AS ENUM ('', 'happy', 'so "so"', 'a,b', '{}', 'it''s', 'NULL', '__proto__', 'ä😀');
  CREATE DOMAIN positive AS int CHECK (value > 0);
  CREATE DOMAIN moods AS mood[];
  CREATE DOMAIN deep AS positive CHECK (value < 100);
  CREATE DOMAIN "Odd ""one""".day AS date;
  CREATE TYPE textrange AS RANGE (subtype = text);
  CREATE TYPE floatrange AS RANGE (subtype = float8, subtype_diff = float8mi);
  CREATE TYPE moodrange AS RANGE (subtype = mood);
  CREATE TYPE nothing AS ();
  CREATE TYPE pair AS (number int, "Text" text);
  CREATE TYPE nest AS (pairs pair[], moment timestamptz, period tstzrange, bytes bytea, doc jsonb, feeling mood, days "Odd ""one""".day[]);
  CREATE TYPE nests AS (nest nest, more nest[], spans textmultirange);
  CREATE TABLE item (id int, gone int, at timestamptz, name varchar);
  ALTER TABLE item DROP COLUMN gone;
  CREATE STATISTICS item_stats (ndistinct, dependencies, mcv) ON id, name FROM item;
  INSERT INTO item SELECT i % 5, 'epoch', 'n' || i % 3 FROM generate_series(1, 100) AS i;
  ALTER TABLE item ALTER name SET DEFAULT 'x' || 'y';
  ANALYZE item;`;

/** Where a value comes from of a type that has no input, and of the pseudo types that can be a column of a result. */
const SOURCES: Readonly<Record<string, readonly string[]>> = {
  pg_node_tree: ['SELECT adbin AS v FROM pg_attrdef', 'SELECT NULL::pg_node_tree AS v'],
  pg_ndistinct: ['SELECT stxdndistinct AS v FROM pg_statistic_ext_data'],
  pg_dependencies: ['SELECT stxddependencies AS v FROM pg_statistic_ext_data'],
  pg_mcv_list: ['SELECT stxdmcv AS v FROM pg_statistic_ext_data'],
  record: [
    ...[
      'SELECT ROW() AS v',
      "SELECT ROW(1, NULL, 'a,\"b\"', ROW(ARRAY[1,NULL], '{}'::jsonb)) AS v",
      'SELECT NULL::record AS v',
    ],
    'SELECT i FROM item AS i ORDER BY 1 LIMIT 3',
  ],
  _record: ["SELECT ARRAY[ROW(1, 'a'), NULL, ROW(2, '\"')] AS v", 'SELECT NULL::record[] AS v'],
  cstring: ["SELECT 'x'::cstring AS v", 'SELECT NULL::cstring AS v', "SELECT ''::cstring AS v"],
  _cstring: [`SELECT '{a,NULL,"b,c"}'::cstring[] AS v`, "SELECT '[2:2]={x}'::cstring[] AS v"],
  void: ['SELECT pg_sleep(0) AS v', 'SELECT set_config($$a.b$$, $$$$, true), pg_sleep(0)', "SELECT ''::void AS v"],
  unknown: ["SELECT 'x'::unknown AS v", 'SELECT NULL::unknown AS v', "SELECT v FROM (SELECT 'y'::unknown) AS t(v)"],
  anyarray: [
    "SELECT stavalues1 AS v FROM pg_statistic WHERE starelid = 'item'::regclass",
    "SELECT most_common_vals AS v, most_common_freqs FROM pg_stats WHERE tablename = 'item' ORDER BY attname",
  ],
};

/** Of these the server has but the null: nothing but an index or a plan makes a value. */
const NULL_ONLY: ReadonlySet<string> = new Set([
  ...['gtsvector', 'pg_brin_bloom_summary', 'pg_brin_minmax_multi_summary'],
]);

/** What the server lets nobody have, not even as a null; the test asks it. */
const REFUSED =
  /cannot accept a value of type|has no input function|cannot display a value|pseudo-type|cannot cast type unknown/;

let catalog: TypeCatalog;
let pair: SessionPair;
const covered = new Map<string, number>();
const refused: string[] = [];
const server = useServer();

beforeAll(async () => {
  console.log(`DIFFERENTIAL_SEED=${SEED}`);
  pair = await SessionPair.open(server());
  await pair.stock.query(OWN_TYPES);
  catalog = await TypeCatalog.read(pair.stock, new RandomLiterals(SEED), PER_TYPE);
});

afterAll(async () => {
  await pair[Symbol.asyncDispose]();
  const kinds = [...covered].map(([kind, count]) => `${count} ${kind}`).join(', ');
  console.log(`types: ${catalog.types.length}, compared: ${kinds}; the server has no values of: ${refused.join(', ')}`);
});

/** Queries for all values of a type, none longer than `MAX_TEXT`. */
async function queriesFor(type: ServerType): Promise<string[]> {
  const written = SOURCES[type.typname];
  if (written) return [...written];
  if (type.kind === 'pseudo' || NULL_ONLY.has(type.typname)) return [`SELECT NULL::${type.name} AS v`];
  const literals = await catalog.literals(type.oid);
  if (literals.length === 0) throw new Error(`no value of ${type.name} is known: add one`);
  const texts: string[] = [];
  let text = '';
  for (const literal of literals) {
    const value = `('${literal.replaceAll("'", "''")}'::${type.name})`;
    if (text.length + value.length > MAX_TEXT) {
      texts.push(text);
      text = '';
    }
    text += text === '' ? `VALUES (NULL::${type.name}), ${value}` : `, ${value}`;
  }
  return [...texts, text];
}

async function differencesOf(types: readonly ServerType[], sessions: SessionPair): Promise<string[]> {
  const found: string[] = [];
  for (const type of types) {
    const mayFail = type.kind === 'pseudo' && !SOURCES[type.typname];
    for (const text of await queriesFor(type)) found.push(...(await sessions.differences({ text }, { mayFail })));
  }
  return found;
}

describe('a value of every type is the same', () => {
  it.each(['base', 'domain', 'enum', 'range', 'multirange', 'composite', 'array'] as const)('%s', async (kind) => {
    const types = catalog.types.filter((type) => type.kind === kind);
    expect(types.length).toBeGreaterThan(0);
    expect(await differencesOf(types, pair)).toEqual([]);
    covered.set(kind, types.length);
    // Or the third use would have been like the first.
    const { rows } = await pair.ours.query('SELECT count(*)::int AS named FROM pg_prepared_statements');
    expect((rows[0] as { named: number }).named).toBeGreaterThan(0);
  });

  it('pseudo, and what the server has no values of fails alike', async () => {
    const types = catalog.types.filter(({ kind }) => kind === 'pseudo');
    expect(await differencesOf(types, pair)).toEqual([]);
    for (const { typname, name } of types) {
      if (SOURCES[typname]) continue;
      const failure: unknown = await pair.stock.query(`SELECT NULL::${name}`).then(
        () => undefined,
        (error: pg.DatabaseError) => error.message,
      );
      // A type that can be selected all the same has been compared with its null.
      if (failure === undefined) continue;
      expect(failure, name).toMatch(REFUSED);
      refused.push(typname);
    }
    covered.set('pseudo', types.length - refused.length);
  });

  it('and no type is left out', () => {
    const compared = [...covered.values()].reduce((sum, count) => sum + count, 0);
    expect(compared + refused.length).toBe(catalog.types.length);
    expect(compared).toBeGreaterThan(500);
  });
});

/** Types whose text depends on the session. */
const DEPENDENT =
  /^_?(date|timestamp|timestamptz|time|timetz|interval|bytea|float4|float8|money|point|circle|jsonb?|xml|(ts|tstz|date|float)(multi)?range|nests?)$/;

describe('and so it is on sessions with other settings', () => {
  it.each<Record<string, string>>([
    { DateStyle: 'SQL, DMY', IntervalStyle: 'sql_standard', bytea_output: 'escape', TimeZone: 'Asia/Kolkata' },
    { DateStyle: 'German', IntervalStyle: 'iso_8601', extra_float_digits: '0', TimeZone: 'America/St_Johns' },
    { DateStyle: 'Postgres, MDY', IntervalStyle: 'postgres_verbose', extra_float_digits: '-15', TimeZone: 'UTC' },
    { DateStyle: 'ISO, YMD', TimeZone: 'Africa/Monrovia', xmlbinary: 'hex', extra_float_digits: '3' },
    { DateStyle: 'ISO, DMY', TimeZone: '<+0102>-1:02', lc_monetary: 'C' },
  ])('%o', async (settings) => {
    await using other = await SessionPair.open(server(), settings);
    const shown = await other.ours.query(`SELECT current_setting('DateStyle') AS style`);
    expect(shown.rows).toEqual([{ style: settings['DateStyle'] === 'German' ? 'German, DMY' : settings['DateStyle'] }]);
    const types = catalog.types.filter(({ typname }) => DEPENDENT.test(typname));
    expect(types.length).toBeGreaterThan(25);
    expect(await differencesOf(types, other)).toEqual([]);
  });

  it.each(['UTC', 'Europe/Berlin', 'America/St_Johns', 'Africa/Monrovia', 'Pacific/Apia'])(
    'in a process in %s',
    async (zone) => {
      const before = process.env['TZ'];
      process.env['TZ'] = zone;
      try {
        expect(new Intl.DateTimeFormat().resolvedOptions().timeZone).toBe(zone);
        const types = catalog.types.filter(({ typname }) => /^_?(date|timestamp|timestamptz)$/.test(typname));
        expect(await differencesOf(types, pair)).toEqual([]);
      } finally {
        if (before === undefined) delete process.env['TZ'];
        else process.env['TZ'] = before;
      }
    },
  );
});
