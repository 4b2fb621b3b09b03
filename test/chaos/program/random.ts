/** In [0, 1). */
export type Random = () => number;

/** Chance that can be had again: the same seed gives the same numbers (mulberry32). */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A whole number from `low` up to and without `high`. */
export function between(random: Random, low: number, high: number): number {
  return low + Math.floor(random() * (high - low));
}

export function shuffled<T>(random: Random, items: readonly T[]): T[] {
  const result = [...items];
  for (let last = result.length - 1; last > 0; last--) {
    const other = between(random, 0, last + 1);
    [result[last], result[other]] = [result[other]!, result[last]!];
  }
  return result;
}
