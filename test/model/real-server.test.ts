import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createPool, type PgLease, type PgPool } from 'nestjs-pg';
import { startPostgres, type PostgresServer } from 'nestjs-pg/testing';
import { adminQuery, sessionsOf, terminateBackends, waitFor } from '../support/postgres.js';

const STEPS = Number(process.env['MODEL_REAL_STEPS'] ?? 2_000);
const SEED = Number(process.env['MODEL_SEED'] ?? Date.now() % 2 ** 31);
const LENGTH = 100;
const NAME = 'model';

const STATEMENTS = ['SELECT 1', 'SELECT 1', 'SELECT 1/0', 'SELECT pg_sleep(0.01)', 'BEGIN', 'COMMIT', 'ROLLBACK'];
const KINDS = [
  ...['acquire', 'acquire', 'acquire', 'acquire', 'release', 'release', 'release', 'release', 'release'],
  ...['query', 'query', 'query', 'run', 'run', 'run', 'retire', 'evict', 'resize', 'abort', 'kill', 'suspend', 'resume'],
] as const;

const step = fc.record({
  kind: fc.constantFrom(...KINDS),
  which: fc.nat({ max: 20 }),
  text: fc.constantFrom(...STATEMENTS),
});

/** What a step may fail by. */
const REFUSALS = /^(PG_ABORTED|PG_ACQUIRE_TIMEOUT|PG_LEASE_RELEASED|PG_CONNECTION_LOST|22012|25P02|57014|57P01)$|terminat|not queryable|closed/;

class Steps {
  readonly pool: PgPool;
  readonly #server: PostgresServer;
  readonly #held: PgLease[] = [];
  readonly #pending = new Set<Promise<unknown>>();
  readonly #aborts: AbortController[] = [];
  #bound = 4;

  constructor(server: PostgresServer) {
    this.#server = server;
    const { connectionString } = server;
    const pool = { max: 4, maxUses: 30, validateAfterIdleMillis: 5, acquireTimeoutMillis: 20_000 };
    this.pool = createPool({ connectionString, application_name: NAME, pool }, NAME);
    this.pool.on('warning', () => undefined);
  }

  async take({ kind, which, text }: { kind: (typeof KINDS)[number]; which: number; text: string }): Promise<void> {
    const held = this.#held[which % Math.max(1, this.#held.length)];
    switch (kind) {
      case 'acquire': {
        const abort = new AbortController();
        this.#aborts.push(abort);
        this.#await(
          this.pool.connect({ signal: abort.signal }).then((lease) => {
            expect(lease.getTransactionStatus()).toBe('I');
            expect(this.#held.filter((other) => !other.isClosed).map(({ processId }) => processId)).not.toContain(
              lease.processId,
            );
            this.#held.push(lease);
          }),
        );
        break;
      }
      case 'query': {
        const abort = new AbortController();
        this.#aborts.push(abort);
        this.#await(this.pool.query({ text: text === 'BEGIN' ? 'SELECT 2' : text, signal: abort.signal }));
        break;
      }
      case 'run':
        if (held) this.#await(held.query(text));
        break;
      case 'release':
      case 'retire':
        if (held) this.#release(held, kind === 'retire');
        break;
      case 'evict':
        this.pool.evict();
        break;
      case 'resize':
        this.#bound = Math.max(2 + (which % 4), this.pool.totalCount);
        this.pool.resize({ max: 2 + (which % 4) });
        break;
      case 'abort':
        this.#aborts[which % Math.max(1, this.#aborts.length)]?.abort();
        break;
      case 'kill':
        if (which < 3) await terminateBackends(this.#server, NAME);
        break;
      case 'suspend':
        this.pool.suspend();
        break;
      case 'resume':
        this.pool.resume();
        break;
    }
    await new Promise((resolve) => setImmediate(resolve));
    this.check();
  }

  check(): void {
    const { idle, leased, resetting, validating, dialling, total, connects, retired, max } = this.pool.stats();
    expect(idle + leased + resetting + validating + dialling).toBe(total);
    this.#bound = Math.max(max, Math.min(this.#bound, total));
    expect(total).toBeLessThanOrEqual(this.#bound);
    const gone = Object.values(retired).reduce((sum, count) => sum + count, 0);
    expect(connects - gone).toBe(total - dialling);
  }

  /** Everything is given back: the pool rests, and the server sees what it says. */
  async calm(): Promise<void> {
    this.pool.resume();
    while (this.#pending.size > 0 || this.#held.length > 0) {
      for (const lease of [...this.#held]) this.#release(lease, false);
      await Promise.race([...this.#pending, new Promise((resolve) => setImmediate(resolve))]);
    }
    await waitFor(
      async () => {
        const { total, idle } = this.pool.stats();
        return idle === total && (await sessionsOf(this.#server, NAME)).length === total;
      },
      { message: 'the pool to rest, and the server to have as many sessions as the pool' },
    );
    this.check();
    const open = await adminQuery(
      this.#server,
      "SELECT count(*)::int AS count FROM pg_stat_activity WHERE application_name = $1 AND state LIKE 'idle in%'",
      [NAME],
    );
    expect(open).toEqual([{ count: 0 }]);
  }

  #release(lease: PgLease, retire: boolean): void {
    this.#held.splice(this.#held.indexOf(lease), 1);
    lease.release(retire);
    expect(() => lease.release()).toThrow(expect.objectContaining({ code: 'PG_LEASE_RELEASED' }) as Error);
    this.#await(lease.query('SELECT 1').then(() => Promise.reject(new Error('a released lease was used'))));
  }

  #await(work: Promise<unknown>): void {
    const settled = work
      .catch((error: unknown) => {
        const { code, message } = error as { code?: string; message: string };
        expect(code ?? message).toMatch(REFUSALS);
      })
      .finally(() => this.#pending.delete(settled));
    this.#pending.add(settled);
    settled.catch((error: unknown) => this.#failures.push(error));
  }

  readonly #failures: unknown[] = [];

  assertExpected(): void {
    if (this.#failures.length > 0) throw this.#failures[0];
  }
}

it('keeps its promises on a real server, kills and restarts included', { timeout: 300_000 }, async () => {
  console.log(`MODEL_SEED=${SEED}`);
  const runs = fc.sample(fc.array(step, { minLength: LENGTH, maxLength: LENGTH, size: 'max' }), {
    seed: SEED,
    numRuns: Math.ceil(STEPS / LENGTH),
  });
  await using server = await startPostgres();
  for (const [index, run] of runs.entries()) {
    const steps = new Steps(server);
    for (const [place, next] of run.entries()) {
      await steps.take(next);
      if (index % 5 === 4 && place === LENGTH / 2) await server.restart('immediate');
    }
    await steps.calm();
    await steps.pool.end();
    steps.assertExpected();
    expect(steps.pool.stats()).toMatchObject({ total: 0, waiting: 0, leased: 0 });
    await waitFor(async () => (await sessionsOf(server, NAME)).length === 0, { message: 'no session to be left' });
  }
  console.log(`${runs.length * LENGTH} steps on a real server`);
});
