import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { ServerUnderTest } from './bench.js';
import type { Answer, Job } from './entry.js';
import type { Profile } from './profile.js';
import { schedule, type Entry, type Plan } from './schedule.js';
import { cellsOf, workloadOf, type Suite, type Workload } from './suite.js';
import type { Sample } from './summary.js';

export interface RunOptions {
  readonly profile: Profile;
  readonly server: ServerUnderTest;
  readonly random: () => number;
  /** Only these workloads, or cells of workloads (`point: c=10`); default: all. */
  readonly only?: readonly string[];
  /** Only these subjects beside the baseline; default: all. They run in every round. */
  readonly subjects?: readonly string[];
  /** Arguments for the Node of every entry. */
  readonly nodeArguments?: (entry: Entry) => string[];
  readonly sampled: (sample: Sample) => void;
  readonly progress: (line: string) => void;
}

const ENTRY = fileURLToPath(new URL('entry.js', import.meta.url));
/** For an entry that hangs. */
const ENTRY_MILLIS = 180_000;

/** Runs a suite, each entry in a process of its own, one after the other. @returns what has gone wrong */
export async function run(suite: Suite, options: RunOptions): Promise<string[]> {
  const { profile, server, random, sampled, progress } = options;
  const plans = suite.workloads
    .filter((workload) => wantedCells(workload, options.only)?.length !== 0)
    .map((workload) => planOf(suite, workload, options));
  const entries = schedule(plans, suite.baseline, random);
  const missing = new Set<string>();
  const failures: string[] = [];
  for (const [index, entry] of entries.entries()) {
    if (missing.has(entry.subject)) continue;
    const began = performance.now();
    const { workload, subject } = entry;
    const cells = wantedCells(workloadOf(suite, workload), options.only);
    const job = { suite: suite.name, workload, cells, subject, profile: profile.name, server };
    const answer = await answerOf(job, options.nodeArguments?.(entry) ?? []);
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    progress(`${index + 1}/${entries.length} round ${entry.round} ${workload} ${subject} ${seconds} s`);
    if ('results' in answer) for (const result of answer.results) sampled({ ...entry, ...result });
    else if ('missing' in answer && subject !== suite.baseline) {
      missing.add(subject);
      progress(`${subject} is left out: ${answer.missing}`);
    } else {
      const what = 'missing' in answer ? answer.missing : answer.failure;
      failures.push(`${workload}, ${subject}, round ${entry.round}: ${what}`);
    }
  }
  return failures;
}

/** `undefined`: all of them. */
function wantedCells({ name, cells }: Workload<unknown>, only: readonly string[] | undefined): string[] | undefined {
  if (only === undefined || only.includes(name)) return undefined;
  return cells.map((cell) => cell.name).filter((cell) => only.includes(`${name}: ${cell}`));
}

function planOf(suite: Suite, workload: Workload<unknown>, { profile, only, ...options }: RunOptions): Plan {
  const cells = wantedCells(workload, only);
  const subjects = options.subjects ?? (profile.name === 'quick' ? suite.quick : undefined);
  const able = (workload.subjects ?? Object.keys(suite.subjects)).filter(
    (name) =>
      name !== suite.baseline &&
      (subjects?.includes(name) ?? true) &&
      cellsOf(workload, name, suite.baseline, cells).length > 0,
  );
  const isOccasional = (name: string): boolean => subjects === undefined && (suite.occasional?.includes(name) ?? false);
  return {
    workload: workload.name,
    rounds: Math.min(profile.rounds, workload.rounds?.[profile.name] ?? Infinity),
    contenders: able.filter((name) => !isOccasional(name)),
    occasional: { contenders: able.filter(isOccasional), rounds: profile.occasionalRounds },
  };
}

async function answerOf(job: Job, nodeArguments: string[]): Promise<Answer> {
  const { NODE_OPTIONS: _, ...env } = process.env;
  const child = fork(ENTRY, [], { execArgv: nodeArguments, env, timeout: ENTRY_MILLIS });
  let answer: Answer | undefined;
  child.once('message', (message) => (answer = message as Answer));
  child.send(job);
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
  return answer ?? { failure: `the process ended without an answer (${signal ?? `status ${code}`})` };
}
