import { clientCpuMicros, serverCpuMicros } from './cpu-time.js';
import type { Profile } from './profile.js';
import { quantile } from './statistics.js';

/** A server to measure against. */
export interface ServerUnderTest {
  readonly connectionString: string;
  /** The pid of its main process, if it is on this machine and may be looked at. */
  readonly pid: number | undefined;
}

/** What was done, and what it took. */
export interface Load {
  readonly operations: number;
  readonly perSecond: number;
  readonly clientCpuMicros: number;
  readonly serverCpuMicros: number | undefined;
}

/** What a cell measures with. */
export class Bench {
  readonly profile: Profile;
  readonly #server: ServerUnderTest;

  constructor(profile: Profile, server: ServerUnderTest) {
    this.profile = profile;
    this.#server = server;
  }

  get connectionString(): string {
    return this.#server.connectionString;
  }

  /** A count as the workload's name says it, or a tiny one if all that matters is that it runs. */
  count(wanted: number): number {
    return Math.min(wanted, this.profile.maxCount);
  }

  /**
   * For operations that are too short to look at the clock each time: `batch` does a given number of them. The rate is
   * the median of some slices of time after the warm-up, each of them longer than many garbage collections.
   */
  async repeat(batch: (operations: number) => Promise<void>, operationsPerBatch: number): Promise<Load> {
    const size = this.count(operationsPerBatch);
    await this.#forMillis(this.profile.warmUpMillis, () => batch(size));
    const { millis, slices } = this.profile;
    const rates: number[] = [];
    const load = await this.#load(async () => {
      let batches = 0;
      for (let slice = 0; slice < slices; slice++) {
        const began = performance.now();
        const ofSlice = await this.#forMillis(millis / slices, () => batch(size));
        rates.push((ofSlice * size * 1000) / (performance.now() - began));
        batches += ofSlice;
      }
      return batches * size;
    });
    return { ...load, perSecond: quantile(rates, 0.5) };
  }

  /**
   * So many callers, each of which does one operation after the other; with how long each operation took.
   *
   * @param warmUp operations before that. A client that runs its first thousands of statements, or its first thousands
   *   at another concurrency, takes several times as long for each: the compiler has to see enough of them.
   */
  async callers(
    concurrency: number,
    operation: (caller: number) => Promise<void>,
    warmUp = 0,
  ): Promise<Load & { p50Millis: number; p99Millis: number }> {
    await this.warm(concurrency, operation, warmUp);
    const took: number[] = [];
    const load = await this.#load(async () => {
      const end = performance.now() + this.profile.millis;
      await call(concurrency, operation, (now) => now < end, took);
      return took.length;
    });
    return { ...load, p50Millis: quantile(took, 0.5), p99Millis: quantile(took, 0.99) };
  }

  /** The warm-up by itself, for operations that take so long where they are measured that they would never get warm. */
  async warm(concurrency: number, operation: (caller: number) => Promise<void>, operations: number): Promise<void> {
    const { warmUpMillis, heatMillis, heat } = this.profile;
    const began = performance.now();
    const heating: number[] = [];
    await call(
      concurrency,
      operation,
      (now) => now < began + warmUpMillis || (heating.length < operations * heat && now < began + heatMillis),
      heating,
    );
  }

  /** At least once. */
  async #forMillis(millis: number, work: () => Promise<void>): Promise<number> {
    const end = performance.now() + millis;
    let times = 0;
    do {
      await work();
      times++;
    } while (performance.now() < end);
    return times;
  }

  async #load(work: () => Promise<number>): Promise<Load> {
    const serverBefore = serverCpuMicros(this.#server.pid);
    const clientBefore = clientCpuMicros();
    const began = performance.now();
    const operations = await work();
    const seconds = (performance.now() - began) / 1000;
    const client = clientCpuMicros() - clientBefore;
    const serverAfter = serverCpuMicros(this.#server.pid);
    const server = serverBefore === undefined || serverAfter === undefined ? undefined : serverAfter - serverBefore;
    return {
      operations,
      perSecond: operations / seconds,
      clientCpuMicros: client / operations,
      serverCpuMicros: server === undefined ? undefined : server / operations,
    };
  }
}

/** So many callers, each of which does one operation after the other; how long each took goes to `took`. */
async function call(
  concurrency: number,
  operation: (caller: number) => Promise<void>,
  goesOn: (now: number) => boolean,
  took: number[],
): Promise<void> {
  const one = async (caller: number): Promise<void> => {
    for (let began = performance.now(); goesOn(began);) {
      await operation(caller);
      const now = performance.now();
      took.push(now - began);
      began = now;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, (_, caller) => one(caller)));
}
