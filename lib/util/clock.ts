import { performance } from 'node:perf_hooks';

/** A running timer; opaque. */
export type Timer = NodeJS.Timeout | number;

/**
 * The seam for time and chance. Whatever waits or rolls dice takes one of these, so that a test can drive it.
 */
export interface Clock {
  /** Milliseconds, monotonic. */
  now(): number;
  /** `background` timers do not keep the process alive. */
  setTimeout(callback: () => void, millis: number, background?: 'background'): Timer;
  clearTimeout(timer: Timer | undefined): void;
  /** In [0, 1). */
  random(): number;
}

// Imported, since the global of that name is an accessor, and the clock is read twice for each lease.
export const systemClock: Clock = {
  now: () => performance.now(),
  setTimeout(callback, millis, background) {
    const timer = setTimeout(callback, millis);
    return background ? timer.unref() : timer;
  },
  clearTimeout: (timer) => {
    clearTimeout(timer);
  },
  random: () => Math.random(),
};
