import { AsyncResource } from 'node:async_hooks';
import { PgModuleError } from '../errors/pg-module.error.js';
import type { BorrowedConnection, ConnectionSource } from '../pool/connection-source.js';
import type { LendingPool } from '../pool/lending-pool.js';
import type { QueryCallback } from '../pool/pooled-statement.js';
import { runSubmittable, type Submittable } from '../pool/pooled-submittable.js';
import { queryInAnyForm, type QueryRunner } from '../pool/query-forms.js';
import { within } from './ambient.js';
import { command, transactionControl } from './control.js';
import { aborted, busy, ended, endsItself, shortened, unawaited } from './transaction-errors.js';
import { TransactionHooks } from './transaction-hooks.js';
import type { ResolvedTransactionOptions, TransactionOptions } from './transaction-options.js';
import { conduct } from './conduct.js';
import { resolveInnerOptions } from './inner-options.js';
import { TransactionLimits } from './transaction-limits.js';
import type { Operation, SessionContext, TransactionSession } from './transaction-session.js';

/** What a transaction is made of. */
export interface TransactionParts {
  /** Whose ambient transaction it is. */
  readonly pool: object;
  readonly context: SessionContext;
  readonly session: TransactionSession;
  readonly options: ResolvedTransactionOptions;
  readonly attempt: number;
  readonly signal: AbortSignal | undefined;
  readonly outer?: PgTransaction;
}

let savepoints = 0;

/**
 * A transaction that is open, or a savepoint inside of one. Its statements run one after the other in the order in which
 * they were started.
 */
export class PgTransaction implements ConnectionSource {
  /** Which run of the function this is: 1, and more after a retry. */
  readonly attempt: number;
  /**
   * pg's `query()`, in all its forms.
   *
   * @throws pg.DatabaseError; PgModuleError `PG_TRANSACTION_ENDED`, `PG_TRANSACTION_BUSY`, `PG_ABORTED`
   */
  declare readonly query: LendingPool['query'];
  readonly #parts: TransactionParts;
  readonly #session: TransactionSession;
  readonly #hooks = new TransactionHooks();
  #signal: AbortSignal | undefined;
  #inner: PgTransaction | undefined;
  /** Why it takes no more statements: an error, or what is to be said in one. */
  #ending: PgModuleError | string | undefined;
  /** It was given up: a rejection that nobody awaits is no accident any more. */
  #silence: (() => void) | undefined;
  /** The statement that was started last. */
  #newest: Operation | undefined;
  /** @internal Runs what `query()` is asked for. */
  readonly runner: QueryRunner = {
    run: (config, values, tell, isPromise) => {
      // A promise keeps its context by itself.
      this.#run(config, values, isPromise ? tell : AsyncResource.bind(tell));
    },
    submit: (submittable, args) => {
      bindToHere(submittable);
      runSubmittable(this.borrow(), (borrowed) => borrowed, submittable, args);
    },
    promised: (answer) => {
      if (this.#newest) this.#newest.silence = () => void answer.catch(() => undefined);
      this.#newest = undefined;
    },
  };

  /** @internal Transactions are opened by `pool.transaction()`. */
  constructor(parts: TransactionParts) {
    this.#parts = parts;
    this.#session = parts.session;
    this.attempt = parts.attempt;
    this.#signal = parts.signal;
  }

  static {
    const query = function (this: PgTransaction, ...[config, values, callback]: unknown[]): unknown {
      return queryInAnyForm(this.runner, config, values, callback);
    };
    Object.defineProperty(this.prototype, 'query', { value: query, writable: true, configurable: true });
  }

  /** Fires when the transaction's time is up or its own signal has fired: everything is rolled back then. */
  get signal(): AbortSignal {
    return (this.#signal ??= new AbortController().signal);
  }

  /** The transaction that this one is a savepoint of. */
  get outer(): PgTransaction | undefined {
    return this.#parts.outer;
  }

  /** Neither committed nor rolled back. */
  get isOpen(): boolean {
    return this.#ending === undefined;
  }

  /** @internal */
  get options(): ResolvedTransactionOptions {
    return this.#parts.options;
  }

  /** @internal */
  get hooks(): TransactionHooks {
    return this.#hooks;
  }

  /**
   * A transaction inside of this one: a savepoint. If its function throws, only what was done in it is undone, and this
   * transaction goes on where the error is caught.
   *
   * @throws what `work` throws; PgModuleError `PG_TRANSACTION_BUSY` while another one is open beside it,
   *   `PG_TRANSACTION_ENDED`, `PG_TRANSACTION_UNAWAITED`, `PG_TRANSACTION_ABORTED`, `PG_CONFIG_INVALID`
   */
  transaction<T>(work: (transaction: PgTransaction) => Promise<T> | T, options?: TransactionOptions): Promise<T> {
    try {
      return this.nest(work, resolveInnerOptions(this.options, options));
    } catch (error) {
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- an error of ours
      return Promise.reject(error);
    }
  }

  /** @internal {@link PgTransaction.transaction}, with options as they are to be found in it. */
  nest<T>(
    work: (transaction: PgTransaction) => Promise<T> | T,
    resolved: ResolvedTransactionOptions,
    attempt = this.attempt,
  ): Promise<T> {
    const { pool, context } = this.#parts;
    const { name } = context;
    const refusal = this.#over() ?? (this.#inner && busy(name, 'another inner transaction'));
    if (refusal) return Promise.reject(refusal);
    const point = `nestjs_pg_${++savepoints}`;
    const save = command(`SAVEPOINT ${point}`);
    const release = command(`RELEASE SAVEPOINT ${point}`);
    const limits = new TransactionLimits(name, resolved, context.clock, this.#signal);
    const { signal } = limits;
    const inner = new PgTransaction({ ...this.#parts, options: resolved, attempt, signal, outer: this });
    this.#inner = inner;
    this.#session.sendAhead(save);
    const end = (): void => {
      limits.clear();
      this.#inner = undefined;
    };
    const answer = conduct(inner, () => within(pool, inner, () => work(inner)), signal, {
      complete: async () => {
        this.#assertOpen();
        if (await this.#session.isFailed(signal)) throw aborted(name, this.#session.failure);
        if (!this.#session.takeBack(save)) this.#session.sendAhead(release);
        this.#hooks.take(inner.hooks);
        end();
      },
      rollBack: async () => {
        // Otherwise the outer one is undone as a whole.
        if (this.isOpen && !this.#session.takeBack(save)) {
          await this.#session.rollBackTo(save, [command(`ROLLBACK TO SAVEPOINT ${point}`), release]);
        }
        this.#hooks.takeBack(inner.hooks);
        end();
      },
    });
    inner.#silence = () => void answer.catch(() => undefined);
    return answer;
  }

  /** Runs after the COMMIT, when the connection is back; what it throws becomes a warning. For mails and messages. */
  afterCommit(hook: () => unknown): void {
    this.#assertOpen();
    this.#hooks.committed.push(hook);
  }

  /** Runs after everything has been rolled back, when the connection is back; what it throws becomes a warning. */
  afterRollback(hook: () => unknown): void {
    this.#assertOpen();
    this.#hooks.rolledBack.push(hook);
  }

  /** @internal The connection, for a stream. */
  borrow(signal?: AbortSignal): Promise<BorrowedConnection> {
    return new Promise((resolve, reject) => {
      const refusal = this.#refusalOf(undefined);
      if (refusal) {
        reject(refusal);
        return;
      }
      const abort = (): void => {
        if (this.#session.withdraw(operation)) reject(this.#abortedBy(signal));
      };
      const operation: Operation = {
        owner: this,
        text: undefined,
        start: (done) => {
          signal?.removeEventListener('abort', abort);
          // What goes ahead is sent first.
          this.#session.fly([], (error) => {
            if (error) {
              reject(error);
              done();
            } else resolve(this.#borrowed(done));
          });
        },
        refuse: (error) => {
          signal?.removeEventListener('abort', abort);
          reject(error);
        },
      };
      if (signal?.aborted) {
        reject(this.#abortedBy(signal));
        return;
      }
      signal?.addEventListener('abort', abort, { once: true });
      this.#session.enqueue(operation);
    });
  }

  /** @internal Statements that travel together. */
  fly(...args: Parameters<TransactionSession['fly']>): Promise<void> {
    const [plains, tell] = args;
    return new Promise((resolve, reject) => {
      this.#session.enqueue({
        owner: this,
        text: plains[0]?.statement.text,
        start: (done) =>
          this.#session.fly(plains, (error, outcome) => {
            done();
            tell(error, outcome);
            resolve();
          }),
        refuse: reject,
      });
    });
  }

  /**
   * @internal The function has returned.
   *
   * @throws PgModuleError `PG_TRANSACTION_UNAWAITED`
   */
  assertQuiet(): void {
    const unfinished = this.#session.unfinished((owner) => this.#holds(owner));
    const texts = unfinished.map(({ text }) => shortened(text));
    if (this.#inner) texts.push('an inner transaction');
    if (texts.length > 0) throw unawaited(this.#parts.context.name, texts);
  }

  /** @internal Takes no more statements; those that have not ended are given up. */
  end(refusal: PgModuleError | string): void {
    this.#ending ??= refusal;
    const inner = this.#inner;
    if (inner) {
      inner.#silence?.();
      inner.end(refusal);
    }
    for (const operation of this.#session.unfinished((owner) => this.#holds(owner))) {
      operation.silence?.();
      operation.isTold = true;
      if (this.#session.withdraw(operation)) operation.refuse(this.#errorOf(this.#ending));
    }
  }

  #holds(owner: object): boolean {
    for (let at: object | undefined = owner; at instanceof PgTransaction; at = at.outer) if (at === this) return true;
    return false;
  }

  /** Made where it is told, which most transactions never need. */
  #errorOf(ending: PgModuleError | string): PgModuleError {
    return typeof ending === 'string' ? ended(this.#parts.context.name, ending) : ending;
  }

  #assertOpen(): void {
    if (this.#ending !== undefined) throw this.#errorOf(this.#ending);
  }

  /** Why it takes no more statements: from the moment on at which its signal fires. */
  #over(): PgModuleError | undefined {
    const { signal } = this.#parts;
    if (this.#ending !== undefined) return this.#errorOf(this.#ending);
    return signal?.aborted ? (signal.reason as PgModuleError) : undefined;
  }

  #refusalOf(text: string | undefined): PgModuleError | undefined {
    const over = this.#over();
    if (over) return over;
    const { name } = this.#parts.context;
    if (this.#inner) return busy(name, text === undefined ? 'a stream' : `the statement ${shortened(text)}`);
    const word = text === undefined ? undefined : transactionControl(text);
    return word === undefined ? undefined : endsItself(name, word.toUpperCase());
  }

  #run(config: object | string, values: unknown, told: QueryCallback): void {
    const tell = this.#parts.context.observe(config, told);
    const { text, signal } = (typeof config === 'string' ? { text: config } : config) as {
      text?: string;
      signal?: AbortSignal;
    };
    const refusal =
      this.#refusalOf(typeof text === 'string' ? text : '') ?? (signal?.aborted && this.#abortedBy(signal));
    this.#newest = undefined;
    if (refusal) {
      process.nextTick(tell, refusal);
      return;
    }
    const operation: Operation = {
      owner: this,
      text: text ?? '',
      start: (done) => {
        this.#session.send(config, values, (error, result) => {
          operation.isTold = true;
          done();
          tell(error, result);
        });
      },
      refuse: tell,
    };
    this.#newest = operation;
    this.#session.enqueue(signal ? this.#abortable(operation, config, values, tell, signal) : operation);
  }

  /** A statement that its own signal may cancel; with it the transaction has failed, as with any failed statement. */
  #abortable(
    operation: Operation,
    config: object | string,
    values: unknown,
    tell: QueryCallback,
    signal: AbortSignal,
  ): Operation {
    const settled = (): void => signal.removeEventListener('abort', abort);
    let isRunning = false;
    let onAbort: ((error: Error) => void) | undefined;
    const abort = (): void => {
      const error = this.#abortedBy(signal);
      operation.isTold = true;
      if (isRunning) onAbort?.(error);
      else this.#session.withdraw(operation);
      tell(error);
    };
    signal.addEventListener('abort', abort, { once: true });
    return Object.assign(operation, {
      start: (done: () => void) => {
        isRunning = true;
        onAbort = (error) => {
          // It may be done before the request to cancel arrives.
          this.#session.doom(error);
          // The next one must not be met by the request to cancel.
          void this.#session.cancel().then(done);
        };
        this.#session.send(config, values, (error, result) => {
          if (signal.aborted) return;
          operation.isTold = true;
          settled();
          done();
          tell(error, result);
        });
      },
      refuse: (error: Error) => {
        settled();
        tell(error);
      },
    });
  }

  #abortedBy(signal: AbortSignal | undefined): PgModuleError {
    const text = `Pool "${this.#parts.context.name}": the statement was cancelled, since its signal fired.`;
    return new PgModuleError('PG_ABORTED', text, { cause: signal?.reason });
  }

  #borrowed(done: () => void): BorrowedConnection {
    let isReleased = false;
    return {
      client: this.#session.client,
      isInTransaction: true,
      release: (error) => {
        if (isReleased) return;
        isReleased = true;
        if (error) {
          this.#session.break(error instanceof Error ? error : new Error('A stream could not be brought to its end.'));
        }
        done();
      },
    };
  }
}

/** What a Submittable tells by events, or by a callback of its own, is heard in the context in which it was submitted. */
function bindToHere(submittable: Submittable): void {
  const telling = submittable as { emit?: unknown; callback?: unknown };
  for (const name of ['emit', 'callback'] as const) {
    const tell = telling[name];
    if (typeof tell === 'function') telling[name] = AsyncResource.bind(tell as () => void);
  }
}
