import { backoffMillis } from '../util/backoff.js';
import type { Clock, Timer } from '../util/clock.js';
import { Deadline } from '../util/deadline.js';
import { dialsToStart, nextBurst, type Demand } from './growth.js';

/** Between dials that fail. While somebody waits, the server's return must not stay unnoticed for long. */
const BACKOFF = { baseMillis: 100, maxMillis: 1_000 };
const BACKGROUND_BACKOFF = { baseMillis: 100, maxMillis: 5_000 };

/** Who needs a connection: somebody who waits, the pool itself (for `min`), or nobody. */
export type Need = 'borrowers' | 'floor' | undefined;

/** An attempt to open a connection has failed; the pool goes on by itself. */
export interface DialFailure {
  readonly error: Error;
  /** How many attempts in a row have failed. */
  readonly failures: number;
  /** When the next one is made; `undefined` = when somebody needs a connection. */
  readonly retryInMillis: number | undefined;
  /** It cannot heal while the settings and the server's are as they are. */
  readonly permanent: boolean;
}

export interface DiallerOptions<C> {
  /** Opens a connection; must stop and clean up when the signal fires. */
  readonly connect: (signal: AbortSignal) => Promise<C>;
  /** Trying again with the same settings cannot help. */
  readonly isPermanent: (error: Error) => boolean;
  readonly clock: Clock;
  /** @returns how many borrowers still wait */
  readonly opened: (client: C, millis: number) => number;
  /** @returns who still needs a connection after this */
  readonly failed: (error: Error, permanent: boolean) => Need;
  /** After `failed`. */
  readonly told: (failure: DialFailure) => void;
  /** It is time to look at the demand again. */
  readonly retry: () => void;
}

/** Opens connections for the pool: so many at once as the demand asks for, and one after the other while that fails. */
export class Dialler<C> {
  readonly #options: DiallerOptions<C>;
  readonly #dials = new Set<Deadline>();
  #burst = 1;
  #failures = 0;
  #lastFailure: Error | undefined;
  #retryTimer: Timer | undefined;
  #stopped = false;

  constructor(options: DiallerOptions<C>) {
    this.#options = options;
  }

  /** Connections being opened. */
  get count(): number {
    return this.#dials.size;
  }

  /** Attempts in a row that have failed. */
  get failures(): number {
    return this.#failures;
  }

  get lastFailure(): Error | undefined {
    return this.#lastFailure;
  }

  /** Starts what the demand asks for, unless a failure has put that off. */
  pulse(demand: Omit<Demand, 'dialling' | 'failing' | 'burst'>): void {
    if (this.#stopped || this.#retryTimer !== undefined) return;
    const count = dialsToStart({
      ...demand,
      dialling: this.#dials.size,
      failing: this.#failures > 0,
      burst: this.#burst,
    });
    for (let started = 0; started < count; started++) void this.#dial();
  }

  /** Somebody new needs a connection: the next pulse need not wait for the backoff. */
  endBackoff(): void {
    this.#options.clock.clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
  }

  /** Ends the dials under way, and starts no more. What still comes up is handed over all the same. */
  stop(reason: Error): void {
    this.#stopped = true;
    this.endBackoff();
    for (const dial of this.#dials) dial.abort(reason);
  }

  async #dial(): Promise<void> {
    const { clock } = this.#options;
    const began = clock.now();
    const dial = new Deadline(0, () => new Error('unreachable'), clock);
    this.#dials.add(dial);
    let client: C;
    try {
      client = await this.#options.connect(dial.signal);
    } catch (error) {
      this.#dials.delete(dial);
      this.#onFailure(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    this.#dials.delete(dial);
    this.#failures = 0;
    this.#lastFailure = undefined;
    this.#burst = nextBurst(this.#burst, this.#options.opened(client, clock.now() - began));
    this.#options.retry();
  }

  #onFailure(error: Error): void {
    const { clock, isPermanent, failed, told, retry } = this.#options;
    this.#burst = 1;
    this.#lastFailure = error;
    // Dials that were started together fail together: they count as one attempt.
    if (this.#retryTimer !== undefined) return;
    this.#failures++;
    const permanent = isPermanent(error);
    const need = failed(error, permanent);
    if (need === undefined || this.#stopped) {
      if (!this.#stopped) told({ error, failures: this.#failures, retryInMillis: undefined, permanent });
      return;
    }
    const backoff = need === 'borrowers' ? BACKOFF : BACKGROUND_BACKOFF;
    const delay = permanent ? backoff.maxMillis : backoffMillis(this.#failures, backoff, clock);
    const again = (): void => {
      this.#retryTimer = undefined;
      retry();
    };
    this.#retryTimer = clock.setTimeout(again, delay, need === 'floor' ? 'background' : undefined);
    told({ error, failures: this.#failures, retryInMillis: delay, permanent });
  }
}
