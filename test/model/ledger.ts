import type { PgClient } from 'nestjs-pg';
import type { LentPool } from './world.js';

type Complain = (complaint: string) => void;

interface Entry {
  readonly openedAt: number;
  isLent: boolean;
  isEvicted: boolean;
  uses: number;
}

/** What must hold when a connection is lent. */
export interface LendingRules {
  readonly maxUses: number;
  readonly maxLifetimeMillis: number;
  /** Whether a session may be lent while its reset is still under way. */
  readonly resetsOnTheWay: boolean;
  /** Why nothing may be lent now. */
  readonly forbidden: () => string | undefined;
}

/** Every connection of a pool and who has it, by the pool's events. */
export class Ledger {
  readonly #entries = new Map<PgClient, Entry>();
  readonly #rules: LendingRules;
  readonly #now: () => number;
  readonly #complain: Complain;
  opened = 0;
  lent = 0;

  constructor(pool: Pick<LentPool, 'on'>, rules: LendingRules, now: () => number, complain: Complain) {
    this.#rules = rules;
    this.#now = now;
    this.#complain = complain;
    // pg's types know of no PgClient.
    const of = (client: unknown): PgClient => client as PgClient;
    pool.on('connect', (client) => {
      this.opened++;
      this.#entries.set(of(client), { openedAt: now(), isLent: false, isEvicted: false, uses: 0 });
    });
    pool.on('acquire', (client) => this.#onLent(of(client)));
    pool.on('release', (_error, client) => this.#onReleased(of(client)));
    pool.on('remove', (client) => {
      if (!this.#entries.delete(of(client))) complain('a connection was closed that is not there');
    });
  }

  /** Those that are not closed yet. */
  get clients(): readonly PgClient[] {
    return [...this.#entries.keys()];
  }

  /** Lent, and alive. */
  get holders(): number {
    return [...this.#entries].filter(([client, { isLent }]) => isLent && !client.isClosed).length;
  }

  /** What is there now must not be lent any more. */
  evict(): void {
    for (const entry of this.#entries.values()) entry.isEvicted = true;
  }

  #onLent(client: PgClient): void {
    this.lent++;
    const entry = this.#entries.get(client);
    const { maxUses, maxLifetimeMillis, resetsOnTheWay, forbidden } = this.#rules;
    const wrong = (complaint: string | false | undefined): void => {
      if (complaint) this.#complain(`lent: ${complaint}`);
    };
    if (!entry) {
      wrong('a connection that is not there');
      return;
    }
    wrong(entry.isLent && 'a connection that is lent');
    wrong(entry.isEvicted && 'an evicted connection');
    wrong(client.isClosed && 'a closed connection');
    wrong(client.fault !== undefined && 'a connection with a fatal error');
    wrong(!resetsOnTheWay && !client.isReady && 'a busy connection');
    wrong(!client.isClosed && client.getTransactionStatus() !== 'I' && 'a connection inside of a transaction');
    wrong(maxUses > 0 && entry.uses >= maxUses && `a connection for the ${entry.uses + 1}th time`);
    const age = this.#now() - entry.openedAt;
    wrong(maxLifetimeMillis > 0 && age > maxLifetimeMillis && `a connection at the age of ${age} ms`);
    wrong(forbidden());
    entry.isLent = true;
    entry.uses++;
  }

  #onReleased(client: PgClient): void {
    const entry = this.#entries.get(client);
    // One that was lost is gone, though its borrower may still give it back.
    if (entry && !entry.isLent) this.#complain('given back: a connection that was not lent');
    if (entry) entry.isLent = false;
  }
}
