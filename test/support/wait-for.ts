import { setTimeout as delay } from 'node:timers/promises';

export interface WaitOptions {
  /** What is waited for, as the end of "waited ... for". */
  message: string;
  /** Milliseconds; default 5 000. */
  deadline?: number;
  /** Milliseconds between looks; default 5. */
  every?: number;
}

/** Looks until `condition` gives something truthy, and returns it; an exception counts as "not yet". */
export async function waitFor<T>(condition: () => T | Promise<T>, options: WaitOptions): Promise<NonNullable<T>> {
  const { message, deadline = 5_000, every = 5 } = options;
  const end = performance.now() + deadline;
  for (;;) {
    let last: unknown;
    let cause: unknown;
    try {
      last = await condition();
      if (last) return last as NonNullable<T>;
    } catch (error) {
      cause = error;
    }
    if (performance.now() > end) {
      const seen = cause === undefined ? `last seen: ${String(last)}` : 'the last look failed, see cause';
      throw new Error(`waited ${deadline} ms for ${message} (${seen})`, { cause });
    }
    await delay(every);
  }
}
