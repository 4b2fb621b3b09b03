import type { Environment } from './environment.js';
import type { Goal, Suite, Unit } from './suite.js';
import { quantile } from './statistics.js';
import { controlOf, metricOf, type Figure, type Sample, type Summary } from './summary.js';

export interface Outcome {
  readonly title: string;
  readonly limit: string;
  readonly value: number | undefined;
  /** `undefined`: not measured. */
  readonly met: boolean | undefined;
}

export function outcomesOf(goals: readonly Goal[], summary: Summary): Outcome[] {
  return goals.map(({ title, value: valueOf, atLeast, atMost }) => {
    const value = valueOf(summary);
    const limits = [atLeast === undefined ? [] : `≥ ${atLeast}`, atMost === undefined ? [] : `≤ ${atMost}`].flat();
    const met =
      value === undefined ? undefined : value >= (atLeast ?? Number.NEGATIVE_INFINITY) && value <= (atMost ?? Infinity);
    return { title, limit: limits.join(', '), value, met };
  });
}

/** How much others used the machine while cells were measured, in cores. */
export function disturbanceOf(samples: readonly Sample[]): { median: number; p90: number } | undefined {
  const cores = samples.map(({ foreignCores }) => foreignCores).filter((value) => value !== undefined);
  return cores.length === 0 ? undefined : { median: quantile(cores, 0.5), p90: quantile(cores, 0.9) };
}

export interface Report {
  readonly suite: Suite;
  readonly summary: Summary;
  readonly samples: readonly Sample[];
  readonly outcomes: readonly Outcome[];
  readonly environment: Environment;
  readonly profile: string;
  readonly date: string;
}

/** Subjects stand beside each other while they fit, and else below each other, in a table for each cell. */
const MAX_COLUMNS = 4;

export function markdownOf(report: Report): string {
  const { suite, summary, samples, outcomes, environment, profile, date } = report;
  const { cpu, cores, platform, node, postgres, server, packages } = environment;
  const versions = Object.entries(packages).map(([name, version]) => `${name} ${version}`);
  const disturbance = disturbanceOf(samples);
  return [
    `# ${suite.title}`,
    '',
    `Recorded on ${date} with the profile \`${profile}\`: ${cpu}, ${cores} cores, ${platform}, Node ${node}, ` +
      `PostgreSQL ${postgres} (${server === 'embedded' ? 'started for the run, on the same machine' : 'a given server'}), ${versions.join(', ')}.`,
    '',
    `Medians; in brackets the ratio to the runs of ${suite.baseline} just before and after, and its quartiles. ` +
      `"${controlOf(suite.baseline)}" is ${suite.baseline} measured as if it were a contender: what is not clearly ` +
      'farther from 1 than its ratios is noise.',
    ...(disturbance
      ? [
          '',
          `While a cell was measured, others used ${disturbance.median.toFixed(2)} cores of the machine ` +
            `(median; 90 % of the cells: at most ${disturbance.p90.toFixed(2)}).`,
        ]
      : []),
    ...(outcomes.length > 0 ? ['', '## Targets', '', ...outcomeTable(outcomes)] : []),
    ...suite.workloads.flatMap((workload) => {
      const figures = summary.figures.filter((figure) => figure.workload === workload.name);
      return figures.length === 0
        ? []
        : ['', `## ${workload.name}`, '', workload.about, '', ...figureTable(suite, figures)];
    }),
    '',
  ].join('\n');
}

function outcomeTable(outcomes: readonly Outcome[]): string[] {
  return table([
    ['target', 'limit', 'measured', ''],
    ...outcomes.map(({ title, limit, value, met }) => [
      title,
      limit,
      value === undefined ? '' : plain(value),
      met === undefined ? 'not measured' : met ? 'met' : '**missed**',
    ]),
  ]);
}

function figureTable(suite: Suite, figures: readonly Figure[]): string[] {
  const subjects = [...Object.keys(suite.subjects), controlOf(suite.baseline)].filter((name) =>
    figures.some(({ subject }) => subject === name),
  );
  const cells = [...new Set(figures.map(({ cell }) => cell))];
  const tables =
    subjects.length > MAX_COLUMNS
      ? cells.flatMap((cell) => [
          ...table(transposed(gridOf(suite, cell, onlyOf(cell, figures), subjects, ({ metric }) => metric))),
          '',
        ])
      : [...table(gridOf(suite, '', figures, subjects, ({ cell, metric }) => `${cell}: ${metric}`)), ''];
  return [...tables, '↑ more is better, ↓ less is better.'];
}

function onlyOf(cell: string, figures: readonly Figure[]): Figure[] {
  return figures.filter((figure) => figure.cell === cell);
}

function gridOf(
  suite: Suite,
  corner: string,
  figures: readonly Figure[],
  subjects: readonly string[],
  rowOf: (figure: Figure) => string,
): string[][] {
  const present = subjects.filter((name) => figures.some(({ subject }) => subject === name));
  const rows = [...new Set(figures.map(rowOf))];
  return [
    [corner, ...present],
    ...rows.map((row) => {
      const ofRow = figures.filter((figure) => rowOf(figure) === row);
      const [first] = ofRow;
      const better = first && metricOf(suite, first)?.better === 'more' ? '↑' : '↓';
      const cells = present.map((name) => {
        const figure = ofRow.find(({ subject }) => subject === name);
        return figure ? textOf(figure, metricOf(suite, figure)?.unit ?? 'count') : '';
      });
      return [`${row} ${better}`, ...cells];
    }),
  ];
}

function textOf({ value, ratio }: Figure, unit: Unit): string {
  const text = withUnit(value.median, unit);
  if (!ratio) return text;
  const [median, q1, q3] = [ratio.median, ratio.q1, ratio.q3].map((factor) => factor.toFixed(2));
  return `${text} (**${median}**, ${q1} to ${q3})`;
}

function withUnit(value: number, unit: Unit): string {
  if (unit === 'per second') return `${scaled(value, 1000)}/s`;
  if (unit === 'bytes') return `${scaled(value, 1024)}B`;
  if (unit === 'count') return plain(value);
  return `${plain(value)} ${unit}`;
}

function scaled(value: number, base: number): string {
  if (value >= base * base) return `${plain(value / base / base)} M`;
  return value >= base ? `${plain(value / base)} k` : `${plain(value)} `;
}

/** Three digits that say something. */
function plain(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

function table([head = [], ...rows]: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)];
}

function transposed(grid: readonly (readonly string[])[]): string[][] {
  return (grid[0] ?? []).map((_, column) => grid.map((row) => row[column] ?? ''));
}
