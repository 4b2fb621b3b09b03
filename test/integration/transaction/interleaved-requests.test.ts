import { once } from 'node:events';
import { createServer, request, Agent, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate as tick } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { PgPool } from 'nestjs-pg';
import { adminQuery } from '../../support/postgres.js';
import { expectNothingLeft, openPool, server } from './fixture.js';

const REQUESTS = 10_000;
const AT_ONCE = 100;
const isOutside = (id: number): boolean => id % 3 !== 0;

/** A repository that knows of no transaction. */
class Visits {
  readonly #pool: PgPool;

  constructor(pool: PgPool) {
    this.#pool = pool;
  }

  async add(id: number): Promise<void> {
    await this.#pool.query('INSERT INTO visit (id, transaction) VALUES ($1, pg_current_xact_id())', [id]);
  }

  /** What this request sees of its transaction: its tenant, and its own visits that nobody else sees yet. */
  async mine(): Promise<{ tenant: string; ids: number[] }> {
    const { rows } = await this.#pool.query<{ tenant: string; ids: number[] }>(
      `SELECT current_setting('app.request', true) AS tenant,
              (SELECT coalesce(array_agg(id), '{}') FROM visit WHERE transaction = pg_current_xact_id_if_assigned()) AS ids`,
    );
    return rows[0] ?? { tenant: '', ids: [] };
  }
}

it(`keeps ${REQUESTS} interleaved requests through HTTP apart from each other`, async () => {
  await adminQuery(server(), 'CREATE UNLOGGED TABLE visit (id int, transaction xid8)');
  const pool = openPool('interleaved', { pool: { max: 10, acquireTimeoutMillis: 60_000 } });
  const visits = new Visits(pool);
  const handle = async (id: number): Promise<string> => {
    // Some have no transaction, some fail, some nest, some come back from a timer.
    if (isOutside(id)) {
      const seen = await visits.mine();
      return seen.ids.length === 0 && !seen.tenant && !pool.currentTransaction
        ? 'outside'
        : `leaked ${JSON.stringify(seen)}`;
    }
    const work = pool.transaction(
      async (transaction) => {
        await visits.add(id);
        if (id % 2 === 0) await tick();
        if (id % 7 === 0) await pool.transaction(() => visits.add(id));
        const { tenant, ids } = await visits.mine();
        const expected = id % 7 === 0 ? [id, id] : [id];
        if (tenant !== String(id) || ids.join() !== expected.join() || pool.currentTransaction !== transaction) {
          return `leaked ${id}: ${tenant} ${ids.join()}`;
        }
        if (id % 11 === 0) throw new Error('rolled back');
        return 'inside';
      },
      { settings: { 'app.request': id } },
    );
    return work.catch((error: Error) => error.message);
  };
  const http = createServer((incoming, outgoing) => {
    void handle(Number(incoming.url?.slice(1))).then((answer) => outgoing.end(answer));
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const { port } = http.address() as AddressInfo;
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
  const ask = async (id: number): Promise<string> => {
    const asking = request({ port, host: '127.0.0.1', path: `/${id}`, agent }).end();
    const [answer] = (await once(asking, 'response')) as [IncomingMessage];
    let text = '';
    for await (const chunk of answer) text += String(chunk);
    return text;
  };
  const answers = new Map<string, number>();
  let next = 0;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (next < REQUESTS) {
        const answer = await ask(++next);
        answers.set(answer, (answers.get(answer) ?? 0) + 1);
      }
    }),
  );
  agent.destroy();
  http.close();
  const ids = Array.from({ length: REQUESTS }, (_, index) => index + 1);
  const rolledBack = ids.filter((id) => !isOutside(id) && id % 11 === 0).length;
  const outside = ids.filter((id) => isOutside(id)).length;
  expect(Object.fromEntries(answers)).toEqual({
    outside,
    'rolled back': rolledBack,
    inside: REQUESTS - outside - rolledBack,
  });
  const kept = ids.filter((id) => !isOutside(id) && id % 11 !== 0);
  const twice = kept.filter((id) => id % 7 === 0);
  const { rows } = await pool.query('SELECT count(*)::int AS rows, count(DISTINCT id)::int AS ids FROM visit');
  expect(rows).toEqual([{ rows: kept.length + twice.length, ids: kept.length }]);
  expect(pool.stats().connects).toBeLessThanOrEqual(10);
  expect(pool.stats()).toMatchObject({ retired: {}, resets: 0 });
  await expectNothingLeft(pool);
}, 180_000);
