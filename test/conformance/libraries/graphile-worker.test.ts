import { once, type EventEmitter } from 'node:events';
import { Logger, makeWorkerUtils, run, runOnce, type Runner, type RunnerOptions, type TaskList } from 'graphile-worker';
import { describe, expect, it, vi } from 'vitest';
import { createPool, type PgPool } from 'nestjs-pg';
import { adminQuery, sessionsOf, terminateBackends } from '../../support/postgres.js';
import { startProxy } from '../../support/proxy.js';
import { waitFor } from '../../support/wait-for.js';
import { kill, through } from './one-connection.js';
import { expectNothingLeft, openPool, server, warningsOf } from './pool-under-test.js';

/** Says nothing: what has to be known is in the events. */
const logger = new Logger(() => () => undefined);

const schemaOf = (pool: PgPool): string => pool.name.replace(/-/g, '_');

/** A worker that listens, and looks for jobs when it hears of one and not by itself. */
async function start(pool: PgPool, taskList: TaskList, options: RunnerOptions = {}): Promise<Runner> {
  const schema = schemaOf(pool);
  const fixed = { pgPool: pool, taskList, schema, logger, noHandleSignals: true, pollInterval: 600_000 };
  const runner = await run({ ...fixed, ...options });
  // Its first look for jobs finds none. If that failed, the worker would keep the failure and never look again.
  await Promise.all([next(runner, 'worker:getJob:empty'), listenerOf(pool)]);
  return runner;
}

/** The next time that something happens. */
async function next(runner: Runner, event: string): Promise<void> {
  await once(runner.events as unknown as EventEmitter, event);
}

/** The backend that listens for jobs. */
async function listenerOf(pool: PgPool): Promise<number> {
  return waitFor(
    async () => (await sessionsOf(server(), pool.name)).find(({ query }) => query.startsWith('LISTEN'))?.pid,
    { message: 'the worker to listen' },
  );
}

async function stop(runner: Runner): Promise<void> {
  await runner.stop();
  await runner.promise;
}

describe('a worker', () => {
  it('runs jobs as they are added, and gives everything back when it stops', async () => {
    const pool = openPool('worker');
    const done: unknown[] = [];
    const runner = await start(
      pool,
      {
        note: async (payload, { query, withPgClient }) => {
          const asked = await query<{ one: number }>('SELECT 1 AS one');
          const inside = await withPgClient((client) => client.query<{ two: number }>('SELECT 2 AS two'));
          done.push([payload, asked.rows[0]?.one, inside.rows[0]?.two]);
        },
      },
      { concurrency: 3 },
    );
    await Promise.all(Array.from({ length: 30 }, (_, n) => runner.addJob('note', { n })));
    await waitFor(() => done.length === 30, { message: '30 jobs to be done', deadline: 20_000 });
    expect(done).toEqual(expect.arrayContaining(Array.from({ length: 30 }, (_, n) => [{ n }, 1, 2])));
    expect(pool.stats().leased).toBeGreaterThanOrEqual(1);
    await stop(runner);
    expect(pool.ended).toBe(false);
    expect(warningsOf(pool)).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('tries a job again that has failed, and a job that has spoiled its transaction spoils nothing else', async () => {
    const pool = openPool('failing');
    let tries = 0;
    const runner = await start(pool, {
      spoil: async (_, { withPgClient }) => {
        await withPgClient(async (client) => {
          // BEGIN without an end: a known bad habit.
          await client.query('BEGIN');
          await client.query(++tries === 1 ? 'SELECT 1/0' : 'SELECT 1');
        });
      },
    });
    const failed = next(runner, 'job:complete');
    const succeeded = next(runner, 'job:success');
    const job = await runner.addJob('spoil', {});
    await failed;
    const utils = await makeWorkerUtils({ pgPool: pool, schema: schemaOf(pool), logger });
    await utils.rescheduleJobs([job.id], { runAt: new Date() });
    await utils.release();
    await runner.addJob('spoil', {}, { queueName: 'another' });
    await succeeded;
    await waitFor(() => tries === 3, { message: 'three tries' });
    await stop(runner);
    expect(warningsOf(pool).length).toBeGreaterThanOrEqual(2);
    for (const warning of warningsOf(pool)) expect(warning).toContain('rolled back');
    await expectNothingLeft(pool);
  });

  it('finishes the job at hand before it stops', async () => {
    const pool = openPool('graceful');
    let finish: (() => void) | undefined;
    let isFinished = false;
    const runner = await start(pool, {
      long: async (_, { query }) => {
        await new Promise<void>((resolve) => (finish = resolve));
        await query('SELECT 1');
        isFinished = true;
      },
    });
    await runner.addJob('long', {});
    await waitFor(() => finish, { message: 'the job to begin' });
    const stopped = stop(runner);
    finish?.();
    await stopped;
    expect(isFinished).toBe(true);
    await expectNothingLeft(pool);
  });

  it('runs what there is, once, without listening', async () => {
    const pool = openPool('once', { pool: { max: 2 } });
    const schema = schemaOf(pool);
    const utils = await makeWorkerUtils({ pgPool: pool, schema, logger });
    await utils.migrate();
    for (let n = 0; n < 5; n++) await utils.addJob('note', { n });
    await utils.release();
    const done: unknown[] = [];
    const note = (payload: unknown): void => void done.push(payload);
    await runOnce({ pgPool: pool, schema, logger, noHandleSignals: true, taskList: { note } });
    expect(done).toHaveLength(5);
    await expectNothingLeft(pool);
  });

  // It looks for a listener of `connect`, which would give each connection a listener of `error`: ours have one.
  it('asks for no more error handlers than the pool has', async () => {
    const warn = vi.spyOn(console, 'warn').mockReturnValue(undefined);
    // Not openPool(), which listens itself.
    const { connectionString } = server();
    await using pool = createPool({ connectionString, application_name: 'handlers' }, 'handlers');
    const runner = await start(pool, { note: () => undefined });
    await stop(runner);
    const { calls } = warn.mock;
    warn.mockRestore();
    expect(calls).toEqual([]);
  });
});

describe('the connection on which a worker listens', () => {
  it('is borrowed again when its backend is killed, and no job is lost', async () => {
    const pool = openPool('killed-listener');
    const done: unknown[] = [];
    const runner = await start(pool, { note: (payload) => void done.push(payload) });
    const pid = await listenerOf(pool);
    const failed = next(runner, 'pool:listen:error');
    const again = next(runner, 'pool:listen:success');
    await kill(pid);
    await failed;
    await again;
    const other = await listenerOf(pool);
    expect(other).not.toBe(pid);
    await runner.addJob('note', 'after');
    await waitFor(() => done.length === 1, { message: 'the job to be done', deadline: 20_000 });
    await stop(runner);
    await expectNothingLeft(pool);
  });

  it('is borrowed again after all backends were killed, in the midst of jobs', async () => {
    const pool = openPool('killed-all', { pool: { max: 5 } });
    const done = new Set<unknown>();
    let begun = 0;
    const runner = await start(
      pool,
      {
        hold: async (payload, { withPgClient }) => {
          await withPgClient(async (client) => {
            begun++;
            if (begun <= 2) await client.query('SELECT pg_sleep(600)');
            done.add((payload as { n: number }).n);
          });
        },
      },
      { concurrency: 2 },
    );
    const failed = next(runner, 'pool:listen:error');
    const again = next(runner, 'pool:listen:success');
    const jobs = await Promise.all([0, 1, 2, 3].map((n) => runner.addJob('hold', { n })));
    await waitFor(() => begun >= 2, { message: 'two jobs to hold a connection' });
    expect(await terminateBackends(server(), pool.name)).toBeGreaterThanOrEqual(3);
    await Promise.all([failed, again]);
    // Those that were cut off wait for their second try, which can come at once.
    const schema = schemaOf(pool);
    const utils = await makeWorkerUtils({ pgPool: pool, schema, logger });
    const ids = jobs.map(({ id }) => id);
    await waitFor(
      async () => {
        await utils.rescheduleJobs(ids, { runAt: new Date() });
        await runner.addJob('hold', { n: 4 }, { jobKey: 'nudge' });
        return [0, 1, 2, 3].every((n) => done.has(n));
      },
      { message: 'all jobs to be done', deadline: 20_000, every: 50 },
    );
    await utils.release();
    await stop(runner);
    await expectNothingLeft(pool);
  });

  it('comes back with the server', async () => {
    await using proxy = await startProxy({ host: server().host, port: server().port });
    const pool = openPool('outage', { ...through(proxy), pool: { acquireTimeoutMillis: 1_000 } });
    const done: unknown[] = [];
    const runner = await start(pool, { note: (payload) => void done.push(payload) }, { pollInterval: 500 });
    const lost = next(runner, 'pool:listen:error');
    await proxy.refuse();
    proxy.cut();
    await lost;
    // Borrowed in vain: the callback gets an error, and nothing to release.
    await next(runner, 'pool:listen:error');
    const again = next(runner, 'pool:listen:success');
    await proxy.accept();
    await again;
    await runner.addJob('note', 'after');
    await waitFor(() => done.length === 1, { message: 'the job to be done', deadline: 20_000 });
    await stop(runner);
    await expectNothingLeft(pool);
  });

  it('goes back at once when it comes after the worker was stopped', async () => {
    const pool = openPool('late-listener');
    const runner = await start(pool, { note: () => undefined });
    const pid = await listenerOf(pool);
    pool.suspend();
    const again = next(runner, 'pool:listen:connecting');
    await kill(pid);
    await again;
    await waitFor(() => pool.waitingCount === 1, { message: 'the worker to wait for a connection' });
    await stop(runner);
    pool.resume();
    await expectNothingLeft(pool);
  });

  it('hears nothing any more once it is back: the next borrowers do not listen', async () => {
    const pool = openPool('unlistened', { pool: { max: 2 } });
    const runner = await start(pool, { note: () => undefined });
    await stop(runner);
    const leases = await Promise.all([pool.connect(), pool.connect()]);
    const heard: unknown[] = [];
    for (const lease of leases) {
      lease.on('notification', (message) => heard.push(message));
      expect((await lease.query('SELECT * FROM pg_listening_channels()')).rows).toEqual([]);
    }
    await adminQuery(server(), `NOTIFY "jobs:insert", '{"count":1}'`);
    for (const lease of leases) {
      await lease.query('SELECT 1');
      lease.release();
    }
    expect(heard).toEqual([]);
    expect(pool.stats().connects).toBe(2);
    await expectNothingLeft(pool);
  });
});
