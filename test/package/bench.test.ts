import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { svgOf } from '../../bench/src/harness/chart.js';
import { isMissing } from '../../bench/src/harness/missing.js';
import { PROFILES } from '../../bench/src/harness/profile.js';
import { runEntry } from '../../bench/src/harness/run-entry.js';
import { randomFrom, schedule } from '../../bench/src/harness/schedule.js';
import { cellsOf, defineSuite, type Suite } from '../../bench/src/harness/suite.js';
import { controlOf, Summary, type Sample } from '../../bench/src/harness/summary.js';
import { SUITE_NAMES, suiteNamed } from '../../bench/src/suites/index.js';
import { useServer } from '../support/postgres.js';
import { ROOT } from './root.js';

const suites = await Promise.all(SUITE_NAMES.map(suiteNamed));

describe.each(suites)('every workload of $name measures all cells of every subject that is installed', (suite) => {
  const server = useServer(() => suite.server?.() ?? {});
  let library: string | undefined;

  beforeAll(async () => {
    await suite.prepare?.(server().connectionString);
    // Programs of their own cannot read lib/ as it is.
    if (suite.name !== 'startup') return;
    library = await transpiledLibrary();
    process.env['BENCH_LIBRARY'] = pathToFileURL(join(library, 'index.js')).href;
  });
  afterAll(async () => {
    delete process.env['BENCH_LIBRARY'];
    if (library !== undefined) await rm(library, { recursive: true });
  });

  const entries = suite.workloads.flatMap((workload) =>
    (workload.subjects ?? Object.keys(suite.subjects)).map((subject) => ({
      name: `${workload.name}, ${subject}`,
      workload,
      subject,
    })),
  );

  it.for(entries)('$name', async ({ workload, subject }, { skip }) => {
    const results = await runEntry(suite, workload.name, subject, PROFILES.smoke, server()).catch((error: unknown) => {
      // Its package belongs to bench/, or it is a program of the machine.
      if (subject !== suite.baseline && isMissing(error)) skip(error.message);
      throw error;
    });
    const cells = cellsOf(workload, subject, suite.baseline, undefined);
    expect(results.map(({ cell }) => cell)).toEqual(cells.map(({ name }) => name));
    for (const { values } of results) {
      // What cannot be known everywhere is there, and undefined.
      const known = Object.entries(values).filter(([, value]) => value !== undefined);
      expect(known).not.toEqual([]);
      expect(known.filter(([name, value]) => !(name in workload.metrics) || !Number.isFinite(value))).toEqual([]);
    }
  });
});

describe('the suites', () => {
  it('have targets that are about figures of theirs', () => {
    for (const suite of suites) {
      const everything = new Summary(suite, [...samplesOf(suite)]);
      const unknown = suite.goals.filter(({ value }) => value(everything) === undefined);
      expect(unknown.map(({ title }) => title)).toEqual([]);
    }
  });

  it('draw every group of their charts, with every subject that the cell has', () => {
    for (const suite of suites) {
      if (!suite.chart) continue;
      const { groups, metric, subjects } = suite.chart;
      const { figures } = new Summary(suite, [...samplesOf(suite)]);
      const svg = svgOf(suite.chart, figures, suite.baseline, 'today') ?? '';
      const bars = figures.filter(
        (figure) =>
          figure.metric === metric &&
          subjects.includes(figure.subject) &&
          groups.some(({ workload, cell }) => workload === figure.workload && cell === figure.cell),
      );
      expect(svg.match(/<rect class="bar/g)).toHaveLength(bars.length);
      for (const { title, workload, cell } of groups) {
        expect(svg).toContain(`>${title}</text>`);
        expect(bars.filter((bar) => bar.workload === workload && bar.cell === cell)).not.toEqual([]);
      }
    }
  });

  it('name only subjects that they have', () => {
    for (const { subjects, occasional, quick, chart, workloads } of suites) {
      const named = [...(occasional ?? []), ...(quick ?? []), ...(chart?.subjects ?? [])];
      const ofWorkloads = workloads.flatMap((workload) => [
        ...(workload.subjects ?? []),
        ...workload.cells.flatMap((cell) => cell.subjects ?? []),
      ]);
      expect([...named, ...ofWorkloads].filter((name) => !(name in subjects))).toEqual([]);
    }
  });
});

describe('the schedule of a run', () => {
  const plans = [
    { workload: 'query', rounds: 3, contenders: ['a', 'b', 'c', 'd'] },
    { workload: 'memory', rounds: 1, contenders: ['a'] },
  ];
  const run = schedule(plans, 'base', randomFrom(7));

  it('measures every contender, and the baseline as control, once a round', () => {
    const times = (workload: string, subject: string, isControl = false): number =>
      run.filter((entry) => entry.workload === workload && entry.subject === subject && entry.isControl === isControl)
        .length;
    expect(['a', 'b', 'c', 'd'].map((subject) => times('query', subject))).toEqual([3, 3, 3, 3]);
    expect(times('query', 'base', true)).toBe(3);
    expect([times('memory', 'a'), times('memory', 'base', true)]).toEqual([1, 1]);
  });

  it('has occasional contenders in the first rounds only', () => {
    const occasional = { contenders: ['rare'], rounds: 2 };
    const entries = schedule([{ workload: 'query', rounds: 3, contenders: ['a'], occasional }], 'base', randomFrom(7));
    const roundsOf = (subject: string): number[] =>
      entries.filter((entry) => entry.subject === subject).map(({ round }) => round);
    expect(roundsOf('rare')).toEqual([1, 2]);
    expect(roundsOf('a')).toEqual([1, 2, 3]);
  });

  it('has the baseline before and after at most three contenders', () => {
    for (const { workload, rounds } of plans) {
      for (let round = 1; round <= rounds; round++) {
        const ofRound = run.filter((entry) => entry.workload === workload && entry.round === round);
        const kinds = ofRound.map(({ subject, isControl }) => (subject === 'base' && !isControl ? 'B' : '-')).join('');
        expect(kinds).toMatch(/^B(-{1,3}B)+$/);
      }
    }
  });

  it('has another order in other rounds', () => {
    const orders = [1, 2, 3].map((round) =>
      run
        .filter((entry) => entry.workload === 'query' && entry.round === round)
        .map(({ subject }) => subject)
        .join(),
    );
    expect(new Set(orders).size).toBeGreaterThan(1);
  });
});

describe('the summary of a run', () => {
  const suite = defineSuite<null>({
    name: 'suite',
    title: '',
    subjects: { base: () => Promise.resolve(null), other: () => Promise.resolve(null) },
    baseline: 'base',
    workloads: [
      {
        name: 'query',
        about: '',
        metrics: { rate: { unit: 'per second', better: 'more' } },
        cells: [{ name: 'c=1', measure: () => Promise.resolve({}) }],
      },
    ],
    goals: [],
  });
  const round = (number: number, rates: [subject: string, rate: number, isControl?: boolean][]): Sample[] =>
    rates.map(([subject, rate, isControl = false], position) => ({
      round: number,
      position,
      workload: 'query',
      subject,
      isControl,
      cell: 'c=1',
      values: { rate },
      foreignCores: 0,
      attempts: 1,
    }));

  it('compares with the runs of the baseline just before and after, not with those of other rounds', () => {
    const summary = new Summary(suite, [
      ...round(1, [
        ['base', 10],
        ['base', 22, true],
        ['other', 40],
        ['base', 40],
      ]),
      ...round(2, [
        ['base', 1000],
        ['other', 3000],
        ['base', 1000],
      ]),
      ...round(3, [
        ['base', 1],
        ['other', 3],
        ['base', 1],
      ]),
    ]);
    // 2 (to the geometric mean of 10 and 40), 3 and 3.
    expect(summary.ratio('query', 'c=1', 'rate', 'other')).toBeCloseTo(3);
    expect(summary.figure('query', 'c=1', 'rate', 'other')?.ratio?.q1).toBeCloseTo(2.5);
    expect(summary.value('query', 'c=1', 'rate', 'other')).toBe(40);
    expect(summary.ratio('query', 'c=1', 'rate', controlOf('base'))).toBeCloseTo(1.1);
    expect(summary.value('query', 'c=1', 'rate', 'base')).toBe(25);
    expect(summary.figure('query', 'c=1', 'rate', 'base')?.value.n).toBe(6);
  });
});

/** Of everything that a suite can measure, in one round. */
function* samplesOf(suite: Suite): Generator<Sample> {
  for (const workload of suite.workloads) {
    const others = (workload.subjects ?? Object.keys(suite.subjects)).filter((name) => name !== suite.baseline);
    for (const [position, subject] of [suite.baseline, ...others].entries()) {
      for (const { name: cell } of cellsOf(workload, subject, suite.baseline, undefined)) {
        const values = Object.fromEntries(Object.keys(workload.metrics).map((metric) => [metric, 1]));
        yield {
          round: 1,
          position,
          workload: workload.name,
          subject,
          isControl: false,
          cell,
          values,
          foreignCores: 0,
          attempts: 1,
        };
      }
    }
  }
}

/** lib/ as JavaScript, with the metadata that Nest reads, where it finds its dependencies. */
async function transpiledLibrary(): Promise<string> {
  const cache = join(ROOT, 'node_modules', '.cache');
  await mkdir(cache, { recursive: true });
  const target = await mkdtemp(join(cache, 'nestjs-pg-bench-'));
  await writeFile(join(target, 'package.json'), '{ "type": "module" }');
  const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), (path) => ts.sys.readFile(path)) as {
    config: { compilerOptions: object };
  };
  const { options } = ts.convertCompilerOptionsFromJson({ ...config.compilerOptions, module: 'esnext' }, ROOT);
  const files = await readdir(join(ROOT, 'lib'), { recursive: true });
  for (const file of files.filter((name) => name.endsWith('.ts'))) {
    const { outputText } = ts.transpileModule(await readFile(join(ROOT, 'lib', file), 'utf8'), {
      compilerOptions: { ...options, sourceMap: false },
    });
    const output = join(target, file.replace(/\.ts$/, '.js'));
    await mkdir(dirname(output), { recursive: true });
    await writeFile(output, outputText);
  }
  return target;
}
