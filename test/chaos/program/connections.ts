import type { PgClient, PgPool } from 'nestjs-pg';

const PATIENCE_MILLIS = 30_000;
/** Those of a validation, which may be under way. */
const PASSING_LISTENERS = 2;

/** The pool's connections as their own events tell of them. */
export class Connections {
  readonly #live = new Map<PgClient, { readonly pid: number; readonly listeners: number }>();
  readonly #lent = new Set<unknown>();
  readonly #watchers = new Set<() => void>();
  #opened = 0;

  constructor(pool: PgPool, violation: (what: string) => void) {
    pool.on('connect', (client) => this.#onOpened(client as unknown as PgClient));
    pool.on('acquire', (client) => {
      if (this.#lent.has(client)) violation('a connection was lent that is lent already');
      if (!this.#live.has(client as unknown as PgClient)) violation('a connection was lent that has ended');
      this.#lent.add(client);
    });
    pool.on('release', (_, client) => {
      if (!this.#lent.delete(client)) violation('a connection was given back that is not lent');
    });
  }

  get pids(): number[] {
    return [...this.#live.values()].map(({ pid }) => pid);
  }

  /** Those that were told of as lent and not as given back. To be asked when nobody borrows; forgets them. */
  countUnreturned(): number {
    const count = this.#lent.size;
    this.#lent.clear();
    return count;
  }

  /** How many connections have more listeners than when they were opened. To be asked when nobody borrows. */
  get burdened(): number {
    return [...this.#live].filter(([client, { listeners }]) => countListeners(client) > listeners + PASSING_LISTENERS)
      .length;
  }

  /** Resolves when the sockets of these have closed. */
  gone(pids: readonly number[]): Promise<void> {
    return this.#until(() => !this.pids.some((pid) => pids.includes(pid)), 'connections to end');
  }

  more(count: number): Promise<void> {
    const wanted = this.#opened + count;
    return this.#until(() => this.#opened >= wanted, `${count} more connections`);
  }

  #onOpened(client: PgClient): void {
    this.#opened++;
    client.once('end', () => {
      this.#live.delete(client);
      this.#look();
    });
    this.#live.set(client, { pid: client.processId ?? 0, listeners: countListeners(client) });
    this.#look();
  }

  #until(isTrue: () => boolean, what: string): Promise<void> {
    if (isTrue()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.#watchers.delete(look);
        reject(new Error(`waited ${PATIENCE_MILLIS / 1000} s for ${what}`));
      }, PATIENCE_MILLIS);
      const look = (): void => {
        if (!isTrue()) return;
        clearTimeout(late);
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
    });
  }

  #look(): void {
    for (const look of [...this.#watchers]) look();
  }
}

function countListeners(client: PgClient): number {
  return client.eventNames().reduce((sum, name) => sum + client.listenerCount(name), 0);
}
