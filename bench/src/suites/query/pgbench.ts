import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import type { Bench } from '../../harness/bench.js';
import { childrenCpuMicros } from '../../harness/cpu-time.js';
import { MissingError } from '../../harness/missing.js';
import type { Values } from '../../harness/suite.js';
import { CONNECTIONS, type QuerySubject, type Script } from './subject.js';

const run = promisify(execFile);

/** Where Debian has it, which is not on the PATH. */
const DEBIAN = '/usr/lib/postgresql';

function find(): string {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).sort((one, other) => Number(other) - Number(one)) : [];
  const paths = [...folders, ...versions.map((version) => join(DEBIAN, version, 'bin'))]
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, 'pgbench'));
  const found = paths.find((path) => existsSync(path));
  if (found === undefined) throw new MissingError('there is no pgbench on the PATH');
  return found;
}

/** Statements of one connection under way at once, so that all connections together have `concurrency` of them. */
function depthOf(concurrency: number): number {
  return Math.max(1, Math.floor(concurrency / CONNECTIONS));
}

function fileOf({ text, variables }: Script, depth: number): string {
  const sets = Object.entries(variables).map(([name, expression]) => `\\set ${name} ${expression}`);
  const once = [...sets, `${text};`];
  const lines = Array.from({ length: depth }, () => once).flat();
  return [...(depth > 1 ? ['\\startpipeline', ...lines, '\\endpipeline'] : lines), ''].join('\n');
}

async function measure(path: string, script: Script, concurrency: number, bench: Bench): Promise<Values> {
  const folder = await mkdtemp(join(tmpdir(), 'nestjs-pg-bench-'));
  try {
    const file = join(folder, 'script.sql');
    const depth = depthOf(concurrency);
    await writeFile(file, fileOf(script, depth));
    const clients = String(Math.min(concurrency, CONNECTIONS));
    // It knows whole seconds only.
    const howLong = bench.profile.maxCount === Infinity ? ['--time=1'] : ['--transactions=2'];
    const options = ['--no-vacuum', '--protocol=prepared', `--client=${clients}`, '--jobs=1', `--file=${file}`];
    const clientBefore = childrenCpuMicros();
    const { stdout } = await run(path, [...options, ...howLong, bench.connectionString]);
    const clientCpu = childrenCpuMicros() - clientBefore;
    const scripts = Number(/^number of transactions actually processed: (\d+)/m.exec(stdout)?.[1]);
    const perSecond = Number(/^tps = ([\d.]+)/m.exec(stdout)?.[1]);
    const millis = Number(/^latency average = ([\d.]+) ms/m.exec(stdout)?.[1]);
    if (!(scripts > 0 && perSecond > 0)) throw new Error(`pgbench said ${JSON.stringify(stdout)}`);
    // A pipeline is one transaction to it, with one Sync.
    return { rate: perSecond * depth, p50: millis, 'client CPU': clientCpu / (scripts * depth) };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** In C, with libpq: the limit. Prepared, and pipelined where there are more callers than connections. */
export async function pgbench(): Promise<QuerySubject> {
  const path = find();
  return { measure: (script, concurrency, bench) => measure(path, script, bench.count(concurrency), bench) };
}
