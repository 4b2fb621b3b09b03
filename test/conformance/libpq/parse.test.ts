import { inspect } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { parseConnectionString } from '../../../lib/config/connection-string.js';
import { KEYWORD_NAMES, KEYWORDS } from '../../../lib/config/keywords.js';
import { resolveConfig } from '../../../lib/config/resolve-config.js';
import { PgModuleError } from '../../../lib/errors/pg-module.error.js';
import { KEYWORD_VALUE_CORPUS, mutate, SECRET, seededRandom, URI_CORPUS } from '../../support/libpq-corpus.js';
import { Libpq, libpqPath, type LibpqParse } from '../../support/libpq.js';

/** Other cases than every run's: `LIBPQ_FUZZ_SEED=7 LIBPQ_FUZZ_CASES=500000 npx vitest run test/conformance/libpq`. */
const SEED = Number(process.env.LIBPQ_FUZZ_SEED ?? 20_261_122);
/** For each grammar. */
const MUTATIONS = Number(process.env.LIBPQ_FUZZ_CASES ?? 12_000);

const corpora: readonly (readonly [string, readonly string[]])[] = [
  ['URIs', URI_CORPUS],
  ['keyword=value pairs', KEYWORD_VALUE_CORPUS],
];

function cases(corpus: readonly string[]): string[] {
  const random = seededRandom(SEED);
  const mutations = Array.from({ length: MUTATIONS }, (_, i) =>
    mutate(corpus[i % corpus.length] ?? '', corpus, random),
  );
  return [...corpus, ...mutations];
}

type Ours = { ok: true; values: Record<string, string> } | { ok: false; error: unknown };

function parseOurs(text: string): Ours {
  try {
    return { ok: true, values: parseConnectionString(text) };
  } catch (error) {
    return { ok: false, error };
  }
}

/** libpq passes bytes on that are no text; here, where a string cannot hold them, they are refused. */
function holdsInvalidUtf8(text: string, theirs: LibpqParse): boolean {
  return (
    theirs.ok && Object.values(theirs.values).some((value) => value.includes('\ufffd')) && !text.includes('\ufffd')
  );
}

/** Any four characters of the planted password in a row. */
function leaks(output: string): boolean {
  for (let i = 0; i + 4 <= SECRET.length; i++) if (output.includes(SECRET.slice(i, i + 4))) return true;
  return false;
}

const everything = (value: unknown): string =>
  [
    inspect(value, { depth: Infinity, showHidden: true }),
    JSON.stringify(value),
    String(value),
    value instanceof Error ? `${value.message}\n${value.stack}\n${inspect(value.cause)}` : '',
  ].join('\n');

describe.skipIf(libpqPath() === undefined)('against the real libpq', () => {
  const libpq = libpqPath() === undefined ? undefined : new Libpq({ processes: 1 });
  afterAll(() => libpq?.close());
  const oracle = (): Libpq => libpq!;

  it('is judged by libpq 18', async () => {
    expect(Math.floor((await oracle().version()) / 10_000)).toBe(18);
  });

  it('has each keyword of PQconndefaults, its variable and its default in the table', async () => {
    const theirs = await oracle().conndefaults();
    expect(theirs.map(({ keyword }) => keyword)).toEqual(KEYWORD_NAMES);
    for (const { keyword, envvar, compiled, secret } of theirs) {
      const row = KEYWORDS[keyword as keyof typeof KEYWORDS];
      expect([keyword, row.env ?? null]).toEqual([keyword, envvar]);
      expect([keyword, row.compiled ?? null]).toEqual([keyword, compiled]);
      if (secret) expect([keyword, row.kind]).toEqual([keyword, 'secret']);
    }
  });

  describe.each(corpora)('%s', (_, corpus) => {
    it('are taken and refused alike, with the same values', async () => {
      const texts = cases(corpus);
      const theirs = await oracle().conninfoParse(texts);
      const differences: unknown[] = [];
      let accepted = 0;
      let notText = 0;
      for (const [index, text] of texts.entries()) {
        const their = theirs[index]!;
        const our = parseOurs(text);
        if (their.ok) accepted++;
        if (holdsInvalidUtf8(text, their)) {
          notText++;
          if (our.ok) differences.push({ text, our, their });
          continue;
        }
        const same = our.ok && their.ok ? sameValues(our.values, their.values) : our.ok === their.ok;
        if (!same) differences.push({ text, our, their });
      }
      expect(differences.slice(0, 10)).toEqual([]);
      // The corpus would prove little if one of the two outcomes were rare.
      expect(accepted).toBeGreaterThan(texts.length / 10);
      expect(texts.length - accepted).toBeGreaterThan(texts.length / 10);
      expect(notText).toBeLessThan(texts.length / 20);
    });

    it('never show a planted password in an error', () => {
      const leaking: string[] = [];
      let refused = 0;
      for (const text of cases(corpus).filter(leaks)) {
        for (const read of [parseConnectionString, resolve]) {
          try {
            read(text);
          } catch (error) {
            refused++;
            expect(error).toBeInstanceOf(PgModuleError);
            if (leaks(everything(error))) leaking.push(text);
          }
        }
      }
      expect(leaking).toEqual([]);
      expect(refused).toBeGreaterThan(MUTATIONS / 20);
    });

    it('never show a password in what is resolved from them', () => {
      const leaking: string[] = [];
      let resolved = 0;
      for (const text of cases(corpus).filter(leaks)) {
        const our = parseOurs(text);
        if (!our.ok) continue;
        const { password = '', sslpassword = '', ...open } = our.values;
        // Where a mutation has put the password into the host's or the user's place, it is shown like any host.
        if (!leaks(`${password} ${sslpassword}`) || leaks(JSON.stringify(open))) continue;
        try {
          const config = resolve(text);
          resolved++;
          if (leaks(everything(config))) leaking.push(text);
        } catch {
          // Errors are searched above.
        }
      }
      expect(leaking).toEqual([]);
      expect(resolved).toBeGreaterThan(50);
    });
  });
});

function sameValues(ours: Readonly<Record<string, string>>, theirs: Readonly<Record<string, string>>): boolean {
  const names = new Set([...Object.keys(ours), ...Object.keys(theirs)]);
  return [...names].every((name) => ours[name] === theirs[name]);
}

function resolve(connectionString: string): unknown {
  return resolveConfig(
    { connectionString },
    {
      env: {},
      homeDir: () => undefined,
      osUser: () => 'account',
      stat: () => undefined,
      readFile: () => {
        throw new Error('no files here');
      },
      warn: () => undefined,
    },
  );
}
