/** One process to run. */
export interface Entry {
  readonly round: number;
  readonly workload: string;
  readonly subject: string;
  /** It is the baseline once more, measured like a contender: what its ratio differs from 1 is noise. */
  readonly isControl: boolean;
  /** Entries of one round of one workload, in the order in which they run. */
  readonly position: number;
}

export interface Plan {
  readonly workload: string;
  readonly rounds: number;
  readonly contenders: readonly string[];
  /** Contenders that are not in every round, but in so many: the first ones. */
  readonly occasional?: { readonly contenders: readonly string[]; readonly rounds: number };
}

/** So many contenders at most between two runs of the baseline. */
const BETWEEN_BASELINES = 3;

/**
 * All processes of a run: every round has the workloads in another order, and each of them the contenders, among them
 * the baseline as control. The baseline runs first, last, and after every third contender.
 */
export function schedule(plans: readonly Plan[], baseline: string, random: () => number): Entry[] {
  const rounds = Math.max(0, ...plans.map((plan) => plan.rounds));
  const entries: Entry[] = [];
  for (let round = 1; round <= rounds; round++) {
    for (const plan of shuffled(plans, random)) {
      if (round > plan.rounds) continue;
      let position = 0;
      const add = (subject: string, isControl = false): void => {
        entries.push({ round, workload: plan.workload, subject, isControl, position: position++ });
      };
      add(baseline);
      const { occasional } = plan;
      const guests = occasional && round <= occasional.rounds ? occasional.contenders : [];
      const contenders = shuffled([...plan.contenders, ...guests, undefined], random);
      for (const [index, contender] of contenders.entries()) {
        add(contender ?? baseline, contender === undefined);
        if (index % BETWEEN_BASELINES === BETWEEN_BASELINES - 1 || index === contenders.length - 1) add(baseline);
      }
    }
  }
  return entries;
}

function shuffled<T>(values: readonly T[], random: () => number): T[] {
  const result = [...values];
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [result[last], result[other]] = [result[other] as T, result[last] as T];
  }
  return result;
}

/** Numbers in [0, 1) that are the same for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
