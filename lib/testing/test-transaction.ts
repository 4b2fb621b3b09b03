import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import { PgModuleError } from '../errors/pg-module.error.js';
import type { PgPool } from '../pg.pool.js';
import type { BorrowedConnection } from '../pool/connection-source.js';
import { runSubmittable } from '../pool/pooled-submittable.js';
import type { QueryRunner } from '../pool/query-forms.js';
import { within } from '../transaction/ambient.js';
import type { PinnedPool } from '../transaction/pinned-pool.js';
import { retrying, type TransactionWork } from '../transaction/run-transaction.js';
import { shortened } from '../transaction/transaction-errors.js';
import { TransactionHooks } from '../transaction/transaction-hooks.js';
import {
  resolveTransactionOptions,
  type ResolvedTransactionOptions,
  type TransactionOptions,
} from '../transaction/transaction-options.js';
import type { PgTransaction } from '../transaction/transaction.js';
import { systemClock } from '../util/clock.js';
import { deferred } from '../util/deferred.js';
import { formatMillis } from '../util/duration.js';

/** A setting's name and the value that it had. */
type Setting = readonly [name: string, value: string];

/**
 * Stands in a pool's place during a test: whatever the application does in it, from whatever context, becomes a savepoint
 * in one transaction. There is one connection, so statements and transactions take turns.
 */
export class TestTransaction implements PinnedPool {
  readonly connectRefusal: Error | undefined;
  readonly #pool: PgPool;
  readonly #root: PgTransaction;
  readonly #patienceMillis: number;
  /** The application's transaction that was left by pool.outside(), which there is nowhere else to go from. */
  readonly #left = new AsyncLocalStorage<PgTransaction>();
  /** When the last of those that wait for their turn in a transaction has had it. */
  readonly #turns = new WeakMap<PgTransaction, Promise<void>>();
  #holder = '';

  readonly runner: QueryRunner = {
    run: (config, values, tell, isPromise) => {
      const told = isPromise ? tell : AsyncResource.bind(tell);
      const { text } = (typeof config === 'string' ? { text: config } : config) as { text?: string };
      const answer = this.#savepoint(
        `the statement ${shortened(text)}`,
        (inner) =>
          new Promise((resolve, reject) => {
            const settle: typeof tell = (error, result) => {
              if (error) reject(error);
              else resolve(result);
            };
            inner.runner.run(config, values, settle, true);
          }),
      );
      // A callback that throws is its owner's, and not a rejection of ours.
      answer.then(
        (result) => process.nextTick(told, null, result),
        (error: unknown) => process.nextTick(told, error),
      );
    },
    submit: (submittable, args) => runSubmittable(this.borrow(), (borrowed) => borrowed, submittable, args),
  };

  constructor(pool: PgPool, root: PgTransaction, options: { patienceMillis: number; allowConnect: boolean }) {
    this.#pool = pool;
    this.#root = root;
    this.#patienceMillis = options.patienceMillis;
    this.connectRefusal = options.allowConnect
      ? undefined
      : new PgModuleError(
          'PG_TRANSACTION_FORBIDDEN',
          `Pool "${pool.name}": connect() during a test that is rolled back would give a connection that sees nothing of ` +
            'the test, and whose work stays. Use pool.query() or pool.transaction(), or rollbackEachTest(pool, { ' +
            'allowConnect: true }) for connections outside of the test.',
        );
  }

  async transaction<T>(work: TransactionWork<T>, options?: TransactionOptions): Promise<T> {
    const resolved = resolveTransactionOptions(options);
    const host = this.#host();
    return retrying(resolved.retry, { clock: systemClock }, resolved.signal, async (attempt) => {
      let inner: PgTransaction | undefined;
      const kept: TransactionWork<T> = (transaction) => work((inner = transaction));
      try {
        const result = await this.#turn(host, 'a transaction', () => this.#nest(host, kept, resolved, attempt));
        await this.#runHooks(host, inner, 'committed');
        return result;
      } catch (error) {
        await this.#runHooks(host, inner, 'rolledBack');
        throw error;
      }
    });
  }

  outside<T>(work: () => T): T {
    const around = this.#pool.currentTransaction;
    const left = around?.isOpen ? around : this.#host();
    return this.#left.run(left, () => within(this.#pool, undefined, work));
  }

  borrow(signal?: AbortSignal): Promise<BorrowedConnection> {
    return new Promise((resolve, reject) => {
      this.#savepoint('a stream', async (inner) => {
        const borrowed = await inner.borrow(signal);
        const { promise, resolve: done } = deferred<void>();
        resolve({
          client: borrowed.client,
          isInTransaction: true,
          release: (error) => {
            borrowed.release(error);
            done();
          },
        });
        await promise;
      }).catch(reject);
    });
  }

  /** Where what is outside of a transaction is to be done. */
  #host(): PgTransaction {
    const left = this.#left.getStore();
    return left?.isOpen ? left : this.#root;
  }

  #savepoint<T>(what: string, work: TransactionWork<T>): Promise<T> {
    const host = this.#host();
    return this.#turn(host, what, () => host.nest(work, { ...host.options, timeoutMillis: 0, signal: undefined }));
  }

  /** A transaction with its settings, which end with it as they would at a COMMIT. */
  async #nest<T>(
    host: PgTransaction,
    work: TransactionWork<T>,
    options: ResolvedTransactionOptions,
    attempt: number,
  ): Promise<T> {
    // Last, as ever: the role may not be allowed to set the others.
    const wanted: Setting[] = [...options.settings];
    if (options.role !== undefined) wanted.push(['role', options.role]);
    if (wanted.length === 0) return host.nest(work, options, attempt);
    let before: Setting[] = [];
    const result = await host.nest(
      async (inner) => {
        before = await settingsNow(inner, wanted);
        await set(inner, wanted);
        return work(inner);
      },
      options,
      attempt,
    );
    await set(host, before.reverse());
    return result;
  }

  async #turn<T>(host: PgTransaction, what: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(host);
    const { promise, resolve } = deferred<void>();
    this.#turns.set(host, before ? before.then(() => promise) : promise);
    try {
      if (before) await this.#wait(before, what);
      this.#holder = what;
      return await work();
    } finally {
      resolve();
    }
  }

  async #wait(before: Promise<void>, what: string): Promise<void> {
    const late = deferred<never>();
    const timer = setTimeout(() => {
      late.reject(
        new PgModuleError(
          'PG_TRANSACTION_BUSY',
          `Pool "${this.#pool.name}": in a test that is rolled back, all statements and transactions share one ` +
            `connection and take turns; ${what} has waited ${formatMillis(this.#patienceMillis)} for ${this.#holder} to ` +
            'end. If that waits for this one, the test needs a database of its own (createTestDatabase) and no rollback.',
        ),
      );
    }, this.#patienceMillis);
    try {
      await Promise.race([before, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The hooks of a transaction, which its host has taken over for its own end, run now. */
  async #runHooks(
    host: PgTransaction,
    inner: PgTransaction | undefined,
    which: 'committed' | 'rolledBack',
  ): Promise<void> {
    if (!inner) return;
    const { committed, rolledBack } = inner.hooks;
    const taken = new Set([...committed, ...rolledBack]);
    for (const hooks of [host.hooks.committed, host.hooks.rolledBack]) {
      hooks.splice(0, hooks.length, ...hooks.filter((hook) => !taken.has(hook)));
    }
    await TransactionHooks.run(inner.hooks[which], (error) => {
      const message = `Pool "${this.#pool.name}": a hook that runs after a transaction threw: ${String(error)}`;
      if (!this.#pool.emit('warning', message)) process.emitWarning(message, { type: 'PgPoolWarning' });
    });
  }
}

async function settingsNow(transaction: PgTransaction, settings: readonly Setting[]): Promise<Setting[]> {
  const calls = settings.map((_, index) => `current_setting($${index + 1}, true)`);
  const { rows } = await transaction.query<(string | null)[]>({
    text: `SELECT ${calls.join(', ')}`,
    values: settings.map(([name]) => name),
    rowMode: 'array',
  });
  // PostgreSQL itself leaves an empty text behind where there was nothing.
  return settings.map(([name], index) => [name, rows[0]?.[index] ?? '']);
}

async function set(transaction: PgTransaction, settings: readonly Setting[]): Promise<void> {
  const calls = settings.map((_, index) => `set_config($${2 * index + 1}, $${2 * index + 2}, true)`);
  await transaction.query(`SELECT ${calls.join(', ')}`, settings.flat());
}
