import type { Clock } from '../util/clock.js';

/** A way that is longer than it was is taken for one after so many statements that waited for nothing: 0.1 % of it each. */
const GROWTH = 1.001;

/** The way to the server and back: what a statement takes besides the server's time. */
export class Way {
  readonly #clock: Clock;
  #millis = Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** As far as it is known, in milliseconds: the shortest run of late. */
  get millis(): number {
    return this.#millis === Infinity ? 0 : this.#millis;
  }

  /**
   * Takes note of a statement that has been answered. All on the clock.
   *
   * @param sentAt when it was sent
   * @param freeAt when the answer before it came on its connection
   * @param answeredAt when its own came; an Arrival's, which is the truth or earlier
   * @returns how long it has taken the server, which began with it when it had come there, or was done with the one before it
   */
  measure(sentAt: number, freeAt: number, answeredAt: number): number {
    if (freeAt <= sentAt) this.#millis *= GROWTH;
    if (answeredAt - sentAt < this.#millis) this.#millis = Math.min(this.#millis, this.#clock.now() - sentAt);
    return Math.max(0, answeredAt - Math.max(sentAt + this.#millis, freeAt));
  }
}
