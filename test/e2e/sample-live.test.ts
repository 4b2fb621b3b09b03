import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { chromium, type BrowserContext, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { adminQuery, sessionsOf, useServer } from '../support/postgres.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MAIN = join(ROOT, 'sample/04-live/dist/main.js');

/** Generous: it bounds a hang on a busy machine, and says nothing of how long the thing may take. */
const TIMEOUT = 30_000;
const eventually = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: TIMEOUT });

/** `CHROMIUM_PATH`, or the first of Chromium's names that PATH has. */
function browserPath(): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const names = ['chromium', 'chromium-browser', 'google-chrome'];
  const candidates = names.flatMap((name) => folders.map((folder) => join(folder, name)));
  return [process.env['CHROMIUM_PATH'] ?? '', ...candidates].find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return path !== '';
    } catch {
      return false;
    }
  });
}

const executablePath = browserPath();
if (executablePath === undefined) {
  console.warn('sample/04-live is not opened in a browser: there is no Chromium in CHROMIUM_PATH or on PATH.');
}

const QUIET = [
  ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
];

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
    this.exit = once(this.#process, 'close').then(([code, signal]) => ({ code, signal }));
  }

  static async start(env: NodeJS.ProcessEnv = {}): Promise<Sample> {
    const sample = new Sample(env);
    await Promise.race([
      eventually(() => expect(sample.output, sample.errors).toMatch(/^ *Open http/m)),
      sample.exit.then(() => expect.fail(`It ended instead of serving: ${sample.output}${sample.errors}`)),
    ]);
    return sample;
  }

  get url(): string {
    return /Open (http:\S+?)\/ /.exec(this.output)![1]!;
  }

  post(path: string, body: unknown): Promise<Response> {
    return fetch(this.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  }

  stop(): void {
    this.#process.kill('SIGTERM');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) this.#process.kill('SIGKILL');
    await this.exit;
  }
}

/** What `/events` says, as text. */
class Events {
  text = '';
  readonly ended: Promise<void>;

  constructor(response: Response) {
    this.ended = this.#read(response.body!);
  }

  static async of(sample: Sample): Promise<Events> {
    return new Events(await fetch(`${sample.url}/events`));
  }

  /** Types, in their order. */
  get types(): string[] {
    return [...this.text.matchAll(/^event: (.*)$/gm)].map((match) => match[1]!);
  }

  async until(what: string | RegExp): Promise<void> {
    await eventually(() => expect(this.text).toMatch(what));
  }

  async #read(body: ReadableStream<Uint8Array>): Promise<void> {
    for await (const chunk of body.pipeThrough(new TextDecoderStream())) this.text += chunk;
  }
}

describe('sample/04-live', () => {
  const server = useServer();
  beforeAll(() => {
    expect(inject('buildFailure')).toBeUndefined();
  });

  /** Ends the session that listens, and changes something before it can be back. */
  async function cutAndOrder(dish: string): Promise<void> {
    const client = new pg.Client(server().connectionString);
    await client.connect();
    await client.query('BEGIN');
    // Nobody logs in before this is committed: it hears of the end up to 100 ms later, and the sample tries again sooner.
    await client.query('LOCK TABLE pg_database IN ACCESS EXCLUSIVE MODE');
    const { rows } = await client.query<{ ended: boolean }>(
      `WITH listening AS MATERIALIZED (
         SELECT pg_terminate_backend(pid, 5000) AS ended FROM pg_stat_activity WHERE query LIKE 'LISTEN%'
       ), added AS (
         INSERT INTO dish_order (dish, table_number) SELECT $1, 7 FROM listening WHERE ended RETURNING true AS ended
       ) SELECT ended FROM added`,
      [dish],
    );
    await client.query('COMMIT');
    await client.end();
    expect(rows[0]).toEqual({ ended: true });
  }

  it('tells of every change, whoever makes it, and of the whole board at first and after a gap', async () => {
    await using sample = await Sample.start({ DATABASE_URL: server().connectionString });
    const events = await Events.of(sample);
    await events.until(/event: board/);

    const response = await sample.post('/orders', { dish: 'Ramen', table: 3 });
    expect(response.status).toBe(201);
    const { id } = (await response.json()) as { id: number };
    await events.until('"dish":"Ramen","table":3,"status":"new"');
    expect((await sample.post(`/orders/${id}/advance`, { from: 'new' })).status).toBe(204);
    expect((await sample.post(`/orders/${id}/advance`, { from: 'new' })).status).toBe(404);
    await events.until(/"status":"cooking"/);
    await cutAndOrder('Pad thai');
    await events.until(/"isGap":true/);
    const afterGap = events.text.slice(events.text.lastIndexOf('event: board'));
    expect(afterGap).toContain('"dish":"Pad thai"');
    expect(events.types).toEqual(['board', 'order', 'order', 'board']);
    await eventually(() => expect(sample.output).toContain('Ramen for table 3 is cooking'));
    expect((await sample.post('/orders', { dish: '', table: 3 })).status).toBe(400);

    sample.stop();
    await events.ended;
    expect(await sample.exit).toEqual({ code: 0, signal: null });
    expect(sample.errors).toBe('');
    await eventually(async () => expect(await sessionsOf(server())).toEqual([]));
  });

  it('brings its own server where there is no DATABASE_URL', async () => {
    await using sample = await Sample.start();
    const events = await Events.of(sample);
    await sample.post('/orders', { dish: 'Ramen', table: 3 });
    await events.until(/Ramen/);
    sample.stop();
    expect(await sample.exit).toEqual({ code: 0, signal: null });
  });

  describe.skipIf(executablePath === undefined)('in a browser', () => {
    let profile: string;
    let context: BrowserContext;
    beforeAll(async () => {
      profile = mkdtempSync(join(tmpdir(), 'nestjs-pg-browser-'));
      context = await chromium.launchPersistentContext(profile, {
        executablePath: executablePath!,
        args: QUIET,
        chromiumSandbox: false,
        viewport: { width: 1100, height: 720 },
      });
      context.setDefaultTimeout(TIMEOUT);
    });
    afterAll(async () => {
      await context?.close();
      rmSync(profile, { recursive: true, force: true });
    });

    const card = (page: Page, status: string, dish: string): Promise<void> =>
      page.locator(`section[data-status=${status}] li`, { hasText: dish }).waitFor();

    it('shows what somebody else does, in every open page, also after the connection has been killed', async () => {
      await using sample = await Sample.start({ DATABASE_URL: server().connectionString });
      const problems: string[] = [];
      const [first, second] = [await context.newPage(), await context.newPage()];
      for (const page of [first, second]) {
        page.on('pageerror', (error) => problems.push(error.message));
        await page.goto(`${sample.url}/`);
        await page.locator('body[data-state=live]').waitFor();
      }

      await first.getByLabel('Dish').fill('Gnocchi <b>alla</b> sorrentina');
      await first.getByLabel('Table').fill('12');
      await first.getByRole('button', { name: 'Order' }).click();
      for (const page of [first, second]) await card(page, 'new', 'Gnocchi <b>alla</b> sorrentina');

      await second.locator('li', { hasText: 'Gnocchi' }).getByRole('button', { name: 'Cook' }).click();
      for (const page of [first, second]) await card(page, 'cooking', 'Gnocchi');

      await adminQuery(server(), `INSERT INTO dish_order (dish, table_number) VALUES ('Bibimbap', 8)`);
      for (const page of [first, second]) await card(page, 'new', 'Bibimbap');

      await cutAndOrder('Falafel');
      for (const page of [first, second]) {
        await card(page, 'new', 'Falafel');
        await page.getByText('live again: the board was read anew').waitFor();
      }
      await adminQuery(server(), `UPDATE dish_order SET status = 'ready' WHERE dish = 'Falafel'`);
      for (const page of [first, second]) await card(page, 'ready', 'Falafel');

      await server().restart('fast');
      await adminQuery(server(), `INSERT INTO dish_order (dish, table_number) VALUES ('Tagine', 2)`);
      for (const page of [first, second]) await card(page, 'new', 'Tagine');

      // Two pages are open, and hold up nothing.
      sample.stop();
      expect(await sample.exit).toEqual({ code: 0, signal: null });
      await first.locator('body[data-state=connecting]').waitFor();
      expect(problems).toEqual([]);
    }, 180_000);
  });
});
