import { AsyncResource } from 'node:async_hooks';
import type { PgClient } from '../client/pg-client.js';
import type { PlainQuery } from '../client/plain-query.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import type { Arrival } from '../util/arrival.js';
import type { Clock } from '../util/clock.js';
import type { PoolEngine } from './engine.js';
import type { Leased } from './pooled-connection.js';
import { cancelPolitely } from './recycle.js';
import { Waiter } from './wait-queue.js';
import type { Way } from './way.js';

/** pg itself passes `null` where there is no error. */
export type QueryCallback = (error: Error | null | undefined, result?: unknown) => void;

/** What the statements of a pool have in common. */
export interface StatementPool {
  readonly name: string;
  readonly engine: PoolEngine<PgClient>;
  readonly clock: Clock;
  readonly arrival: Arrival;
  readonly way: Way;
}

/** No statement counts for less, in milliseconds. */
const LEAST_MILLIS = 0.05;

type Method = (...args: unknown[]) => unknown;

/**
 * One `pool.query()`: it takes a connection, or a place on one that is working, or waits for one; runs; and gives it back.
 */
export class PooledStatement extends Waiter<Leased<PgClient>> {
  readonly joinMillis: number | undefined;
  readonly #pool: StatementPool;
  readonly #config: object | string;
  readonly #values: unknown;
  readonly #plain: PlainQuery | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #tell: QueryCallback;
  #context: AsyncResource | undefined;
  #sentAt = 0;
  #isJoined = false;

  /** `plain` = what `config` and `values` say, if that is a plain query; `mayJoin` = the pool lets statements travel together. */
  constructor(
    pool: StatementPool,
    config: object | string,
    values: unknown,
    plain: PlainQuery | undefined,
    mayJoin: boolean,
    tell: QueryCallback,
  ) {
    super();
    this.#pool = pool;
    this.#config = config;
    this.#values = values;
    this.#plain = plain;
    this.#signal = (config as { signal?: AbortSignal }).signal;
    this.#tell = tell;
    const isFastRead = plain?.statement.kind === 'read' && plain.statement.isFast;
    // A cancel would meet another's statement, and a deadline of the client's ends the connection.
    const isFree = this.#signal === undefined && plain?.queryTimeoutMillis === undefined;
    this.joinMillis = mayJoin && isFastRead && isFree ? Math.max(LEAST_MILLIS, plain.statement.millis) : undefined;
  }

  start(): void {
    const { engine, way } = this.#pool;
    const idle = this.#signal?.aborted ? undefined : engine.tryAcquire(undefined);
    const leased = idle ?? (this.joinMillis === undefined ? undefined : engine.tryJoin(this.joinMillis, way.millis));
    if (leased) this.#run(leased);
    else {
      this.#context = new AsyncResource('nestjs-pg.statement');
      engine.enqueue(this, this.#signal);
    }
  }

  /** In the context of the caller, and not of the one whose connection it gets. */
  serve(leased: Leased<PgClient>): void {
    this.#context?.runInAsyncScope(this.#run, this, leased);
  }

  #run(leased: Leased<PgClient>): void {
    const { engine, clock } = this.#pool;
    this.#sentAt = clock.now();
    this.#isJoined = leased.load > 0;
    if (this.#isJoined) leased.client.setPipelining(true);
    let done: QueryCallback = (error, result) => this.#done(leased, error, result);
    if (this.#signal) done = this.#cancellable(leased, this.#signal, done);
    try {
      if (this.#plain) leased.client.run(this.#plain, done);
      else (leased.client.query as Method).call(leased.client, this.#config, this.#values, done);
    } catch (error) {
      done(error as Error);
      return;
    }
    if (!this.#isJoined && this.joinMillis !== undefined && leased.is('leased')) engine.share(leased, this.joinMillis);
  }

  refuse(error: Error): void {
    this.#tell(error);
  }

  #done(leased: Leased<PgClient>, error: Error | null | undefined, result: unknown): void {
    const { engine, way, arrival } = this.#pool;
    const now = arrival.now();
    this.#plain?.statement.ran(way.measure(this.#sentAt, leased.answeredAt, now));
    leased.answeredAt = now;
    if (leased.load === 0 || this.joinMillis === undefined) engine.release(leased, false);
    else {
      if (leased.load === 1) leased.client.setPipelining(false);
      engine.leave(leased, this.joinMillis);
    }
    this.#tell(error, result);
  }

  /** What a statement calls when it is done, if a signal may end it before. */
  #cancellable(leased: Leased<PgClient>, signal: AbortSignal, done: QueryCallback): QueryCallback {
    const { engine, clock, name } = this.#pool;
    const abort = (): void => {
      const text = `Pool "${name}": the statement was cancelled, since its signal fired.`;
      this.#tell(new PgModuleError('PG_ABORTED', text, { cause: signal.reason }));
      // Given back only when the request has arrived and been obeyed: it must not meet the next borrower's statement.
      void cancelPolitely(leased.client, clock).then((isConfirmed) => engine.release(leased, !isConfirmed));
    };
    signal.addEventListener('abort', abort, { once: true });
    return (error, result) => {
      if (signal.aborted) return;
      signal.removeEventListener('abort', abort);
      done(error, result);
    };
  }
}
