import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { StatementCatalog } from '../../../lib/client/statement-catalog.js';

function open(limit = 100): { catalog: StatementCatalog; warnings: string[] } {
  const warnings: string[] = [];
  return { catalog: new StatementCatalog(limit, (message) => warnings.push(message)), warnings };
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** What is in use, in MB, once what nobody needs has gone. Long strings may lie outside of the heap. */
function usedMegabytes(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 2 ** 20;
}

/** How many of the objects are still held by somebody. */
function held(references: readonly WeakRef<object>[]): number {
  collect();
  return references.filter((reference) => reference.deref() !== undefined).length;
}

/** WeakRefs keep what they point to until the present task has ended. */
const nextTask = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('StatementCatalog', () => {
  it('gives the same statement for the same text, and counts its uses', () => {
    const { catalog } = open();
    const statement = catalog.use('SELECT 1');
    expect(statement).toMatchObject({ text: 'SELECT 1', kind: 'read', uses: 1 });
    expect(catalog.use(['SELECT', '1'].join(' '))).toBe(statement);
    expect(statement.uses).toBe(2);
    expect(catalog.use('select 1')).not.toBe(statement);
  });

  it('finds a name worth its price from the second use on', () => {
    const { catalog } = open();
    const statement = catalog.use('SELECT 1');
    expect(catalog.isWorthAName(statement)).toBe(false);
    catalog.use('SELECT 1');
    expect(catalog.isWorthAName(statement)).toBe(true);
  });

  it('finds no name worth its price with a limit of 0', () => {
    const { catalog, warnings } = open(0);
    const statement = catalog.use('SELECT 1');
    catalog.use('SELECT 1');
    expect(catalog.isWorthAName(statement)).toBe(false);
    catalog.turnOff('whatever');
    expect(warnings).toEqual([]);
  });

  it('finds no name worth its price once it is off, and warns once with the reason', () => {
    const { catalog, warnings } = open();
    const statement = catalog.use('SELECT 1');
    catalog.use('SELECT 1');
    catalog.turnOff('prepared statement "x" does not exist');
    catalog.turnOff('prepared statement "y" does not exist');
    expect(catalog.isWorthAName(statement)).toBe(false);
    expect(warnings).toEqual([expect.stringMatching(/"x" does not exist.*pooler.*statementCache: false/)]);
  });

  it('remembers what is used again and again, whatever comes by meanwhile', () => {
    const { catalog } = open();
    const loved = catalog.use('SELECT 1');
    for (let other = 0; other < 10_000; other++) {
      catalog.use(`SELECT ${other} AS other`);
      if (other % 900 === 0) expect(catalog.use('SELECT 1')).toBe(loved);
    }
    expect(catalog.use('SELECT 1')).toBe(loved);
  });

  it('remembers at least as many texts as one connection may have named', () => {
    const limit = 10_000;
    const { catalog } = open(limit);
    const texts = Array.from({ length: limit }, (_, number) => `SELECT ${number}`);
    for (const text of texts) catalog.use(text);
    const forgotten = texts.filter((text) => catalog.use(text).uses === 1);
    expect(forgotten).toHaveLength(0);
  });

  it('forgets what has not come back: a million texts take the room of a few thousand', async () => {
    const { catalog } = open();
    const before = usedMegabytes();
    const first: WeakRef<object>[] = [];
    for (let text = 0; text < 1_000_000; text++) {
      const statement = catalog.use(`SELECT ${text} AS never_again`);
      if (text < 1_000) first.push(new WeakRef(statement));
    }
    await nextTask();
    expect(held(first)).toBe(0);
    expect(usedMegabytes() - before).toBeLessThan(10);
    expect(catalog.use('SELECT 999999 AS never_again').uses).toBe(2);
  });

  it('does not hold hundreds of megabytes of long texts', async () => {
    const { catalog } = open();
    const before = usedMegabytes();
    for (let text = 0; text < 200; text++) {
      // Flat, and nobody else's: what the catalog holds, it holds alone.
      catalog.use(Buffer.alloc(2 ** 20, `INSERT INTO t VALUES (${text}) `).toString());
    }
    await nextTask();
    expect(usedMegabytes() - before).toBeLessThan(50);
  });
});
