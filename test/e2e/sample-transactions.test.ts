import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startPostgres, type PostgresServer } from 'nestjs-pg/testing';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, it, vi } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MAIN = join(ROOT, 'sample/03-transactions/dist/main.js');

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** The sample as a process of its own. The global setup has built it. */
class Sample implements AsyncDisposable {
  output = '';
  errors = '';
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly #process: ChildProcess;

  private constructor(env: NodeJS.ProcessEnv) {
    const { DATABASE_URL: _, ...inherited } = process.env;
    this.#process = spawn(process.execPath, [MAIN], {
      cwd: ROOT,
      env: { ...inherited, NO_COLOR: '1', PORT: '0', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process.stdout!.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    this.#process.stderr!.setEncoding('utf8').on('data', (text: string) => (this.errors += text));
    this.exit = once(this.#process, 'close').then(([code, signal]) => ({
      code: code as number | null,
      signal: signal as NodeJS.Signals | null,
    }));
  }

  static async start(env: NodeJS.ProcessEnv = {}): Promise<Sample> {
    const sample = new Sample(env);
    await vi.waitFor(() => expect(sample.output, sample.errors).toMatch(/^ *Try http/m), { timeout: 30_000 });
    return sample;
  }

  async ask(tenant: string | undefined, path: string, order?: object): Promise<Answer> {
    const url = /Try (http:\S+?)\/ /.exec(this.output)![1]!;
    const response = await fetch(url + path, {
      headers: {
        connection: 'close',
        ...(tenant === undefined ? {} : { tenant }),
        ...(order && { 'content-type': 'application/json' }),
      },
      ...(order && { method: 'POST', body: JSON.stringify(order) }),
    });
    return { status: response.status, body: await response.json() };
  }

  async stop(): Promise<void> {
    this.#process.kill('SIGTERM');
    expect(await this.exit).toEqual({ code: 0, signal: null });
    expect(this.errors).toBe('');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) this.#process.kill('SIGKILL');
    await this.exit;
  }
}

describe('sample/03-transactions', () => {
  let server: PostgresServer;

  beforeAll(async () => {
    expect(inject('buildFailure')).toBeUndefined();
    server = await startPostgres();
  });

  afterAll(async () => {
    await server?.close();
  });

  const query = async (text: string): Promise<unknown[]> => {
    const client = new pg.Client(server);
    await client.connect();
    try {
      return (await client.query<Record<string, unknown>>(text)).rows;
    } finally {
      await client.end();
    }
  };

  beforeEach(() => query('drop table if exists stock, purchase'));

  it('places an order whole, or not at all, and sends the mail when it is true', async () => {
    await using sample = await Sample.start({ DATABASE_URL: server.connectionString });
    const placed = await sample.ask('blue', '/orders', { item: 'tea', count: 4 });
    expect(placed).toEqual({ status: 201, body: { id: 1, item: 'tea', count: 4 } });
    expect((await sample.ask('blue', '/stock')).body).toEqual([{ item: 'tea', count: 6 }]);
    expect((await sample.ask('blue', '/mails')).body).toEqual(['Your order 1: 4 x tea']);

    const refused: [object, number, string][] = [
      [{ item: 'tea', count: 40 }, 409, 'There is not so much in stock.'],
      [{ item: 'tea', count: 0 }, 409, 'An order is of one or more.'],
      [{ item: 'coffee', count: 1 }, 404, 'There is no coffee.'],
    ];
    for (const [order, status, message] of refused) {
      expect(await sample.ask('blue', '/orders', order)).toMatchObject({ status, body: { message } });
    }
    // What the two services had done until then is undone, in the database and not only in the answer.
    expect(await query('select id, tenant, item, count from purchase')).toEqual([
      { id: 1, tenant: 'blue', item: 'tea', count: 4 },
    ]);
    expect((await sample.ask('blue', '/stock')).body).toEqual([{ item: 'tea', count: 6 }]);
    expect((await sample.ask('blue', '/mails')).body).toEqual(['Your order 1: 4 x tea']);
    await sample.stop();
  });

  it('keeps tenants apart, on the same connections', async () => {
    await using sample = await Sample.start({ DATABASE_URL: server.connectionString });
    const tenants = ['blue', 'green', 'red'];
    const answers = await Promise.all(
      Array.from({ length: 60 }, async (_, index) => {
        const tenant = tenants[index % 3]!;
        return { tenant, ...(await sample.ask(tenant, '/orders', { item: 'tea', count: 1 })) };
      }),
    );
    const placed = (tenant: string): number =>
      answers.filter((answer) => answer.tenant === tenant && answer.status === 201).length;
    // Ten of each are in stock, and red has nothing.
    expect(tenants.map(placed)).toEqual([10, 10, 0]);
    for (const tenant of tenants) {
      const { body } = await sample.ask(tenant, '/orders');
      const ids = (body as { id: number }[]).map(({ id }) => id);
      expect(ids).toEqual(
        (await query(`select id from purchase where tenant = '${tenant}' order by id`)).map(
          (row) => (row as { id: number }).id,
        ),
      );
    }
    expect((await sample.ask('red', '/stock')).body).toEqual([]);
    expect((await sample.ask(undefined, '/stock')).status).toBe(400);
    expect((await sample.ask('blue', '/orders', { item: 'tea' })).status).toBe(400);
    await sample.stop();
  });

  it('brings its own server where none is given', async () => {
    await using sample = await Sample.start();
    expect((await sample.ask('green', '/stock')).body).toEqual([{ item: 'tea', count: 10 }]);
    await sample.stop();
    expect(sample.output).not.toContain(' WARN ');
  });
});
