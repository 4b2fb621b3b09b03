import type { Clock, Timer } from '../util/clock.js';
import { deferred } from '../util/deferred.js';

/** How long a drain waits for leases. Whoever asks for less time later than the first is obeyed: that is how to force an end. */
export class DrainDeadline {
  readonly #clock: Clock;
  readonly #over = deferred<void>();
  #at = Infinity;
  #timer: Timer | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves at the deadline, or when there is nothing left to wait for. */
  get over(): Promise<void> {
    return this.#over.promise;
  }

  /** 0 = now. */
  notLaterThan(millis: number): void {
    const at = this.#clock.now() + millis;
    if (at >= this.#at) return;
    this.#at = at;
    this.#clock.clearTimeout(this.#timer);
    if (millis <= 0) this.#over.resolve();
    else this.#timer = this.#clock.setTimeout(() => this.#over.resolve(), millis);
  }

  /** Everything has come back. */
  end(): void {
    this.#clock.clearTimeout(this.#timer);
    this.#over.resolve();
  }
}
