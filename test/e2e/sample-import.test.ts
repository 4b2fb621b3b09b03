import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startPostgres, type PostgresServer } from 'nestjs-pg/testing';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, it, vi } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MAIN = join(ROOT, 'sample/05-import/dist/main.js');
const HEADER = 'name,country,population\n';

/** Generous: it bounds a hang on a busy machine, and says nothing of how long the thing may take. */
const eventually = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 30_000 });

describe('sample/05-import', () => {
  let server: PostgresServer;
  let sample: ChildProcess;
  let output = '';
  let errors = '';
  let url: string;

  beforeAll(async () => {
    expect(inject('buildFailure')).toBeUndefined();
    server = await startPostgres();
    sample = spawn(process.execPath, [MAIN], {
      cwd: ROOT,
      env: { ...process.env, DATABASE_URL: server.connectionString, NO_COLOR: '1', PORT: '0' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    sample.stdout!.setEncoding('utf8').on('data', (text: string) => (output += text));
    sample.stderr!.setEncoding('utf8').on('data', (text: string) => (errors += text));
    await eventually(() => expect(output, errors).toMatch(/^ *Open http/m));
    url = /Open (http:\S+?)\/ /.exec(output)![1]!;
  });

  afterAll(async () => {
    if (sample?.exitCode === null) {
      sample.kill('SIGTERM');
      expect((await once(sample, 'close'))[0]).toBe(0);
    }
    await server?.close();
  });

  beforeEach(() => query('truncate city'));

  async function query(text: string): Promise<Record<string, unknown>[]> {
    const client = new pg.Client(server);
    await client.connect();
    try {
      return (await client.query(text)).rows as Record<string, unknown>[];
    } finally {
      await client.end();
    }
  }

  const count = async (): Promise<unknown> => (await query('select count(*)::int as n from city'))[0]!.n;
  const post = (id: string, body: RequestInit['body'], init: RequestInit = {}): Promise<Response> =>
    fetch(`${url}/imports/${id}`, { method: 'POST', body, headers: { 'content-type': 'text/csv' }, ...init });

  it('stores a file and gives it back', async () => {
    const response = await post('one', `${HEADER}Oslo,NO,717710\n"San ""José""",CR,342188\n`);
    expect(response.status).toBe(201);
    expect(await response.json()).toEqual({ rows: 2 });
    const csv = await fetch(`${url}/cities.csv`);
    expect(csv.headers.get('content-type')).toMatch('text/csv');
    expect(await csv.text()).toBe(`${HEADER}Oslo,NO,717710\n"San ""José""",CR,342188\n`);
    expect(await (await fetch(url)).text()).toContain('<output>2</output>');
  });

  it('tells of the progress of a large one', async () => {
    const watching = await fetch(`${url}/imports/two/progress`);
    const body = HEADER + 'Springfield,US,30720\n'.repeat(100_000);
    const response = await post('two', body);
    expect(await response.json()).toEqual({ rows: 100_000 });
    const events = [...(await watching.text()).matchAll(/^data: (.*)$/gm)].map(
      ([, data]) => JSON.parse(data!) as { bytes: number; rows?: number },
    );
    const bytes = events.slice(0, -1).map((event) => event.bytes);
    expect(bytes.length).toBeGreaterThan(5);
    expect(bytes).toEqual([...bytes].sort((a, b) => a - b));
    expect(bytes.at(-1)).toBe(body.length);
    expect(events.at(-1)).toMatchObject({ rows: 100_000 });
  });

  it.each([
    ['a value that is none', `${HEADER}Oslo,NO,717710\nBergen,NO,many\n`, { line: 3, column: 'population' }],
    ['a value too much', `${HEADER}Oslo,NO,717710,x\n`, { line: 2 }],
    ['a value that the table refuses', `${HEADER}Oslo,NO,-1\n`, { line: 2 }],
    ['another header', 'name,population,country\nOslo,1,NO\n', { line: 1 }],
    [
      'a bad line behind many',
      `${HEADER}${'Springfield,US,30720\n'.repeat(50_000)}x,USA,1\n`,
      { line: 50_002, column: 'country' },
    ],
    [
      'a bad line before many',
      `${HEADER}x,USA,1\n${'Springfield,US,30720\n'.repeat(200_000)}`,
      { line: 2, column: 'country' },
    ],
  ])('answers %s with 400 and the place, and stores nothing', async (_, body, place) => {
    await post('good', `${HEADER}Oslo,NO,717710\n`);
    const response = await post('bad', body);
    expect(response.status).toBe(400);
    expect(await response.json()).toEqual({ statusCode: 400, message: expect.any(String), ...place });
    expect(await count()).toBe(1);
  });

  it('keeps nothing of an upload that is broken off', async () => {
    const abort = new AbortController();
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(Buffer.from(HEADER)),
      pull: async (controller) => {
        controller.enqueue(Buffer.from('Springfield,US,30720\n'.repeat(1_000)));
        // As fast as the event loop turns, until it is broken off.
        await new Promise((resolve) => setImmediate(resolve));
      },
    });
    const init = { duplex: 'half', signal: abort.signal } as RequestInit;
    const uploading = post('broken', body, init).catch((error: Error) => error.name);
    const active = (): Promise<unknown[]> => query(`select 1 from pg_stat_progress_copy where tuples_processed > 1000`);
    await eventually(async () => expect(await active()).toHaveLength(1));
    abort.abort();
    expect(await uploading).toBe('AbortError');
    await eventually(async () => expect(await active()).toEqual([]));
    expect(await count()).toBe(0);
    expect(await (await post('next', `${HEADER}Oslo,NO,717710\n`)).json()).toEqual({ rows: 1 });
  });
});
