import type { Spread } from './statistics.js';
import type { Figure } from './summary.js';

/** Ratios of a metric to the baseline, as bars. */
export interface Chart {
  readonly title: string;
  readonly metric: string;
  /** The first stands out. */
  readonly subjects: readonly string[];
  readonly groups: readonly { readonly title: string; readonly workload: string; readonly cell: string }[];
}

interface Bar {
  readonly subject: string;
  readonly ratio: Spread;
}

const WIDTH = 760;
const MARGIN = 20;
const NAMES = 150;
/** For the number behind the longest bar. */
const NUMBERS = 60;
const PLOT = WIDTH - 2 * MARGIN - NAMES - NUMBERS;
const HEAD = 76;
const GROUP_TITLE = 26;
const BAR = 17;
const GROUP_GAP = 10;

const STYLE = `
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; stroke: #ffffff; stroke-width: 3px; paint-order: stroke }
  .ground { fill: #ffffff }
  .title { font-size: 16px; font-weight: 600 }
  .group { font-weight: 600 }
  .quiet { fill: #59636e }
  .first { font-weight: 600 }
  .bar { fill: #9aa5b1 }
  .bar.first { fill: #0969da }
  .spread { stroke: #1f2328; stroke-opacity: 0.55 }
  .grid { stroke: #d1d9e0 }
  .one { stroke: #59636e; stroke-dasharray: 3 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; stroke: #0d1117 }
    .ground { fill: #0d1117 }
    .quiet { fill: #9198a1 }
    .bar { fill: #5c6672 }
    .bar.first { fill: #4493f8 }
    .spread { stroke: #f0f6fc }
    .grid { stroke: #2b3138 }
    .one { stroke: #9198a1 }
  }`;

/** @returns an SVG that is readable on light and dark grounds; `undefined` if nothing of it was measured */
export function svgOf(
  { title, metric, subjects, groups }: Chart,
  figures: readonly Figure[],
  baseline: string,
  under: string,
): string | undefined {
  const measured = groups
    .map((group) => ({ title: group.title, bars: barsOf(figures, group, metric, subjects) }))
    .filter(({ bars }) => bars.length > 0);
  const ratios = measured.flatMap(({ bars }) => bars.map(({ ratio }) => ratio.median));
  if (ratios.length === 0) return undefined;
  const step = stepOf(Math.max(1, ...ratios));
  const end = Math.ceil(Math.max(1, ...ratios) / step) * step;
  const x = (ratio: number): number => MARGIN + NAMES + (Math.min(ratio, end) / end) * PLOT;
  const parts: string[] = [];
  let y = HEAD;
  for (const group of measured) {
    parts.push(text(MARGIN, y + 15, group.title, 'group'));
    y += GROUP_TITLE;
    for (const { subject, ratio } of group.bars) {
      const kind = subject === subjects[0] ? ' first' : '';
      const middle = y + BAR / 2;
      parts.push(
        text(MARGIN + NAMES - 8, y + 13, subject, `end${kind}`, 'end'),
        `<rect class="bar${kind}" x="${x(0)}" y="${y + 2}" width="${fixed(x(ratio.median) - x(0))}" height="${BAR - 4}" rx="2"/>`,
        `<line class="spread" x1="${fixed(x(ratio.q1))}" x2="${fixed(x(ratio.q3))}" y1="${middle}" y2="${middle}"/>`,
        text(Math.max(x(ratio.median), x(ratio.q3)) + 6, y + 13, factor(ratio.median), `number${kind}`),
      );
      y += BAR;
    }
    y += GROUP_GAP;
  }
  const bottom = y;
  const lines: string[] = [];
  for (let tick = 0; tick <= end + step / 2; tick += step) {
    lines.push(
      `<line class="grid" x1="${fixed(x(tick))}" x2="${fixed(x(tick))}" y1="${HEAD}" y2="${bottom}"/>`,
      text(x(tick), bottom + 16, String(tick), 'quiet', 'middle'),
    );
  }
  const one = x(1);
  lines.push(`<line class="one" x1="${fixed(one)}" x2="${fixed(one)}" y1="${HEAD - 4}" y2="${bottom}"/>`);
  const height = bottom + 34;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escaped(title)}">`,
    `<style>${STYLE}\n</style>`,
    `<rect class="ground" width="${WIDTH}" height="${height}"/>`,
    text(MARGIN, 26, title, 'title'),
    text(MARGIN, 46, under, 'quiet'),
    text(one, HEAD - 10, `${baseline} = 1`, 'quiet', 'middle'),
    ...lines,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function barsOf(
  figures: readonly Figure[],
  { workload, cell }: Chart['groups'][number],
  metric: string,
  subjects: readonly string[],
): Bar[] {
  return subjects.flatMap((subject) => {
    const figure = figures.find(
      (one) => one.workload === workload && one.cell === cell && one.metric === metric && one.subject === subject,
    );
    return figure?.ratio ? [{ subject, ratio: figure.ratio }] : [];
  });
}

/** Five to ten ticks. */
function stepOf(longest: number): number {
  return [0.2, 0.5, 1, 2, 5, 10].find((step) => longest / step <= 10) ?? 20;
}

function text(x: number, y: number, content: string, kind: string, anchor = 'start'): string {
  return `<text class="${kind}" x="${fixed(x)}" y="${y}" text-anchor="${anchor}">${escaped(content)}</text>`;
}

function factor(ratio: number): string {
  return `${ratio.toFixed(ratio < 10 ? 2 : 1)}×`;
}

function fixed(value: number): string {
  return value.toFixed(1);
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
