import { describe, expect, it } from 'vitest';
import { PROFILES } from '../../bench/src/harness/profile.js';
import { runEntry } from '../../bench/src/harness/run-entry.js';
import { randomFrom, schedule } from '../../bench/src/harness/schedule.js';
import { defineSuite, type Suite } from '../../bench/src/harness/suite.js';
import { controlOf, Summary, type Sample } from '../../bench/src/harness/summary.js';
import { SUITE_NAMES, suiteNamed } from '../../bench/src/suites/index.js';
import { useServer } from '../support/postgres.js';

const suites = await Promise.all(SUITE_NAMES.map(suiteNamed));
const entries = suites.flatMap((suite) =>
  suite.workloads.flatMap((workload) =>
    (workload.subjects ?? Object.keys(suite.subjects)).map((subject) => ({
      name: `${suite.name}: ${workload.name}, ${subject}`,
      suite,
      workload,
      subject,
    })),
  ),
);

describe('every workload of bench/ measures all its cells, with every subject', () => {
  const server = useServer();

  it.each(entries)('$name', async ({ suite, workload, subject }) => {
    const results = await runEntry(suite, workload.name, subject, PROFILES.smoke, server());
    expect(results.map(({ cell }) => cell)).toEqual(workload.cells.map(({ name }) => name));
    for (const { values } of results) {
      // What cannot be known everywhere is there, and undefined.
      const known = Object.entries(values).filter(([, value]) => value !== undefined);
      expect(known).not.toEqual([]);
      expect(known.filter(([name, value]) => !(name in workload.metrics) || !Number.isFinite(value))).toEqual([]);
    }
  });

  it('and every target is about one of these figures', () => {
    for (const suite of suites) {
      const everything = new Summary(suite, [...samplesOf(suite)]);
      const unknown = suite.goals.filter(({ value }) => value(everything) === undefined);
      expect(unknown.map(({ title }) => title)).toEqual([]);
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
  for (const { name: workload, cells, metrics } of suite.workloads) {
    const order = [suite.baseline, ...Object.keys(suite.subjects).filter((name) => name !== suite.baseline)];
    for (const [position, subject] of order.entries()) {
      for (const { name: cell } of cells) {
        const values = Object.fromEntries(Object.keys(metrics).map((metric) => [metric, 1]));
        yield { round: 1, position, workload, subject, isControl: false, cell, values, foreignCores: 0, attempts: 1 };
      }
    }
  }
}
