import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import type { PostgresServer } from 'nestjs-pg/testing';
import { freePort } from '../../lib/testing/free-port.js';
import { waitFor } from './wait-for.js';

export interface PgBouncerVersion {
  readonly text: string;
  /** It can be told to keep prepared statements in transaction and statement mode: since 1.21. */
  readonly canKeepStatements: boolean;
}

/** The `pgbouncer` on PATH, or why there is none to be used. */
export async function findPgBouncer(): Promise<PgBouncerVersion | string> {
  try {
    const { stdout } = await promisify(execFile)('pgbouncer', ['--version']);
    const [, major = '', minor = ''] = /PgBouncer (\d+)\.(\d+)/.exec(stdout) ?? [];
    if (major === '') return `the pgbouncer on PATH does not tell its version: ${stdout}`;
    return { text: `${major}.${minor}`, canKeepStatements: Number(major) > 1 || Number(minor) >= 21 };
  } catch (error) {
    return `there is no pgbouncer on PATH that runs: ${(error as Error).message.trim()}`;
  }
}

export interface PgBouncer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
}

/** Starts PgBouncer in front of `server`, with a line for each setting. Two sessions are shared, each in its turn. */
export async function startPgBouncer(
  server: PostgresServer,
  settings: Readonly<Record<string, string | number>>,
): Promise<PgBouncer> {
  const host = '127.0.0.1';
  const port = await freePort([host]);
  const folder = await mkdtemp(join(tmpdir(), 'nestjs-pg-bouncer-'));
  // It does not run as root.
  await chmod(folder, 0o755);
  const isRoot = process.getuid?.() === 0;
  const lines = Object.entries({
    listen_addr: host,
    listen_port: port,
    unix_socket_dir: '',
    auth_type: 'trust',
    auth_file: join(folder, 'users.txt'),
    default_pool_size: 2,
    server_round_robin: 1,
    ...(isRoot ? { user: 'nobody' } : {}),
    ...settings,
  }).map(([name, value]) => `${name} = ${value}`);
  const target = `host=${server.host} port=${server.port} user=${server.user} password=${server.password}`;
  await writeFile(join(folder, 'users.txt'), `"${server.user}" ""\n`);
  const config = join(folder, 'pgbouncer.ini');
  await writeFile(config, ['[databases]', `* = ${target}`, '[pgbouncer]', ...lines, ''].join('\n'));
  const child = spawn('pgbouncer', ['--quiet', config], { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const gone = once(child, 'exit');
  const connect = async (database: string): Promise<pg.Client> => {
    const client = new pg.Client({ host, port, user: server.user, password: 'unasked', database });
    await client.connect();
    return client;
  };
  const bouncer: PgBouncer = {
    host,
    port,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await gone;
      await rm(folder, { recursive: true, force: true });
    },
  };
  try {
    await waitFor(
      async () => {
        if (child.exitCode !== null) return true;
        await (await connect(server.database)).end();
        return true;
      },
      { message: 'PgBouncer to serve', deadline: 20_000, every: 20 },
    );
    if (child.exitCode !== null) throw new Error(`PgBouncer has exited:\n${log}`);
    return bouncer;
  } catch (error) {
    await bouncer[Symbol.asyncDispose]();
    throw error;
  }
}
