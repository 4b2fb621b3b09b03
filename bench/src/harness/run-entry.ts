import { setTimeout as delay } from 'node:timers/promises';
import { Bench, type ServerUnderTest } from './bench.js';
import { childrenCpuMicros, clientCpuMicros, machineCpuMicros, serverCpuMicros } from './cpu-time.js';
import type { Profile } from './profile.js';
import { cellsOf, workloadOf, type Suite, type Values } from './suite.js';

/** Of what a cell was measured. */
export interface CellResult {
  readonly cell: string;
  readonly values: Values;
  /** How many cores others used meanwhile, on average; `undefined` where that cannot be known. */
  readonly foreignCores: number | undefined;
  readonly attempts: number;
}

/** Others that use less than this do no harm; a cell during which they used more is measured again. */
const QUIET_CORES = 0.15;
/** How long one look at what others do takes. */
const LOOK_MILLIS = 50;
/** What takes longer is not measured twice: disturbances even out, and the run would take too long. */
const LONG_MILLIS = 2_000;

/** Measures all cells of a workload that a subject has, or only those with these names, in this process. */
export async function runEntry(
  suite: Suite,
  workloadName: string,
  subjectName: string,
  profile: Profile,
  server: ServerUnderTest,
  cells?: readonly string[],
): Promise<CellResult[]> {
  const workload = workloadOf(suite, workloadName);
  const load = suite.subjects[subjectName];
  if (!load) throw new Error(`${suite.name} has no subject ${subjectName}`);
  const subject = await load();
  const results: CellResult[] = [];
  for (const { name, measure } of cellsOf(workload, subjectName, suite.baseline, cells)) {
    let best: CellResult | undefined;
    const began = performance.now();
    for (let attempt = 1; attempt <= profile.attempts; attempt++) {
      await untilQuiet(profile.patienceMillis, server);
      const { values, foreignCores } = await disturbanceOf(() => measure(subject, new Bench(profile, server)), server);
      const isBetter = best === undefined || (foreignCores ?? 0) < (best.foreignCores ?? 0);
      best = { ...(isBetter || !best ? { cell: name, values, foreignCores } : best), attempts: attempt };
      if ((best.foreignCores ?? 0) <= QUIET_CORES || performance.now() - began > LONG_MILLIS) break;
    }
    if (best) results.push(best);
  }
  return results;
}

/** Returns when nobody else uses the machine, or when patience is over. */
async function untilQuiet(patienceMillis: number, server: ServerUnderTest): Promise<void> {
  const end = performance.now() + patienceMillis;
  while (performance.now() < end) {
    const { foreignCores } = await disturbanceOf(async () => {
      await delay(LOOK_MILLIS);
      return {};
    }, server);
    if (foreignCores === undefined || foreignCores <= QUIET_CORES) return;
  }
}

async function disturbanceOf(
  measure: () => Promise<Values>,
  { pid }: ServerUnderTest,
): Promise<{ values: Values; foreignCores: number | undefined }> {
  const used = (): number[] | undefined => {
    const machine = machineCpuMicros();
    const server = serverCpuMicros(pid);
    return machine === undefined || server === undefined
      ? undefined
      : [machine, server + clientCpuMicros() + childrenCpuMicros(), performance.now() * 1000];
  };
  const before = used();
  const values = await measure();
  const after = used();
  if (!before || !after) return { values, foreignCores: undefined };
  const [machine = 0, own = 0, wall = 1] = after.map((value, index) => value - (before[index] ?? 0));
  return { values, foreignCores: Math.max(0, machine - own) / wall };
}
