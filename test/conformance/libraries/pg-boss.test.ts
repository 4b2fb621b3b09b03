import { once } from 'node:events';
import PgBoss from 'pg-boss';
import { describe, expect, it } from 'vitest';
import type { PgPool } from 'nestjs-pg';
import { adminQuery, terminateBackends } from '../../support/postgres.js';
import { waitFor } from '../../support/wait-for.js';
import { openPoolOfOne, pidOf, through } from './one-connection.js';
import { expectNothingLeft, openPool, server, warningsOf } from './pool-under-test.js';

type Row = Record<string, unknown>;

interface Boss {
  readonly boss: PgBoss;
  /** What pg-boss has told of by its event. */
  readonly errors: Error[];
}

const schemaOf = (pool: PgPool): string => pool.name.replace(/-/g, '_');

/** pg-boss on a pool, in a schema of its own, started. */
async function startBoss(pool: PgPool, schema = schemaOf(pool)): Promise<Boss> {
  const db: PgBoss.Db = { executeSql: (text, values) => pool.query<Row>(text, values) };
  const boss = new PgBoss({ db, schema });
  const errors: Error[] = [];
  boss.on('error', (error) => errors.push(error));
  await boss.start();
  return { boss, errors };
}

async function stop(boss: PgBoss): Promise<void> {
  const stopped = once(boss, 'stopped');
  await boss.stop({ timeout: 20_000 });
  await stopped;
}

const until = (condition: () => boolean, message: string): Promise<boolean> =>
  waitFor(condition, { message, deadline: 30_000, every: 20 });

describe('pg-boss', () => {
  it('sends and works jobs, and leaves the pool to who has made it', async () => {
    const pool = openPool('boss');
    const { boss, errors } = await startBoss(pool);
    await boss.createQueue('mail');
    const done: number[] = [];
    await boss.work<{ n: number }>('mail', { batchSize: 5, pollingIntervalSeconds: 0.5 }, async (jobs) => {
      done.push(...jobs.map(({ data }) => data.n));
    });
    const numbers = Array.from({ length: 25 }, (_, n) => n);
    await Promise.all(numbers.slice(0, 10).map((n) => boss.send('mail', { n })));
    await boss.insert(numbers.slice(10).map((n) => ({ name: 'mail', data: { n } })));
    await until(() => done.length === 25, '25 jobs to be done');
    expect(done.sort((one, other) => one - other)).toEqual(numbers);
    await stop(boss);
    expect(errors).toEqual([]);
    expect(pool.ended).toBe(false);
    expect(warningsOf(pool)).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('does with one connection', async () => {
    const { pool, pid } = await openPoolOfOne('boss-one');
    const { boss, errors } = await startBoss(pool);
    await boss.createQueue('mail');
    const id = await boss.send('mail', { n: 1 });
    const [job] = await boss.fetch<{ n: number }>('mail');
    expect(job).toMatchObject({ id, data: { n: 1 } });
    await boss.complete('mail', id ?? '');
    expect(await boss.getJobById('mail', id ?? '')).toMatchObject({ state: 'completed' });
    await boss.maintain();
    await stop(boss);
    expect(errors).toEqual([]);
    expect(await pidOf(pool)).toBe(pid);
    await expectNothingLeft(pool);
  });

  it('starts from two instances at once', async () => {
    const pool = openPool('boss-two');
    const bosses = await Promise.all([startBoss(pool, 'boss_shared'), startBoss(pool, 'boss_shared')]);
    for (const { boss, errors } of bosses) {
      expect(await boss.isInstalled()).toBe(true);
      await stop(boss);
      expect(errors).toEqual([]);
    }
    await expectNothingLeft(pool);
  });

  it('tries a job again that has failed', async () => {
    const pool = openPool('boss-retry');
    const { boss } = await startBoss(pool);
    await boss.createQueue('mail');
    let tries = 0;
    await boss.work('mail', { pollingIntervalSeconds: 0.5 }, async () => {
      if (++tries === 1) await pool.query('SELECT 1/0');
    });
    const id = (await boss.send('mail', {}, { retryLimit: 2, retryDelay: 0 })) ?? '';
    await until(() => tries === 2, 'the second try');
    await waitFor(async () => (await boss.getJobById('mail', id))?.state === 'completed', {
      message: 'the job to be completed',
      deadline: 20_000,
    });
    await stop(boss);
    expect(pool.stats().retired).toEqual({});
    await expectNothingLeft(pool);
  });

  it('leaves no transaction behind when its script fails, which begins one and ends it in one text', async () => {
    await adminQuery(server(), "CREATE ROLE boss LOGIN PASSWORD 'boss'");
    const { pool, pid } = await openPoolOfOne('boss-script', { ...through(server()), user: 'boss', password: 'boss' });
    await expect(startBoss(pool)).rejects.toMatchObject({ code: '42501' });
    await expect(pool.query('SAVEPOINT s')).rejects.toMatchObject({ code: '25P01' });
    expect(await pidOf(pool)).toBe(pid);
    expect(pool.stats().resets).toBe(1);
    await adminQuery(server(), `GRANT CREATE ON DATABASE ${server().database} TO boss`);
    const { boss } = await startBoss(pool);
    await boss.createQueue('mail');
    await expect(boss.send('mail', { n: 1 })).resolves.toEqual(expect.any(String));
    await stop(boss);
    expect(await pidOf(pool)).toBe(pid);
    await expectNothingLeft(pool);
  });

  it('joins a transaction on a lease', async () => {
    const pool = openPool('boss-transaction');
    const { boss } = await startBoss(pool);
    await boss.createQueue('mail');
    const sendIn = async (end: 'COMMIT' | 'ROLLBACK'): Promise<string> => {
      await using lease = await pool.connect();
      await lease.query('BEGIN');
      const db: PgBoss.Db = { executeSql: (text, values) => lease.query<Row>(text, values) };
      const id = await boss.send('mail', {}, { db });
      await lease.query(end);
      return id ?? '';
    };
    const undone = await sendIn('ROLLBACK');
    const kept = await sendIn('COMMIT');
    expect(await boss.getJobById('mail', undone)).toBeNull();
    expect(await boss.getJobById('mail', kept)).toMatchObject({ state: 'created' });
    await stop(boss);
    await expectNothingLeft(pool);
  });

  it('goes on after all its backends were killed', async () => {
    const pool = openPool('boss-killed');
    const { boss } = await startBoss(pool);
    await boss.createQueue('mail');
    const done = new Set<number>();
    await boss.work<{ n: number }>('mail', { batchSize: 10, pollingIntervalSeconds: 0.5 }, async (jobs) => {
      for (const { data } of jobs) done.add(data.n);
    });
    await boss.send('mail', { n: 1 });
    await until(() => done.has(1), 'the first job');
    await terminateBackends(server(), pool.name);
    await waitFor(() => boss.send('mail', { n: 2 }), { message: 'a job to be sent', deadline: 20_000 });
    await until(() => done.has(2), 'the second job');
    await stop(boss);
    await expectNothingLeft(pool);
    const open = await adminQuery(
      server(),
      `SELECT FROM ${schemaOf(pool)}.job WHERE name = 'mail' AND state < 'completed'`,
    );
    expect(open.length).toBeLessThanOrEqual(1);
  });
});
