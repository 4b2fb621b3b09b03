import type { Clock, Timer } from './clock.js';

/**
 * A point in time by which something must be done, as an AbortSignal that also follows a parent. Call
 * {@link Deadline.clear} when the work is over: it lets go of the timer and of the parent.
 */
export class Deadline {
  readonly #controller = new AbortController();
  readonly #clock: Clock;
  readonly #parent: AbortSignal | undefined;
  readonly #follow: () => void;
  #timer: Timer | undefined;

  /** `millis` 0 = no limit of its own; `expired` makes the reason of the abort. */
  constructor(millis: number, expired: () => Error, clock: Clock, parent?: AbortSignal) {
    this.#clock = clock;
    this.#parent = parent;
    this.#follow = () => {
      this.#controller.abort(parent?.reason);
    };
    if (parent?.aborted) this.#follow();
    else parent?.addEventListener('abort', this.#follow, { once: true });
    if (millis > 0) this.#timer = clock.setTimeout(() => this.#controller.abort(expired()), millis);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Fires now, for another reason than time. */
  abort(reason: Error): void {
    this.#controller.abort(reason);
  }

  clear(): void {
    this.#clock.clearTimeout(this.#timer);
    this.#parent?.removeEventListener('abort', this.#follow);
  }
}

/** Rejects as soon as the signal fires, whatever becomes of the promise; a late value goes to `late`. */
export function withSignal<T>(work: Promise<T>, signal: AbortSignal, late?: (value: T) => void): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const abort = (): void => {
      reject(signal.reason as Error);
      if (late) work.then(late, () => undefined);
      else work.catch(() => undefined);
    };
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener('abort', abort, { once: true });
    work.then(
      (value) => {
        signal.removeEventListener('abort', abort);
        if (!signal.aborted) resolve(value);
      },
      (error: unknown) => {
        signal.removeEventListener('abort', abort);
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- passed on as it came
        reject(error);
      },
    );
  });
}
