import type { Clock, Timer } from '../../lib/util/clock.js';

interface Pending {
  readonly at: number;
  readonly background: boolean;
  readonly callback: () => void;
}

/** Time that passes when a test says so. Between timers it lets promises settle. */
export class ManualClock implements Clock {
  #now = 0;
  #next = 1;
  readonly #pending = new Map<number, Pending>();
  /** What `random()` gives. */
  chance = 0;

  now(): number {
    return this.#now;
  }

  random(): number {
    return this.chance;
  }

  setTimeout(callback: () => void, millis: number, background?: 'background'): Timer {
    const id = this.#next++;
    this.#pending.set(id, { at: this.#now + millis, background: background !== undefined, callback });
    return id;
  }

  clearTimeout(timer: Timer | undefined): void {
    this.#pending.delete(timer as number);
  }

  get timers(): number {
    return this.#pending.size;
  }

  /** Timers that keep the process alive. */
  get foregroundTimers(): number {
    return [...this.#pending.values()].filter(({ background }) => !background).length;
  }

  async advance(millis: number): Promise<void> {
    const end = this.#now + millis;
    await settle();
    for (let due = this.#due(end); due !== undefined; due = this.#due(end)) {
      const [id, { at, callback }] = due;
      this.#pending.delete(id);
      this.#now = at;
      callback();
      await settle();
    }
    this.#now = end;
  }

  #due(end: number): [number, Pending] | undefined {
    const [first] = [...this.#pending].sort(([, one], [, other]) => one.at - other.at);
    return first && first[1].at <= end ? first : undefined;
  }
}

/** Lets every promise that can settle do so. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
