import { fileURLToPath } from 'node:url';

/** Frames name a file by its path or by its URL, which ends in the path. */
const PACKAGE_ROOT = fileURLToPath(new URL('../', import.meta.url));

/**
 * Where something was called from. Taking it is cheap; the text is made only when somebody asks.
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
    const frames = (this.stack ?? '')
      .split('\n')
      .slice(1)
      .map((line) => line.trim().replace(/^at /, ''));
    return frames.find((frame) => !isForeign(frame)) ?? frames.at(-1) ?? 'an unknown place';
  }
}

function isForeign(frame: string): boolean {
  return frame.includes('node:') || frame.includes('/node_modules/') || frame.includes(PACKAGE_ROOT);
}
