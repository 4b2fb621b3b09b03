import type { PostgresOptions } from 'nestjs-pg/testing';
import type { Bench } from './bench.js';
import type { Chart } from './chart.js';
import type { ProfileName } from './profile.js';
import type { Summary } from './summary.js';

export type Unit = 'per second' | 'µs' | 'ms' | 'bytes' | 'count' | 'cores';

export interface Metric {
  readonly unit: Unit;
  readonly better: 'more' | 'less';
}

/** What a cell has measured, by the names of its workload's metrics. One that could not be measured is left out. */
export type Values = Readonly<Record<string, number | undefined>>;

/** One measurement of a workload: a concurrency, a size, a way to call. */
export interface Cell<S> {
  readonly name: string;
  /** Those that can do it; default: all of the workload. The baseline always is. */
  readonly subjects?: readonly string[];
  /** Checks that the subject does what is asked, warms up, measures, and cleans up after itself. */
  readonly measure: (subject: S, bench: Bench) => Promise<Values>;
}

/** What is done to every subject. The cells of a workload share a process, and run in this order. */
export interface Workload<S> {
  readonly name: string;
  /** What it does, in one sentence. */
  readonly about: string;
  readonly metrics: Readonly<Record<string, Metric>>;
  readonly cells: readonly Cell<S>[];
  /** Fewer rounds than the profile has, for what hardly varies. */
  readonly rounds?: Partial<Record<ProfileName, number>>;
  /** Those that can do it; default: all of the suite. The baseline always is. */
  readonly subjects?: readonly string[];
}

/** Who or what must be how good. */
export interface Goal {
  readonly title: string;
  readonly value: (summary: Summary) => number | undefined;
  readonly atLeast?: number;
  readonly atMost?: number;
}

/**
 * Workloads, and those that are measured by them. `S` is how the workloads see a subject: whatever they need, a pool or
 * a function for each statement.
 */
export interface Suite<S = unknown> {
  readonly name: string;
  readonly title: string;
  /** Loaded in the process that measures it and nowhere else. One whose package is missing is left out of the run. */
  readonly subjects: Readonly<Record<string, () => Promise<S>>>;
  /** The name of the subject to which all others are compared. */
  readonly baseline: string;
  /** Subjects for orientation, which no goal names: they run in few rounds. */
  readonly occasional?: readonly string[];
  /** Those of a quick run, beside the baseline; default: all. */
  readonly quick?: readonly string[];
  readonly workloads: readonly Workload<S>[];
  readonly goals: readonly Goal[];
  /** What a recorded run draws. */
  readonly chart?: Chart;
  /** For the embedded server, beside the harness's own settings. */
  readonly server?: () => Promise<PostgresOptions>;
  /** Peers whose versions belong into the report, if they are installed. */
  readonly packages?: readonly string[];
  /** Fills the database, once, before anything is measured. */
  readonly prepare?: (connectionString: string) => Promise<void>;
}

/** @throws if there is none of that name */
export function workloadOf(suite: Suite, name: string): Workload<unknown> {
  const workload = suite.workloads.find((one) => one.name === name);
  if (!workload) throw new Error(`${suite.name} has no workload ${name}`);
  return workload;
}

/** The cells of a workload that a subject has, of those that are wanted: `undefined` is all. */
export function cellsOf<S>(
  workload: Workload<S>,
  subject: string,
  baseline: string,
  wanted: readonly string[] | undefined,
): Cell<S>[] {
  return workload.cells.filter(
    ({ name, subjects }) =>
      (wanted?.includes(name) ?? true) && (subject === baseline || (subjects?.includes(subject) ?? true)),
  );
}

/** A suite as the harness sees it, which hands subjects to workloads without looking at them. */
export function defineSuite<S>(suite: Suite<S>): Suite {
  return suite as unknown as Suite;
}
