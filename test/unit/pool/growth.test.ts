import { describe, expect, it } from 'vitest';
import { dialsToStart, nextBurst, type Demand } from '../../../lib/pool/growth.js';

const demand = (given: Partial<Demand>): number =>
  dialsToStart({ waiting: 0, established: 1, dialling: 0, floor: 0, max: 10, failing: false, burst: 1, ...given });

describe('dialsToStart', () => {
  it('starts nothing without demand', () => {
    expect(demand({})).toBe(0);
    expect(demand({ established: 0 })).toBe(0);
  });

  it('answers a queue behind open connections with one dial at a time', () => {
    expect(demand({ waiting: 50, established: 5, max: 50 })).toBe(1);
    expect(demand({ waiting: 50, established: 5, max: 50, dialling: 1 })).toBe(0);
  });

  it('dials for up to four waiters at once while nothing is open', () => {
    expect(demand({ waiting: 1, established: 0 })).toBe(1);
    expect(demand({ waiting: 3, established: 0, dialling: 1 })).toBe(2);
    expect(demand({ waiting: 50, established: 0, max: 50 })).toBe(4);
  });

  it('never exceeds max', () => {
    expect(demand({ waiting: 50, established: 9, burst: 16 })).toBe(1);
    expect(demand({ waiting: 50, established: 8, dialling: 2, burst: 16 })).toBe(0);
    expect(demand({ waiting: 5, established: 0, max: 2 })).toBe(2);
  });

  it('fills up to the floor without waiters, a few at a time', () => {
    expect(demand({ established: 1, floor: 3 })).toBe(2);
    expect(demand({ established: 0, floor: 50, max: 50 })).toBe(4);
    expect(demand({ established: 0, dialling: 4, floor: 50, max: 50 })).toBe(0);
    expect(demand({ established: 3, floor: 3 })).toBe(0);
  });

  it('has one dial at a time ask whether a failing server is back', () => {
    expect(demand({ waiting: 50, established: 0, failing: true })).toBe(1);
    expect(demand({ waiting: 50, established: 0, failing: true, dialling: 1 })).toBe(0);
    expect(demand({ waiting: 0, established: 0, floor: 5, failing: true, dialling: 3 })).toBe(0);
  });
});

describe('nextBurst', () => {
  it('doubles while somebody still waits, and starts anew when nobody does', () => {
    expect(nextBurst(1, 3)).toBe(2);
    expect(nextBurst(4, 1)).toBe(8);
    expect(nextBurst(8, 0)).toBe(1);
  });
});
