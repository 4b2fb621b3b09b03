import type { Clock } from './clock.js';

export interface BackoffOptions {
  /** Delay before the second try, in milliseconds. */
  readonly baseMillis: number;
  /** No delay is longer than this, in milliseconds. */
  readonly maxMillis: number;
}

/**
 * Exponential backoff with jitter: try n waits base * 2^n, at most max, scaled by a random factor in [0.5, 1), so that
 * many clients of one server that came back do not return in step.
 */
export function backoffMillis(failures: number, options: BackoffOptions, clock: Clock): number {
  const full = Math.min(options.maxMillis, options.baseMillis * 2 ** Math.max(0, failures - 1));
  return full * (0.5 + clock.random() / 2);
}
