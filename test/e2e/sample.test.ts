import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startPostgres, type PostgresServer } from 'nestjs-pg/testing';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it, vi } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MAIN = join(ROOT, 'sample/01-minimal/dist/main.js');

/** The sample as a process of its own. The global setup has built it. */
class Sample implements AsyncDisposable {
  #output = '';
  #errors = '';
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;

  private constructor(readonly process: ChildProcess) {
    process.stdout!.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
    process.stderr!.setEncoding('utf8').on('data', (text: string) => (this.#errors += text));
    this.exit = once(process, 'close').then(([code, signal]) => ({
      code: code as number | null,
      signal: signal as NodeJS.Signals | null,
    }));
  }

  static spawn(env: NodeJS.ProcessEnv, [command, ...args]: [string, ...string[]] = [process.execPath, MAIN]): Sample {
    const { DATABASE_URL: _, ...inherited } = process.env;
    // A process group of its own, so that a test can press Ctrl-C: the terminal signals every process of the group.
    return new Sample(
      spawn(command, args, {
        cwd: ROOT,
        env: { ...inherited, NO_COLOR: '1', PORT: '0', ...env },
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true,
      }),
    );
  }

  static async start(env: NodeJS.ProcessEnv, command?: [string, ...string[]]): Promise<Sample> {
    const sample = Sample.spawn(env, command);
    await Promise.race([
      eventually(() => expect(sample.output, sample.errors).toMatch(/^ *Open http/m)),
      sample.exit.then(() => expect.fail(`It ended instead of serving: ${sample.output}${sample.errors}`)),
    ]);
    return sample;
  }

  get output(): string {
    return this.#output;
  }

  get errors(): string {
    return this.#errors;
  }

  get url(): string {
    return /Open (http:\S+?)\/ /.exec(this.output)![1]!;
  }

  get lives(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  fetch(path: string, init?: RequestInit): Promise<Response> {
    return fetch(this.url + path, init);
  }

  post(path: string, body: unknown): Promise<Response> {
    return this.fetch(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.lives) process.kill(-this.process.pid!, 'SIGKILL');
    await this.exit;
  }
}

async function query<R extends pg.QueryResultRow>(server: pg.ClientConfig, text: string): Promise<R[]> {
  const client = new pg.Client(server);
  await client.connect();
  try {
    return (await client.query<R>(text)).rows;
  } finally {
    await client.end();
  }
}

/** Generous: it bounds a hang on a busy machine, and says nothing of how long the thing may take. */
const eventually = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 30_000 });

/** What the clients of a server are doing, this one not counted. */
const sessions = (server: pg.ClientConfig): Promise<{ state: string; query: string }[]> =>
  query(
    server,
    `select state, query from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`,
  );

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe('sample/01-minimal', () => {
  let server: PostgresServer;
  let env: NodeJS.ProcessEnv;

  beforeAll(async () => {
    expect(inject('buildFailure')).toBeUndefined();
    // The launcher's servers are fast and forgetful; this one has to know its tables after an immediate stop.
    server = await startPostgres({ settings: { synchronous_commit: true } });
    env = { DATABASE_URL: server.connectionString };
  });

  afterAll(async () => {
    await server?.close();
  });

  beforeEach(async () => {
    await query(server, 'drop table if exists task');
  });

  describe('serves', () => {
    let sample: Sample;

    beforeEach(async () => {
      sample = await Sample.start(env);
    });

    afterEach(async () => {
      expect(sample.errors).toBe('');
      await sample[Symbol.asyncDispose]();
    });

    it('a page with the rows, escaped', async () => {
      expect((await sample.post('/tasks', { title: `<b>&"tea"'` })).status).toBe(201);
      const response = await sample.fetch('/');
      expect(response.status).toBe(200);
      expect(response.headers.get('content-type')).toMatch(/^text\/html/);
      const page = await response.text();
      expect(page).toContain('<span>&lt;b&gt;&amp;&quot;tea&quot;&#39;</span>');
      expect(page).not.toContain('<b>');
    });

    it('rows as JSON, added and deleted', async () => {
      const added = await sample.post('/tasks', { title: '  Water the plants ' });
      expect(added.status).toBe(201);
      const task = (await added.json()) as { id: number };
      expect(task).toEqual({ id: 1, title: 'Water the plants', createdAt: expect.stringMatching(/^\d{4}-.*Z$/) });
      expect(await (await sample.fetch('/tasks')).json()).toEqual([task]);

      expect((await sample.fetch('/tasks/1', { method: 'DELETE' })).status).toBe(204);
      expect((await sample.fetch('/tasks/1', { method: 'DELETE' })).status).toBe(404);
      expect(await (await sample.fetch('/tasks')).json()).toEqual([]);
    });

    it('a clean 4xx for what the table refuses', async () => {
      const post = async (body: unknown): Promise<unknown> => (await sample.post('/tasks', body)).json();
      await post({ title: 'once' });
      expect(await post({ title: 'once' })).toMatchObject({
        statusCode: 409,
        message: 'There is already a task with this title.',
      });
      for (const title of ['', '   ', 'x'.repeat(81)]) {
        expect(await post({ title })).toMatchObject({ statusCode: 400, message: 'A title has 1 to 80 characters.' });
      }
      expect(await post({})).toMatchObject({ statusCode: 400 });
      expect(await post({ title: 7 })).toMatchObject({ statusCode: 400 });
      expect((await sample.fetch('/tasks/one', { method: 'DELETE' })).status).toBe(400);
      // A value, never a piece of SQL.
      expect(await post({ title: `'); drop table task; --` })).toMatchObject({ id: expect.any(Number) });
    });

    it('a slow answer, bounded', async () => {
      expect(await (await sample.fetch('/slow?ms=1')).json()).toEqual({ sleptMillis: 1 });
      expect(await (await sample.fetch('/slow?ms=-5')).json()).toEqual({ sleptMillis: 0 });
      expect((await sample.fetch('/slow?ms=x')).status).toBe(400);
    });
  });

  it('answers the request in flight at SIGTERM, then exits 0 with no session left', async () => {
    await using sample = await Sample.start(env);
    // As curl does, which hangs up after its answer; a kept-alive connection is closed by its client, seconds later.
    const answer = sample.fetch('/slow?ms=1000', { headers: { connection: 'close' } });
    await eventually(async () =>
      expect(await sessions(server)).toContainEqual({
        state: 'active',
        query: expect.stringContaining('pg_sleep'),
      }),
    );
    sample.process.kill('SIGTERM');

    const response = await answer;
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ sleptMillis: 1000 });
    expect(await sample.exit).toEqual({ code: 0, signal: null });
    expect(sample.errors).toBe('');
    // The server notices a closed socket a moment after it was closed.
    await eventually(async () => expect(await sessions(server)).toEqual([]));
  });

  it('survives its server: only requests in flight at a crash fail', async () => {
    await using sample = await Sample.start(env);
    interface Outcome {
      startedAt: number;
      endedAt: number;
      status: number;
    }
    const outcomes: Outcome[] = [];
    let going = true;
    const keepAsking = async (): Promise<void> => {
      while (going) {
        const startedAt = performance.now();
        const response = await sample.fetch('/tasks').catch(() => undefined);
        await response?.arrayBuffer();
        outcomes.push({ startedAt, endedAt: performance.now(), status: response?.status ?? 0 });
      }
    };
    const askers = Array.from({ length: 4 }, keepAsking);
    const served = (after: number): Outcome[] =>
      outcomes.filter(({ startedAt, status }) => startedAt > after && status === 200);
    let stoppedAt: number;
    let startedAgainAt: number;
    try {
      await eventually(() => expect(served(0).length).toBeGreaterThan(20));
      stoppedAt = performance.now();
      await server.stop('immediate');
      await server.start();
      startedAgainAt = performance.now();
      await eventually(() => expect(served(startedAgainAt).length).toBeGreaterThan(20));
    } finally {
      going = false;
      await Promise.all(askers);
    }

    expect(sample.lives).toBe(true);
    const failed = outcomes.filter(({ status }) => status !== 200);
    // In flight: begun before the server was back, and not ended before it went.
    expect(failed.filter((one) => one.startedAt > startedAgainAt || one.endedAt < stoppedAt)).toEqual([]);
    sample.process.kill('SIGTERM');
    expect(await sample.exit).toEqual({ code: 0, signal: null });
  });

  it('says which port is taken, if it was asked for', async () => {
    const other = createServer().listen(0);
    await once(other, 'listening');
    try {
      const { port } = other.address() as AddressInfo;
      await using sample = Sample.spawn({ ...env, PORT: String(port) });
      expect(await sample.exit).toEqual({ code: 1, signal: null });
      expect(sample.errors).toContain(`Port ${port} is taken.`);
      await eventually(async () => expect(await sessions(server)).toEqual([]));
    } finally {
      other.close();
    }
  });

  describe('without DATABASE_URL, as `npm start` runs it,', () => {
    it.each([
      ['Ctrl-C', (npm: ChildProcess) => process.kill(-npm.pid!, 'SIGINT')],
      ['SIGTERM', (npm: ChildProcess) => npm.kill('SIGTERM')],
    ])('brings its own server, and leaves no process and no folder after %s', async (_, stop) => {
      // The scripts before it build, which the global setup has done.
      await using sample = await Sample.start({}, ['npm', 'start', '--silent', '--ignore-scripts']);
      expect((await sample.post('/tasks', { title: 'own server' })).status).toBe(201);
      const folder = /folder (\S+)/.exec(sample.output)![1]!;
      // miscadmin.h: LOCK_FILE_LINE_PID, _DATA_DIR, _START_TIME, _PORT, _SOCKET_DIR. The socket asks for no password.
      const [pid, , , port, socketDir] = readFileSync(join(folder, 'postmaster.pid'), 'utf8').split('\n');
      const postmaster = Number(pid);
      const own = { host: socketDir!, port: Number(port), user: 'postgres', database: 'postgres' };
      expect(isAlive(postmaster)).toBe(true);
      const answer = sample.fetch('/slow?ms=300', { headers: { connection: 'close' } });
      await eventually(async () =>
        expect(await sessions(own)).toContainEqual({
          state: 'active',
          query: expect.stringContaining('pg_sleep'),
        }),
      );

      stop(sample.process);

      expect((await answer).status).toBe(200);
      expect(await sample.exit).toEqual({ code: 0, signal: null });
      expect(sample.errors).toBe('');
      // The server goes after the pool, which would complain otherwise.
      expect(sample.output).not.toContain(' WARN ');
      expect(isAlive(postmaster)).toBe(false);
      expect(existsSync(folder)).toBe(false);
    });
  });
});
