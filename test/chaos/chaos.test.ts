/**
 * A pool under 200 borrowers, while its server, its network and its certificates fail: 60 seconds of it, or as many as
 * CHAOS_SECONDS says (`CHAOS_SECONDS=600 npx vitest run test/chaos` is the long run). The order of the faults and what
 * each borrower does come from a seed, which is printed; CHAOS_SEED brings it back.
 *
 * The pool runs in a process of its own (program/), so that its heap and its handles are its own. Server, proxy and
 * faults are this process's.
 */
import { randomInt } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { FAULTS } from './faults.js';
import type { Sample } from './program/protocol.js';
import { describeRun, heapSlope } from './report.js';
import { runChaos, type Run } from './run.js';
import { MAX } from './scene.js';

const SECONDS = Number(process.env['CHAOS_SECONDS'] ?? 60);
const SEED = Number(process.env['CHAOS_SEED'] ?? randomInt(2 ** 31));
const MEGABYTE = 2 ** 20;
/** Connections that are being replaced just now, or what the runtime opens for a moment. */
const FEW = 8;

describe(`200 borrowers for ${SECONDS} s, seed ${SEED}`, () => {
  let run: Run;
  beforeAll(
    async () => {
      run = await runChaos(SEED, SECONDS);
      console.log(describeRun(run));
    },
    (SECONDS + 300) * 1_000,
  );

  it('only work in flight at a fault fails, every promise settles, and no error goes unheard', () => {
    expect(run.violations).toEqual([]);
    expect(run.output).toBe('');
  });

  it('every kind of fault is made, and the pool recovers from each', () => {
    expect(new Set(run.faults.map(({ kind }) => kind))).toEqual(new Set(FAULTS.map(({ kind }) => kind)));
    expect(run.faults.filter(({ recoveredMillis }) => !Number.isFinite(recoveredMillis))).toEqual([]);
    for (const { kind, done, intended } of run.report.kinds) expect(done + intended, kind).toBeGreaterThan(0);
  });

  it('what was committed is there, and what was not is not', () => {
    expect(run.report.journal.acknowledged).toBeGreaterThan(0);
    expect(run.bank).toEqual({ difference: 0, uncommitted: 0, surplus: 0, surplusSum: 0 });
  });

  it('the heap stays flat', () => {
    const [warm] = run.samples;
    const most = (pick: (sample: Sample) => number): number => Math.max(...run.samples.map(pick));
    expect(most(({ heap }) => heap)).toBeLessThan(warm!.heap + 4 * MEGABYTE);
    expect(most(({ external }) => external)).toBeLessThan(warm!.external + 1.5 * MEGABYTE);
    // A minute says little of a slope: lazily compiled code and caches are still coming in.
    if (SECONDS >= 300) expect(heapSlope(run.samples.slice(run.samples.length >> 1))).toBeLessThan(0.5 * MEGABYTE);
  });

  it('no handles pile up', () => {
    const { first } = run.report;
    for (const { descriptors, resources } of run.samples) {
      if (descriptors !== undefined) expect(descriptors).toBeLessThanOrEqual(first.descriptors! + MAX + FEW);
      // Each connection may be under validation, which has two deadlines.
      expect(resources['TCPSocketWrap'] ?? 0).toBeLessThanOrEqual(MAX + FEW);
      expect(resources['Timeout'] ?? 0).toBeLessThanOrEqual(2 * MAX + FEW);
    }
    expect(run.report.stats.leaks).toBe(0);
  });

  it('the pool ends under load and leaves nothing behind, and the process ends by itself', () => {
    const { first, last, stats } = run.report;
    expect(stats).toMatchObject({ total: 0, waiting: 0 });
    expect(last.descriptors).toBe(first.descriptors);
    expect(last.resources['TCPSocketWrap']).toBeUndefined();
    expect(last.resources['Timeout']).toBeUndefined();
    expect(run).toMatchObject({ sessionsLeft: 0, connectionsLeft: 0, exit: { code: 0, signal: null } });
  });
});
