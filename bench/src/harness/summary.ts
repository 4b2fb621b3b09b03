import type { CellResult } from './run-entry.js';
import type { Entry } from './schedule.js';
import { geometricMean, spreadOf, type Spread } from './statistics.js';
import type { Metric, Suite } from './suite.js';

/** One line of the raw results. */
export interface Sample extends Entry, CellResult {}

/** What one subject reached in one metric of one cell. */
export interface Figure {
  readonly workload: string;
  readonly cell: string;
  readonly metric: string;
  /** The control is named {@link controlOf} the baseline. */
  readonly subject: string;
  readonly value: Spread;
  /** Of each value to those of the baseline next to it; not for the baseline itself, nor where that measured 0. */
  readonly ratio: Spread | undefined;
}

export function controlOf(baseline: string): string {
  return `${baseline} again`;
}

/** Medians and ratios of a run. */
export class Summary {
  readonly figures: readonly Figure[];

  constructor(suite: Suite, samples: readonly Sample[]) {
    this.figures = suite.workloads.flatMap((workload) =>
      workload.cells.flatMap(({ name }) => {
        const ofCell = samples.filter((sample) => sample.workload === workload.name && sample.cell === name);
        return Object.keys(workload.metrics).flatMap((metric) => figuresOf(suite, ofCell, metric));
      }),
    );
  }

  figure(workload: string, cell: string, metric: string, subject: string): Figure | undefined {
    return this.figures.find(
      (figure) =>
        figure.workload === workload && figure.cell === cell && figure.metric === metric && figure.subject === subject,
    );
  }

  /** The median. */
  value(...path: [workload: string, cell: string, metric: string, subject: string]): number | undefined {
    return this.figure(...path)?.value.median;
  }

  /** The median ratio to the baseline. */
  ratio(...path: [workload: string, cell: string, metric: string, subject: string]): number | undefined {
    return this.figure(...path)?.ratio?.median;
  }
}

/** The figures of all subjects for one metric of one cell. */
function figuresOf({ subjects, baseline }: Suite, samples: readonly Sample[], metric: string): Figure[] {
  return [...Object.keys(subjects), controlOf(baseline)].flatMap((subject) => {
    const isControl = subject === controlOf(baseline);
    const own = samples.filter((sample) =>
      isControl ? sample.isControl : sample.subject === subject && !sample.isControl,
    );
    const value = spreadOf(own.map(({ values }) => values[metric]).filter((one) => one !== undefined));
    const [first] = own;
    if (!value || !first) return [];
    const ratios = own.map((sample) => ratioOf(sample, samples, metric, baseline)).filter((one) => one !== undefined);
    const { workload, cell } = first;
    return [{ workload, cell, metric, subject, value, ratio: subject === baseline ? undefined : spreadOf(ratios) }];
  });
}

function ratioOf(sample: Sample, samples: readonly Sample[], metric: string, baseline: string): number | undefined {
  const value = sample.values[metric];
  const neighbours = samples.filter(
    (other) => other.round === sample.round && other.subject === baseline && !other.isControl,
  );
  const before = neighbours.findLast(({ position }) => position < sample.position)?.values[metric];
  const after = neighbours.find(({ position }) => position > sample.position)?.values[metric];
  const around = [before, after].filter((one) => one !== undefined && one > 0) as number[];
  return value === undefined || around.length === 0 ? undefined : value / geometricMean(around);
}

/** The metric of a figure. */
export function metricOf(suite: Suite, figure: Figure): Metric | undefined {
  return suite.workloads.find(({ name }) => name === figure.workload)?.metrics[figure.metric];
}
