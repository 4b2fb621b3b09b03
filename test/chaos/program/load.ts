import { setTimeout as delay } from 'node:timers/promises';
import type { PgPool } from 'nestjs-pg';
import type { Journal } from './journal.js';
import type { Ledger } from './ledger.js';
import { OPERATIONS, type OperationKind } from './operations.js';
import { seeded, type Random } from './random.js';

/** Rush hours, in which everybody waits, take turns with quiet ones, in which connections rest. */
const TIDE_MILLIS = 1_500;
/** How long a borrower rests between two operations, at most. */
const REST_MILLIS = { rush: 100, quiet: 3_000 };

/** For everybody to come. */
const CROWD_MILLIS = 20_000;

export interface LoadOptions {
  readonly pool: PgPool;
  readonly ledger: Ledger;
  readonly journal: Journal;
  readonly seed: number;
  readonly borrowers: number;
  readonly accounts: number;
}

/** Borrowers, each of which does one thing after the other. */
export class Load {
  readonly #options: LoadOptions;
  readonly #borrowers: Promise<void>[];
  #gate: Promise<void> | undefined;
  #openGate: (() => void) | undefined;
  #atGate = 0;
  #onAllAtGate: (() => void) | undefined;
  readonly #resting = new Set<() => void>();
  #crowded = false;
  /** Operations under way that may give up waiting. */
  #impatient = 0;
  #stopped = false;

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#borrowers = Array.from({ length: options.borrowers }, (_, index) =>
      this.#borrow(seeded(options.seed * 1_000 + index)),
    );
  }

  /** Resolves when every borrower has ended what it was doing, or is late with it. */
  async pause(): Promise<void> {
    this.#gate ??= new Promise((resolve) => (this.#openGate = resolve));
    this.#wakeAll();
    if (!(await this.#options.ledger.empty()) || this.#atGate === this.#options.borrowers) return;
    await new Promise<void>((resolve) => (this.#onAllAtGate = resolve));
  }

  resume(): void {
    this.#gate = undefined;
    this.#openGate?.();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wakeAll();
    this.resume();
    if (await this.#options.ledger.empty()) await Promise.all(this.#borrowers);
  }

  /**
   * Everybody comes, until all wait for a connection and nobody will give up: then there is none left to remind the
   * pool of them, until {@link disperse}.
   */
  async crowd(): Promise<void> {
    const { pool, borrowers } = this.#options;
    this.#crowded = true;
    const deadline = performance.now() + CROWD_MILLIS;
    while (pool.waitingCount < borrowers || this.#impatient > 0) {
      this.#wakeAll();
      await delay(10);
      if (performance.now() > deadline) throw new Error(`${pool.waitingCount} of ${borrowers} borrowers wait`);
    }
  }

  disperse(): void {
    this.#crowded = false;
  }

  async #borrow(random: Random): Promise<void> {
    const { pool, ledger, journal, accounts } = this.#options;
    await this.#rest(random() * REST_MILLIS.rush);
    while (!this.#stopped) {
      if (this.#gate) await this.#passGate(this.#gate);
      const kind = pick(random, this.#crowded);
      if (kind.impatient) this.#impatient++;
      await ledger.run(kind.name, (entry) => kind.run({ pool, random, journal, accounts, entry }));
      if (kind.impatient) this.#impatient--;
      await this.#rest(random() * REST_MILLIS[tide()]);
    }
  }

  /** Until the time has come, or the gate is closed. */
  async #rest(millis: number): Promise<void> {
    if (this.#gate || this.#stopped) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#resting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, millis);
      this.#resting.add(done);
    });
  }

  #wakeAll(): void {
    for (const wake of [...this.#resting]) wake();
  }

  async #passGate(gate: Promise<void>): Promise<void> {
    if (++this.#atGate === this.#options.borrowers) this.#onAllAtGate?.();
    await gate;
    this.#atGate--;
  }
}

function tide(): keyof typeof REST_MILLIS {
  return Math.floor(performance.now() / TIDE_MILLIS) % 2 === 0 ? 'rush' : 'quiet';
}

function pick(random: Random, patient: boolean): OperationKind {
  const kinds = OPERATIONS.filter(({ impatient }) => !(patient && impatient));
  let left = random() * kinds.reduce((sum, { share }) => sum + share, 0);
  for (const kind of kinds) {
    left -= kind.share;
    if (left < 0) return kind;
  }
  return OPERATIONS[0]!;
}
