import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { Bench } from '../../harness/bench.js';
import { MissingError } from '../../harness/missing.js';
import { quantile } from '../../harness/statistics.js';
import { defineSuite, type Values, type Workload } from '../../harness/suite.js';

const PLAIN = 'pg in a provider';
const OURS = 'nestjs-pg';
const TYPEORM = '@nestjs/typeorm';

/** The name of a program beside this package's sources, which tells its parent when it is ready. */
type Program = string;

const SAMPLES = 3;
const CELL = 'one connection';

function pathOf(program: Program): string {
  return fileURLToPath(new URL(`../../../programs/${program}.mjs`, import.meta.url));
}

function isInstalled(name: string): boolean {
  try {
    return Boolean(createRequire(import.meta.url).resolve(name));
  } catch {
    return false;
  }
}

async function start(program: Program, connectionString: string): Promise<{ millis: number; bytes: number }> {
  const began = performance.now();
  const child = fork(pathOf(program), [connectionString], { execArgv: [] });
  const gone = once(child, 'exit');
  const answer = (await Promise.race([once(child, 'message'), gone])) as [unknown];
  const millis = performance.now() - began;
  const [ready] = answer as [{ bytes: number } | number | null];
  if (typeof ready !== 'object' || ready === null) throw new Error(`${program} ended with ${String(ready)}`);
  await gone;
  return { millis, bytes: ready.bytes };
}

async function measure(program: Program, bench: Bench): Promise<Values> {
  const times: number[] = [];
  const sizes: number[] = [];
  for (let sample = 0; sample < (bench.profile.name === 'record' ? SAMPLES : 1); sample++) {
    const { millis, bytes } = await start(program, bench.connectionString);
    times.push(millis);
    sizes.push(bytes);
  }
  return { time: quantile(times, 0.5), memory: quantile(sizes, 0.5) };
}

const context: Workload<Program> = {
  name: 'context',
  about:
    'From the start of a process until its Nest context is there and one connection has answered `SELECT 1`. The median ' +
    `of ${SAMPLES} processes (one in a quick run), and their resident memory then.`,
  metrics: { time: { unit: 'ms', better: 'less' }, memory: { unit: 'bytes', better: 'less' } },
  cells: [{ name: CELL, measure }],
  rounds: { quick: 2, record: 5 },
};

/** How long an application takes to start. */
export const startupSuite = defineSuite<Program>({
  name: 'startup',
  title: 'nestjs-pg beside its peers: starting an application',
  subjects: {
    [PLAIN]: async () => 'start-provider',
    [OURS]: async () => 'start-nestjs-pg',
    [TYPEORM]: async () => {
      if (!isInstalled(TYPEORM)) throw new MissingError(`${TYPEORM} is not installed`);
      return 'start-typeorm';
    },
  },
  baseline: PLAIN,
  packages: ['@nestjs/typeorm', 'typeorm'],
  workloads: [context],
  goals: [
    {
      title: `context: time, ratio to ${PLAIN}`,
      value: (summary) => summary.ratio('context', CELL, 'time', OURS),
      atMost: 1.05,
    },
    {
      title: `context: time, ratio to ${TYPEORM}`,
      value: (summary) => {
        const [ours, theirs] = [OURS, TYPEORM].map((name) => summary.ratio('context', CELL, 'time', name));
        return ours === undefined || theirs === undefined ? undefined : ours / theirs;
      },
      atMost: 0.75,
    },
  ],
});
