import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const root = new URL('../../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');
const FILES = ['hikaricp', 'psycopg-pool', 'pgxpool'].map((name) => `test/conformance/pools/${name}.test.ts`);

interface Row {
  readonly item: number;
  readonly originals: readonly string[];
  readonly file: string;
}

/** `| item | original | what holds here | file |` */
const rows = read('docs/pool-conformance.md')
  .split('\n')
  .map((line) => line.split('|').map((cell) => cell.trim()))
  .filter((cells) => /^\d+$/.test(cells[1] ?? ''))
  .map<Row>(([, item, original = '', , file = '']) => ({
    item: Number(item),
    originals: [...original.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name),
    file: /\(\.\.\/([^)]+)\)/.exec(file)?.[1] ?? '',
  }));

/** The originals' names, as they stand in front of the tests' names. One that is skipped is not `it(`. */
function namesIn(file: string): string[] {
  return [...read(file).matchAll(/^ *it\(\s*'([\w.]+): /gm)].map(([, name = '']) => name);
}

describe('docs/pool-conformance.md', () => {
  it('has the items 1 to 37, each once', () => {
    expect(rows.map(({ item }) => item)).toEqual(Array.from({ length: 37 }, (_, index) => index + 1));
  });

  it.each(rows)('names tests that exist: item $item, $originals', ({ originals, file }) => {
    expect(FILES).toContain(file);
    expect(originals.length).toBeGreaterThan(0);
    for (const original of originals) expect(namesIn(file)).toContain(original);
  });

  it('names every test that exists', () => {
    const named = rows.flatMap(({ originals, file }) => originals.map((original) => `${file} ${original}`));
    const existing = FILES.flatMap((file) => namesIn(file).map((name) => `${file} ${name}`));
    expect(new Set(existing)).toEqual(new Set(named));
  });
});
