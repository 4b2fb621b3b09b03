/** The middle of several measurements, and how far they spread. */
export interface Spread {
  readonly n: number;
  readonly median: number;
  /** Lower and upper quartile: half of all values lie between them. */
  readonly q1: number;
  readonly q3: number;
}

/** The value below which the part `p` of the values lies, between two values where it falls between them. */
export function quantile(values: readonly number[] | Float64Array, p: number): number {
  const sorted = Float64Array.from(values).sort();
  const position = (sorted.length - 1) * p;
  const below = sorted[Math.floor(position)];
  const above = sorted[Math.ceil(position)];
  if (below === undefined || above === undefined) throw new RangeError('there is no quantile of no values');
  return below + (above - below) * (position - Math.floor(position));
}

export function spreadOf(values: readonly number[]): Spread | undefined {
  if (values.length === 0) return undefined;
  return {
    n: values.length,
    median: quantile(values, 0.5),
    q1: quantile(values, 0.25),
    q3: quantile(values, 0.75),
  };
}

/** The mean for factors: of 0.5 and 2 it is 1. */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}
