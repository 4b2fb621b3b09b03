import { afterEach, describe, expect, it, vi } from 'vitest';
import { PreparedStatements, type PreparedStatement } from '../../../lib/client/prepared-statements.js';
import { StatementCatalog, type Statement } from '../../../lib/client/statement-catalog.js';

function open(limit = 3): { catalog: StatementCatalog; statements: PreparedStatements; warnings: string[] } {
  const warnings: string[] = [];
  const catalog = new StatementCatalog(limit, (message) => warnings.push(message));
  return { catalog, statements: new PreparedStatements(catalog), warnings };
}

/** One that has come back. */
function repeated(catalog: StatementCatalog, text: string): Statement {
  catalog.use(text);
  return catalog.use(text);
}

/** Named, and known to the server. */
function prepare(statements: PreparedStatements, statement: Statement): PreparedStatement {
  const { prepared } = statements.use(statement)!;
  prepared.isParsed = true;
  return prepared;
}

afterEach(() => void vi.resetModules());

describe('PreparedStatements', () => {
  it('names a statement that has come back, once', () => {
    const { catalog, statements } = open();
    const statement = catalog.use('SELECT 1');
    expect(statements.use(statement)).toBeUndefined();
    catalog.use('SELECT 1');
    const first = statements.use(statement);
    expect(first).toMatchObject({ isNew: true, prepared: { isParsed: false, decoder: undefined } });
    expect(statements.use(statement)).toEqual({ prepared: first?.prepared, isNew: false });
    expect(statements.takeEvicted()).toEqual([]);
  });

  it('makes names that the server takes unabridged, and none twice', () => {
    const names = new Set<string>();
    for (const { catalog, statements } of [open(), open()]) {
      for (let text = 0; text < 1_000; text++) {
        const { prepared } = statements.use(repeated(catalog, `SELECT ${text}`))!;
        expect(Buffer.byteLength(prepared.name)).toBeLessThanOrEqual(63);
        names.add(prepared.name);
      }
    }
    expect(names.size).toBe(2_000);
  });

  // A pooler shares sessions among processes: a name of this one must not be met under another's statement.
  it('makes names that no other process makes', async () => {
    const names: string[] = [];
    for (let process = 0; process < 2; process++) {
      vi.resetModules();
      const { PreparedStatements: Other } = await import('../../../lib/client/prepared-statements.js');
      const catalog = new StatementCatalog(100, () => undefined);
      for (let text = 0; text < 10; text++) {
        names.push(new Other(catalog).use(repeated(catalog, `SELECT ${text}`))!.prepared.name);
      }
    }
    expect(new Set(names).size).toBe(20);
  });

  it.each([1, 2, 7, 100])('has at most %i, and lets the least recently used go', (limit) => {
    const { catalog, statements } = open(limit);
    const all = Array.from({ length: limit }, (_, text) => repeated(catalog, `SELECT ${text}`));
    const names = all.map((statement) => prepare(statements, statement).name);
    expect(statements.takeEvicted()).toEqual([]);
    // The first is used again, so the second goes first.
    expect(statements.use(all[0]!)).toMatchObject({ isNew: false });
    for (let text = 0; text < limit; text++) {
      prepare(statements, repeated(catalog, `SELECT 'new', ${text}`));
      expect(statements.takeEvicted()).toEqual([names[(text + 1) % limit]]);
    }
    expect(statements.takeEvicted()).toEqual([]);
    for (const statement of all.slice(0, 1)) expect(statements.use(statement)).toMatchObject({ isNew: true });
  });

  it('gives a statement that comes back after its eviction another name', () => {
    const { catalog, statements } = open(1);
    const statement = repeated(catalog, 'SELECT 1');
    const { name } = prepare(statements, statement);
    prepare(statements, repeated(catalog, 'SELECT 2'));
    const again = statements.use(statement)!;
    expect(again.isNew).toBe(true);
    expect(again.prepared.name).not.toBe(name);
    expect(statements.takeEvicted()).toHaveLength(2);
  });

  it('never holds more than its limit, whatever is used, and tells of every name that goes', () => {
    const { catalog, statements } = open(5);
    const live = new Set<string>();
    // A walk that does not repeat itself soon.
    for (let step = 0, at = 1; step < 5_000; step++, at = (at * 16_807) % 2_147_483_647) {
      const used = statements.use(repeated(catalog, `SELECT ${at % 11}`))!;
      for (const name of statements.takeEvicted()) expect(live.delete(name)).toBe(true);
      expect(live.has(used.prepared.name)).toBe(!used.isNew);
      live.add(used.prepared.name);
      expect(live.size).toBeLessThanOrEqual(5);
    }
  });

  describe('forget', () => {
    it('has the next use parse anew, and the old name closed', () => {
      const { catalog, statements } = open();
      const statement = repeated(catalog, 'SELECT 1');
      const prepared = prepare(statements, statement);
      statements.forget(statement, prepared);
      const again = statements.use(statement)!;
      expect(again.isNew).toBe(true);
      expect(again.prepared.name).not.toBe(prepared.name);
      expect(statements.takeEvicted()).toEqual([prepared.name]);
      expect(statements.takeEvicted()).toEqual([]);
    });

    it('is heard once: a second failure of the old one leaves the new one alone', () => {
      const { catalog, statements } = open();
      const statement = repeated(catalog, 'SELECT 1');
      const old = prepare(statements, statement);
      statements.forget(statement, old);
      const young = prepare(statements, statement);
      statements.forget(statement, old);
      expect(statements.use(statement)).toEqual({ prepared: young, isNew: false });
      expect(statements.takeEvicted()).toEqual([old.name]);
    });

    // Its Parse may be under way still: a client that gave up waiting does not know.
    it('closes a name that the server has not confirmed, which is no error where it has none', () => {
      const { catalog, statements } = open();
      const statement = repeated(catalog, 'SELECT 1');
      const { prepared } = statements.use(statement)!;
      statements.forget(statement, prepared);
      expect(statements.takeEvicted()).toEqual([prepared.name]);
    });
  });

  it('clear: the session has none, so there is nothing to close either', () => {
    const { catalog, statements } = open(2);
    const all = [1, 2, 3].map((text) => repeated(catalog, `SELECT ${text}`));
    for (const statement of all) prepare(statements, statement);
    statements.clear();
    expect(statements.takeEvicted()).toEqual([]);
    for (const statement of all.slice(0, 2)) expect(statements.use(statement)).toMatchObject({ isNew: true });
    expect(statements.takeEvicted()).toEqual([]);
  });

  describe('distrust', () => {
    it('makes no more names, forgets those that there are, and warns once', () => {
      const { catalog, statements, warnings } = open();
      const statement = repeated(catalog, 'SELECT 1');
      prepare(statements, statement);
      statements.distrust('prepared statement does not exist');
      statements.distrust('prepared statement does not exist');
      expect(statements.use(statement)).toBeUndefined();
      expect(statements.takeEvicted()).toEqual([]);
      expect(warnings).toHaveLength(1);
    });

    it("holds for the pool's other sessions, and for what they have named already", () => {
      const { catalog, statements } = open();
      const other = new PreparedStatements(catalog);
      const statement = repeated(catalog, 'SELECT 1');
      prepare(statements, statement);
      prepare(other, statement);
      statements.distrust('prepared statement does not exist');
      expect(other.use(statement)).toBeUndefined();
    });
  });
});
