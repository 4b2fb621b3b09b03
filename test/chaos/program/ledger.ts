import pg from 'pg';
import { PgModuleError } from 'nestjs-pg';
import type { FaultRecord, KindRecord } from './protocol.js';

/** Longer than any fault with everything that follows from it. */
const PATIENCE_MILLIS = 60_000;
/** Violations that are told in full. */
const TOLD = 50;

/** What came of an operation that did not fail: it did its work, or it failed the way it was meant to. */
export type Outcome = 'done' | 'intended';

/** An answer that is not the right one. No fault excuses it. */
export class WrongAnswer extends Error {}

interface Operation {
  readonly kind: string;
  readonly began: number;
}

interface Account {
  done: number;
  intended: number;
  refused: number;
  failed: number;
  longestMillis: number;
}

interface Fault {
  readonly kind: string;
  readonly began: number;
  over: number | undefined;
  recovered: number | undefined;
  failures: Record<string, number>;
  failed: number;
  readonly onRecovery: (() => void)[];
}

/**
 * The books of all operations: each is opened once and settled once.
 *
 * A failure is excused by a fault if the operation had begun before the fault was over, and failed after the fault had
 * begun, and by the loss of its connection. Everything else is a violation.
 */
export class Ledger {
  readonly violations: string[] = [];
  #unsaid = 0;
  readonly #now: () => number;
  readonly #open = new Set<Operation>();
  readonly #accounts = new Map<string, Account>();
  readonly #onEmpty: (() => void)[] = [];
  #fault: Fault | undefined;
  #closing = false;
  #entries = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  get kinds(): KindRecord[] {
    return [...this.#accounts].map(([kind, account]) => ({ kind, ...account }));
  }

  /** From now on the pool may say that it is closed. */
  close(): void {
    this.#closing = true;
  }

  violation(what: string): void {
    if (this.violations.length < TOLD) this.violations.push(what);
    else if (this.#unsaid++ === 0) this.violations.push('... and more');
  }

  /** Never rejects. `work` gets a number that no other operation has. */
  async run(kind: string, work: (entry: number) => Promise<Outcome>): Promise<void> {
    const operation: Operation = { kind, began: this.#now() };
    this.#open.add(operation);
    let outcome: Outcome | 'refused' | 'failed';
    try {
      outcome = await work(++this.#entries);
      this.#succeeded(operation);
    } catch (error) {
      outcome = this.#isRefusal(error) ? 'refused' : 'failed';
      if (outcome === 'failed') this.#judge(operation, error as Error);
    }
    this.#open.delete(operation);
    this.#settle(operation, outcome);
    if (this.#open.size === 0) for (const tell of this.#onEmpty.splice(0)) tell();
  }

  /** Whether every operation settles; one that does not within a minute is a violation. */
  async empty(): Promise<boolean> {
    if (this.#open.size === 0) return true;
    return new Promise<boolean>((resolve) => {
      const late = setTimeout(() => {
        for (const { kind, began } of this.#open) {
          this.violation(`${kind}: has not settled after ${Math.round(this.#now() - began)} ms`);
        }
        resolve(false);
      }, PATIENCE_MILLIS);
      this.#onEmpty.push(() => {
        clearTimeout(late);
        resolve(true);
      });
    });
  }

  begin(kind: string): void {
    const began = this.#now();
    this.#fault = { kind, began, over: undefined, recovered: undefined, failures: {}, failed: 0, onRecovery: [] };
  }

  /** `atMost` = how many operations the fault could hit: one for each connection that it ended. */
  async over(atMost: number): Promise<FaultRecord> {
    const fault = this.#fault;
    if (!fault) throw new Error('no fault has begun');
    const over = (fault.over = this.#now());
    await this.#recovery(fault);
    const recoveredMillis = (fault.recovered ?? Infinity) - over;
    const { kind, failures, failed } = fault;
    if (failed > atMost) this.violation(`${kind}: ${failed} operations failed, and it could hit ${atMost} at most`);
    return { kind, seconds: (over - fault.began) / 1000, recoveredMillis, failures, failed, atMost };
  }

  async #recovery(fault: Fault): Promise<void> {
    await new Promise<void>((resolve) => {
      const late = setTimeout(() => {
        this.violation(`${fault.kind}: the pool has served nobody for ${PATIENCE_MILLIS / 1000} s since`);
        resolve();
      }, PATIENCE_MILLIS);
      fault.onRecovery.push(() => {
        clearTimeout(late);
        resolve();
      });
    });
  }

  #succeeded(operation: Operation): void {
    const fault = this.#fault;
    if (fault?.over === undefined || fault.recovered !== undefined || operation.began < fault.over) return;
    fault.recovered = this.#now();
    for (const tell of fault.onRecovery) tell();
  }

  #settle({ kind, began }: Operation, outcome: Outcome | 'refused' | 'failed'): void {
    const account = this.#accounts.get(kind) ?? { done: 0, intended: 0, refused: 0, failed: 0, longestMillis: 0 };
    this.#accounts.set(kind, account);
    const millis = this.#now() - began;
    account[outcome]++;
    account.longestMillis = Math.max(account.longestMillis, millis);
    if (millis > PATIENCE_MILLIS) this.violation(`${kind}: took ${Math.round(millis)} ms`);
  }

  #isRefusal(error: unknown): boolean {
    return this.#closing && error instanceof PgModuleError && error.code === 'PG_POOL_CLOSED';
  }

  #judge(operation: Operation, error: Error): void {
    const fault = this.#fault;
    const name = nameOf(error);
    const complain = (why: string): void => {
      const [began, ended] = [operation.began, this.#now()].map((at) => (at / 1000).toFixed(3));
      const last = fault ? `${fault.kind} at ${(fault.began / 1000).toFixed(3)}` : 'none';
      const stack = String(error.stack).split('\n').slice(1, 4).join(' <');
      this.violation(`${operation.kind} (${began} s to ${ended} s, last fault ${last}): ${why}: ${name}${stack}`);
    };
    if (error instanceof WrongAnswer) complain('a wrong answer');
    else if (!isLossOfConnection(error)) complain('not the loss of a connection');
    else if (!fault) complain('failed without a fault');
    else if (fault.over !== undefined && operation.began >= fault.over) complain('began after the fault and failed');
    else {
      fault.failed++;
      fault.failures[name] = (fault.failures[name] ?? 0) + 1;
    }
  }
}

/** The only thing that a fault may do to an operation. In particular no waiting is so long that it ends in a time-out. */
function isLossOfConnection(error: Error): boolean {
  if (error instanceof PgModuleError) return error.code === 'PG_CONNECTION_LOST';
  if (error instanceof pg.DatabaseError) return /^(08|57P0[1-3])/.test(error.code ?? '');
  return /^(Connection terminated|Query read timeout$|(read|write) (ECONNRESET|EPIPE)|Client .* not queryable$)/.test(
    error.message,
  );
}

function nameOf(error: Error): string {
  const { code } = error as { code?: string };
  return code === undefined || error.message.includes(code) ? error.message : `${code} ${error.message}`;
}
