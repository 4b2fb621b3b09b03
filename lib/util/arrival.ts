import type { Clock } from './clock.js';

/**
 * When what is being dealt with has arrived at the latest. Whatever Node reads in one turn of its loop had arrived when the
 * turn began, however long it takes to deal with what stands before it: the time that others take is not part of it.
 */
export class Arrival {
  readonly #clock: Clock;
  #at: number | undefined;
  readonly #over = (): void => {
    this.#at = undefined;
  };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** On the clock. To be called from the callback of something that has been read. */
  now(): number {
    if (this.#at === undefined) {
      this.#at = this.#clock.now();
      setImmediate(this.#over);
    }
    return this.#at;
  }
}
