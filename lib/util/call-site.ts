import { fileURLToPath } from 'node:url';
import type { Clock } from './clock.js';

/** Frames name a file by its path or by its URL, which ends in the path. */
const PACKAGE_ROOT = fileURLToPath(new URL('../', import.meta.url));

/**
 * Where something was called from. Taking it costs some microseconds, its text only when somebody asks.
 */
export class CallSite {
  // V8 formats `stack` lazily, at its first reading.
  declare readonly stack: string | undefined;

  constructor() {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 10;
    Error.captureStackTrace(this, CallSite);
    Error.stackTraceLimit = limit;
  }

  /** `OrdersService.place (/app/orders.service.js:12:34)`: the first frame that is the application's own. */
  toString(): string {
    const frames = this.#frames();
    return frames.find((frame) => !isForeign(frame)) ?? frames.at(-1) ?? 'an unknown place';
  }

  /** All frames, one a line, as under an error's message. */
  trace(): string {
    return this.#frames()
      .filter((frame) => !frame.includes(PACKAGE_ROOT))
      .map((frame) => `    at ${frame}`)
      .join('\n');
  }

  #frames(): string[] {
    return (this.stack ?? '')
      .split('\n')
      .slice(1)
      .map((line) => line.trim().replace(/^at /, ''));
  }
}

/** Bounds what call sites cost: 2 000 a second take about one percent of a core. */
const SITES_PER_SECOND = 2_000;

/**
 * Takes call sites as long as the budget of the second lasts. Who borrows more often than that gives back at once, and
 * whoever leaks does it sooner or later within the budget.
 */
export class CallSiteBudget {
  readonly #clock: Clock;
  #left = SITES_PER_SECOND;
  #refillAt = 0;
  #refused = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  take(): CallSite | undefined {
    // Once it is used up, looking at the clock costs more than what is looked for is worth.
    if (this.#left === 0 && ++this.#refused % 64 !== 0) return undefined;
    const now = this.#clock.now();
    if (now >= this.#refillAt) {
      this.#refillAt = now + 1_000;
      this.#left = SITES_PER_SECOND;
    }
    if (this.#left === 0) return undefined;
    this.#left--;
    return new CallSite();
  }
}

function isForeign(frame: string): boolean {
  return frame.includes('node:') || frame.includes('/node_modules/') || frame.includes(PACKAGE_ROOT);
}
