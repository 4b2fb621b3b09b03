import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { PG_ERROR_CODES } from '../../../lib/errors/error-codes.js';
import { Secret } from '../../../lib/errors/secret.js';
import { isPermanentRefusal } from '../../../lib/errors/sqlstate.js';
import { backoffMillis } from '../../../lib/util/backoff.js';
import { CallSite, CallSiteBudget } from '../../../lib/util/call-site.js';
import { formatMillis } from '../../../lib/util/duration.js';
import { ManualClock } from '../../support/manual-clock.js';

describe('Secret', () => {
  it('shows in no form but reveal()', () => {
    const holder = { password: new Secret('hunter2'), nested: [new Secret(Buffer.from('hunter2'))] };
    const forms = [
      inspect(holder, { showHidden: true, depth: 9 }),
      JSON.stringify(holder),
      String(holder.password),
      Object.entries(holder.password).join(),
    ];
    for (const form of forms) expect(form).not.toContain('hunter2');
    expect(holder.password.reveal()).toBe('hunter2');
  });
});

describe('SQLSTATEs', () => {
  it.each(['28P01', '28000', '3D000', '42501', '42704', '22023'])('%s does not heal', (code) => {
    expect(isPermanentRefusal(code)).toBe(true);
  });

  it.each(['57P03', '53300', '08006', '57P01'])('%s may heal', (code) => {
    expect(isPermanentRefusal(code)).toBe(false);
  });
});

describe('backoffMillis', () => {
  it('doubles up to the maximum, and is scaled by chance to between a half and the whole', () => {
    const clock = new ManualClock();
    const options = { baseMillis: 100, maxMillis: 1_000 };
    expect([1, 2, 3, 4, 5, 50].map((failures) => backoffMillis(failures, options, clock))).toEqual([
      50, 100, 200, 400, 500, 500,
    ]);
    clock.chance = 0.999;
    expect(backoffMillis(50, options, clock)).toBeCloseTo(1_000, -1);
  });
});

describe('CallSite', () => {
  function borrow(): CallSite {
    return new CallSite();
  }

  it('names the line of the application', () => {
    expect(borrow().toString()).toMatch(/small\.test\.ts:\d+:\d+/);
  });

  it('is taken within a budget that is renewed every second', async () => {
    const clock = new ManualClock();
    const budget = new CallSiteBudget(clock);
    const takeMany = (): number => Array.from({ length: 3_000 }, () => budget.take()).filter(Boolean).length;
    expect([takeMany(), takeMany()]).toEqual([2_000, 0]);
    await clock.advance(1_000);
    expect(takeMany()).toBe(2_000);
  });

  it('leaves the stack limit as it was', () => {
    const before = Error.stackTraceLimit;
    borrow();
    expect(Error.stackTraceLimit).toBe(before);
  });
});

it('formatMillis chooses a unit', () => {
  expect([3, 999, 1_000, 1_500, 119_000, 120_000, 3_600_000].map(formatMillis)).toEqual([
    '3 ms',
    '999 ms',
    '1 s',
    '1.5 s',
    '119 s',
    '2 min',
    '60 min',
  ]);
});

it('error codes are unique', () => {
  expect(new Set(PG_ERROR_CODES).size).toBe(PG_ERROR_CODES.length);
});
