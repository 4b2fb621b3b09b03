import { setImmediate as tick } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PgPool, PgTransaction } from 'nestjs-pg';
import { sessionsOf, waitFor } from '../../support/postgres.js';
import { expectNothingLeft, failureOf, insert, items, openPool, server, watchPool } from './fixture.js';

describe('an inner transaction', () => {
  it('whose failure is caught undoes its own work only, and leaves the outer one usable', async () => {
    const pool = openPool('caught', { pool: { max: 1 } });
    const mine = new Error('mine');
    await pool.transaction(async (outer) => {
      await outer.query(insert(1));
      const thrown = outer.transaction(async (inner) => {
        await inner.query(insert(2));
        throw mine;
      });
      expect(await failureOf(thrown)).toBe(mine);
      await outer.query(insert(3));
      const failed = outer.transaction(async (inner) => {
        await inner.query(insert(4));
        await inner.query('SELECT 1/0');
      });
      expect(await failureOf(failed)).toMatchObject({ code: '22012' });
      await pool.transaction((inner) => inner.query(insert(5)));
      // As its first statement, and as a swallowed one.
      expect(await failureOf(outer.transaction((inner) => inner.query('SELECT 1/0')))).toMatchObject({ code: '22012' });
      const swallowed = outer.transaction(async (inner) => {
        await inner.query(insert(6));
        await failureOf(inner.query('SELECT 1/0'));
      });
      expect(await failureOf(swallowed)).toMatchObject({ code: 'PG_TRANSACTION_ABORTED', cause: { code: '22012' } });
      await outer.query(insert(7));
    });
    expect(await items()).toEqual([1, 3, 5, 7]);
    expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
    await expectNothingLeft(pool);
  });

  it('begins the outer one where it has the first statement, and its failure leaves that open', async () => {
    const pool = openPool('first', { pool: { max: 1 } });
    await pool.transaction(async (outer) => {
      await failureOf(
        outer.transaction(async (inner) => {
          await inner.query(insert(1));
          throw new Error('mine');
        }),
      );
      await outer.query(insert(2));
    });
    expect(await items()).toEqual([2]);
    const failing = pool.transaction(async (outer) => {
      await outer.transaction((inner) => inner.query(insert(3)));
      throw new Error('mine');
    });
    await failureOf(failing);
    expect(await items()).toEqual([2]);
    await expectNothingLeft(pool);
  });

  it('does not repair a transaction whose statement has failed before it', async () => {
    const pool = openPool('too-late', { pool: { max: 1 } });
    const error = await failureOf(
      pool.transaction(async (outer) => {
        await outer.query(insert(1));
        await failureOf(outer.query('SELECT 1/0'));
        expect(await failureOf(outer.transaction((inner) => inner.query('SELECT 1')))).toMatchObject({ code: '25P02' });
      }),
    );
    expect(error).toMatchObject({ code: 'PG_TRANSACTION_ABORTED', cause: { code: '22012' } });
    expect(await items()).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('knows the one around it, and its end', async () => {
    const pool = openPool('ends', { pool: { max: 1 } });
    let left: PgTransaction | undefined;
    await pool.transaction(async (outer) => {
      expect(outer.outer).toBeUndefined();
      expect(pool.currentTransaction).toBe(outer);
      await outer.transaction(async (inner) => {
        left = inner;
        expect(inner.outer).toBe(outer);
        expect(pool.currentTransaction).toBe(inner);
        expect(inner.isOpen).toBe(true);
        expect(inner.attempt).toBe(outer.attempt);
      });
      expect(left?.isOpen).toBe(false);
      expect(outer.isOpen).toBe(true);
      expect(await failureOf(left?.query(insert(1)) as Promise<unknown>)).toMatchObject({
        code: 'PG_TRANSACTION_ENDED',
      });
      await outer.query(insert(2));
    });
    expect(await items()).toEqual([2]);
    await expectNothingLeft(pool);
  });
});

describe('beside an inner transaction that is open', () => {
  it('another one, a statement of the outer one, a stream and a batch are refused with the reason', async () => {
    const pool = openPool('parallel', { pool: { max: 1 } });
    await pool.transaction(async (outer) => {
      const first = outer.transaction(async (inner) => {
        await inner.query(insert(1));
        await tick();
        await inner.query(insert(2));
      });
      const busy = { code: 'PG_TRANSACTION_BUSY' };
      const second = await failureOf(outer.transaction((inner) => inner.query(insert(3))));
      expect(second).toMatchObject(busy);
      expect(second.message).toMatch(
        /another inner transaction beside an inner transaction that is open.*Await the inner/,
      );
      const statement = await failureOf(outer.query(insert(4)));
      expect(statement).toMatchObject(busy);
      expect(statement.message).toContain('"INSERT INTO item (id) VALUES ($1)"');
      expect(await failureOf(pool.query(insert(5)))).toMatchObject(busy);
      expect(await failureOf(pool.stream('SELECT 1').next())).toMatchObject(busy);
      expect(await failureOf(pool.batch([insert(6)]))).toMatchObject(busy);
      await first;
      await outer.query(insert(7));
    });
    expect(await items()).toEqual([1, 2, 7]);
    await expectNothingLeft(pool);
  });

  it('is refused also from inside of an inner one of its own', async () => {
    const pool = openPool('parallel-deep', { pool: { max: 1 } });
    const results = await pool.transaction((outer) =>
      Promise.allSettled([1, 2, 3].map((id) => outer.transaction((inner) => inner.query(insert(id))))),
    );
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected']);
    expect(await items()).toEqual([1]);
    await pool.transaction((outer) =>
      outer.transaction(async (inner) => {
        const error = await failureOf(inner.transaction(() => outer.query(insert(4))));
        expect(error).toMatchObject({ code: 'PG_TRANSACTION_BUSY' });
      }),
    );
    expect(await items()).toEqual([1]);
    await expectNothingLeft(pool);
  });
});

describe('the options of an inner transaction', () => {
  it('are refused where they cannot be had, and the outer one goes on', async () => {
    const pool = openPool('options', { pool: { max: 1 } });
    await pool.transaction(
      async (outer) => {
        const refused = outer.transaction((inner) => inner.query(insert(1)), { isolation: 'serializable' });
        expect(await failureOf(refused)).toMatchObject({ code: 'PG_CONFIG_INVALID' });
        expect(await failureOf(pool.transaction(() => 1, { role: 'x' }))).toMatchObject({ code: 'PG_CONFIG_INVALID' });
        await outer.transaction((inner) => inner.query(insert(2)), { isolation: 'read committed', readOnly: false });
      },
      { isolation: 'repeatable read' },
    );
    expect(await items()).toEqual([2]);
    await expectNothingLeft(pool);
  });

  it('timeoutMillis cancels its statement and undoes its work; the outer one goes on', async () => {
    const pool = openPool('timeout', { pool: { max: 1 } });
    await pool.transaction(async (outer) => {
      await outer.query(insert(1));
      const timed = outer.transaction(
        async (inner) => {
          await inner.query(insert(2));
          expect(inner.signal.aborted).toBe(false);
          await inner.query('SELECT pg_sleep(600)');
        },
        { timeoutMillis: 30 },
      );
      expect(await failureOf(timed)).toMatchObject({ code: 'PG_TRANSACTION_TIMEOUT' });
      expect(outer.signal.aborted).toBe(false);
      await outer.query(insert(3));
    });
    expect(await items()).toEqual([1, 3]);
    expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
    await expectNothingLeft(pool);
  });

  it('signal does the same, with its reason', async () => {
    const pool = openPool('signal', { pool: { max: 1 } });
    const controller = new AbortController();
    const reason = new Error('enough');
    await pool.transaction(async (outer) => {
      const stopped = outer.transaction(
        async (inner) => {
          await inner.query(insert(1));
          controller.abort(reason);
          // It ignores what it is told.
          await new Promise(() => undefined);
        },
        { signal: controller.signal },
      );
      expect(await failureOf(stopped)).toMatchObject({ code: 'PG_ABORTED', cause: reason });
      await outer.query(insert(2));
    });
    expect(await items()).toEqual([2]);
    await expectNothingLeft(pool);
  });

  it('end with those of the outer one, whatever is open', async () => {
    const pool = openPool('outer-signal', { pool: { max: 1 } });
    let inside: unknown;
    const controller = new AbortController();
    const running = failureOf(
      pool.transaction(
        (outer) =>
          outer.transaction((inner) =>
            inner.transaction(async (innermost) => {
              await innermost.query(insert(1));
              inside = await failureOf(innermost.query('SELECT pg_sleep(600)'));
              throw inside;
            }),
          ),
        { signal: controller.signal },
      ),
    );
    await waitFor(async () => (await sessionsOf(server(), pool.name))[0]?.wait_event === 'PgSleep', {
      message: 'the statement to run',
    });
    controller.abort();
    expect(await running).toMatchObject({ code: 'PG_ABORTED' });
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await waitFor(() => inside, { message: 'the function to hear of it' });
    expect(inside).toMatchObject({ code: '57014' });
    expect(await items()).toEqual([]);
    expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
    await expectNothingLeft(pool);
  });

  it('cannot be kept where the server cannot be reached: then nothing is committed', async () => {
    await using watched = await watchPool('unreachable');
    const { pool, proxy } = watched;
    const error = await failureOf(
      pool.transaction(async (outer) => {
        await outer.query(insert(1));
        // The request to cancel goes nowhere, and the statement is done in the end.
        await proxy.refuse();
        const timed = outer.transaction(
          async (inner) => {
            await inner.query(insert(2));
            await inner.query('SELECT pg_sleep(2)');
          },
          { timeoutMillis: 20 },
        );
        expect(await failureOf(timed)).toMatchObject({ code: 'PG_TRANSACTION_TIMEOUT' });
        // What is not undone must not be committed.
        await failureOf(outer.query(insert(3)));
      }),
    );
    expect(error).toMatchObject({ code: 'PG_CONNECTION_LOST' });
    await proxy.accept();
    await waitFor(async () => (await sessionsOf(server(), pool.name)).length === 0, { message: 'the session to end' });
    expect(await items()).toEqual([]);
    await expectNothingLeft(pool);
  });
});

/** What a transaction does, one after the other. */
type Step =
  | { readonly kind: 'insert' | 'update' | 'stream' | 'batch' | 'conversion' }
  | { readonly kind: 'inner'; readonly steps: readonly Step[]; readonly end: End };
/** How it ends: by itself, by an exception of its own, by an error of the server's, which passes or is swallowed. */
type End = 'returns' | 'throws' | 'fails' | 'swallows';

const { tree } = fc.letrec<{ tree: readonly Step[] }>((tie) => ({
  tree: fc.array(
    fc.oneof(
      { maxDepth: 4, depthIdentifier: 'tree' },
      fc.record({ kind: fc.constantFrom('insert', 'insert', 'update', 'stream', 'batch', 'conversion') }),
      fc.record({
        kind: fc.constant('inner' as const),
        steps: tie('tree'),
        end: fc.constantFrom<End>('returns', 'returns', 'throws', 'fails', 'swallows'),
      }),
    ),
    { maxLength: 5, depthIdentifier: 'tree' },
  ),
}));

class Thrown extends Error {}

/** Runs a tree on the server, and the same on a list: what is undone there must be undone here. */
class Run {
  readonly #pool: PgPool;
  #next = 0;
  /** What the table holds, as far as the transaction that is open sees it. */
  model: number[] = [];

  constructor(pool: PgPool) {
    this.#pool = pool;
  }

  async steps(transaction: PgTransaction, steps: readonly Step[], end: End): Promise<void> {
    for (const step of steps) await this.#step(transaction, step);
    if (end === 'throws') throw new Thrown();
    if (end === 'fails') await transaction.query('SELECT 1/0');
    if (end === 'swallows') await failureOf(this.#pool.query('SELECT 1/0'));
  }

  async #step(transaction: PgTransaction, step: Step): Promise<void> {
    const id = ++this.#next;
    const { rows } = await this.#perhapsLook(transaction, id);
    if (rows) expect(rows).toEqual([...this.model].sort((one, other) => one - other));
    switch (step.kind) {
      case 'insert':
        await (id % 2 ? transaction : this.#pool).query(insert(id));
        this.model.push(id);
        return;
      case 'update':
        await transaction.query('UPDATE item SET id = -id');
        this.model = this.model.map((known) => -known);
        return;
      case 'stream': {
        const seen: number[] = [];
        for await (const row of this.#pool.stream<{ id: number }>('SELECT id FROM item ORDER BY id')) seen.push(row.id);
        expect(seen).toEqual([...this.model].sort((one, other) => one - other));
        return;
      }
      case 'batch':
        await this.#pool.batch([insert(id + 10_000), insert(id + 20_000)]);
        this.model.push(id + 10_000, id + 20_000);
        expect(await failureOf(this.#pool.batch([insert(id + 30_000), 'SELECT 1/0']))).toMatchObject({ index: 1 });
        return;
      case 'conversion': {
        const toPostgres = (): never => {
          throw new Thrown();
        };
        expect(await failureOf(transaction.query('SELECT $1', [{ toPostgres }]))).toBeInstanceOf(Thrown);
        return;
      }
      case 'inner': {
        const before = [...this.model];
        const run = transaction.transaction((inner) => this.steps(inner, step.steps, step.end));
        if (step.end === 'returns') await run;
        else {
          const error = await failureOf(run);
          if (step.end === 'throws') expect(error).toBeInstanceOf(Thrown);
          if (step.end === 'fails') expect(error).toMatchObject({ code: '22012' });
          if (step.end === 'swallows') expect(error).toMatchObject({ code: 'PG_TRANSACTION_ABORTED' });
          this.model = before;
        }
      }
    }
  }

  /** Not always: what travels with the next statement is to meet all kinds of them. */
  async #perhapsLook(transaction: PgTransaction, id: number): Promise<{ rows?: number[] }> {
    if (id % 3 !== 0) return {};
    const { rows } = await transaction.query<{ id: number }>('SELECT id FROM item ORDER BY id');
    return { rows: rows.map((row) => row.id) };
  }
}

describe('trees of inner transactions', () => {
  it('leave in the table what they leave in the model', async () => {
    const pool = openPool('trees', { pool: { max: 1 } });
    await fc.assert(
      fc.asyncProperty(tree, fc.constantFrom<End>('returns', 'throws', 'fails', 'swallows'), async (steps, end) => {
        await pool.query('TRUNCATE item');
        const run = new Run(pool);
        const outcome = pool.transaction((transaction) => run.steps(transaction, steps, end));
        if (end === 'returns') await outcome;
        else await failureOf(outcome);
        const expected = end === 'returns' ? [...run.model].sort((one, other) => one - other) : [];
        const { rows } = await pool.query<{ id: number }>('SELECT id FROM item ORDER BY id');
        expect(rows.map(({ id }) => id)).toEqual(expected);
        expect(pool.stats()).toMatchObject({ connects: 1, retired: {}, resets: 0 });
      }),
      { numRuns: 150 },
    );
    await expectNothingLeft(pool);
  });
});
