import { describe, expect, it, vi } from 'vitest';
import { Deadline, withSignal } from '../../../lib/util/deadline.js';
import { ManualClock, settle } from '../../support/manual-clock.js';

const late = (): Error => new Error('late');

describe('Deadline', () => {
  it('fires when its time is over, with its own reason', async () => {
    const clock = new ManualClock();
    const { signal } = new Deadline(100, late, clock);
    await clock.advance(99);
    expect(signal.aborted).toBe(false);
    await clock.advance(1);
    expect(signal.reason).toMatchObject({ message: 'late' });
  });

  it('has no limit at 0', () => {
    const clock = new ManualClock();
    new Deadline(0, late, clock);
    expect(clock.timers).toBe(0);
  });

  it('follows its parent, also one that has fired before', () => {
    const parent = new AbortController();
    const { signal } = new Deadline(100, late, new ManualClock(), parent.signal);
    parent.abort(new Error('enough'));
    expect(signal.reason).toMatchObject({ message: 'enough' });
    expect(new Deadline(100, late, new ManualClock(), parent.signal).signal.aborted).toBe(true);
  });

  it('lets go of timer and parent when it is cleared', () => {
    const clock = new ManualClock();
    const parent = new AbortController();
    const removed = vi.spyOn(parent.signal, 'removeEventListener');
    const deadline = new Deadline(100, late, clock, parent.signal);
    deadline.clear();
    parent.abort();
    expect(deadline.signal.aborted).toBe(false);
    expect(clock.timers).toBe(0);
    expect(removed).toHaveBeenCalledTimes(1);
  });
});

describe('withSignal', () => {
  it('passes the value or the error on', async () => {
    const { signal } = new AbortController();
    await expect(withSignal(Promise.resolve(1), signal)).resolves.toBe(1);
    await expect(withSignal(Promise.reject(late()), signal)).rejects.toThrow('late');
  });

  it('rejects when the signal fires, and hands a late value over', async () => {
    const abort = new AbortController();
    let resolve!: (value: string) => void;
    const work = new Promise<string>((accept) => (resolve = accept));
    const taken = vi.fn();
    const result = withSignal(work, abort.signal, taken);
    abort.abort(new Error('enough'));
    await expect(result).rejects.toThrow('enough');
    resolve('too late');
    await settle();
    expect(taken).toHaveBeenCalledWith('too late');
  });

  it('leaves no unhandled rejection of work that fails late', async () => {
    const unhandled = vi.fn();
    process.once('unhandledRejection', unhandled);
    const abort = new AbortController();
    abort.abort(new Error('enough'));
    let reject!: (error: Error) => void;
    const work = new Promise<void>((_, refuse) => (reject = refuse));
    await expect(withSignal(work, abort.signal)).rejects.toThrow('enough');
    reject(late());
    await settle();
    process.off('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  });
});
