import { plainQuery, type PlainQuery } from '../client/plain-query.js';
import type { FlightOutcome } from '../client/flight.js';
import type { StatementCatalog } from '../client/statement-catalog.js';
import { untilReady } from '../client/until-ready.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import type { PgLease } from '../pool/lease.js';
import type { QueryCallback } from '../pool/pooled-statement.js';
import { cancelPolitely } from '../pool/recycle.js';
import type { Clock } from '../util/clock.js';
import { Deadline } from '../util/deadline.js';
import { COMMIT, ROLLBACK } from './control.js';
import { aborted, commitUnknown, ended, lost } from './transaction-errors.js';

/** What takes the connection of a transaction for a while: a statement, or a stream. */
export interface Operation {
  /** The transaction, outer or inner, that it belongs to. */
  readonly owner: object;
  /** Undefined for a stream. */
  readonly text: string | undefined;
  /** Its turn has come; it calls `done` once when the next may come. */
  start(done: () => void): void;
  /** Its turn will not come. */
  refuse(error: Error): void;
  /** It was given up: a rejection that nobody awaits is no accident any more. */
  silence?: () => void;
}

/** What a session needs of its pool. */
export interface SessionContext {
  readonly name: string;
  readonly statements: StatementCatalog;
  readonly clock: Clock;
  /** Has a statement told of to whoever observes the pool's statements. */
  observe(config: object | string, tell: QueryCallback): QueryCallback;
}

/** For a ROLLBACK. */
const ROLLBACK_MILLIS = 5_000;
const NEVER = new AbortController().signal;
const IN_FAILED_TRANSACTION = '25P02';

type Method = (...args: unknown[]) => unknown;

/**
 * The connection of one transaction, from its lease to its release. Operations take it in turn. What opens the transaction
 * and its savepoints travels ahead of the next statement, in its flight.
 */
export class TransactionSession {
  readonly client: PgLease;
  readonly #context: SessionContext;
  /** Not sent yet. */
  #ahead: PlainQuery[];
  #isBegun = false;
  #running: Operation | undefined;
  #waiting: Operation[] = [];
  /** Why no more statements are taken. */
  #refusal: PgModuleError | undefined;
  /** The connection cannot be used by others any more. */
  #isBroken = false;
  #failure: Error | undefined;

  constructor(context: SessionContext, client: PgLease, opening: readonly PlainQuery[]) {
    this.#context = context;
    this.client = client;
    this.#ahead = [...opening];
  }

  /** The failure that a failed transaction has failed by. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  enqueue(operation: Operation): void {
    if (this.#refusal) {
      process.nextTick(() => operation.refuse(this.#refusal as Error));
      return;
    }
    this.#waiting.push(operation);
    if (!this.#running) this.#next();
  }

  /** Takes an operation out that waits for its turn; says whether it did. */
  withdraw(operation: Operation): boolean {
    const index = this.#waiting.indexOf(operation);
    if (index === -1) return false;
    this.#waiting.splice(index, 1);
    return true;
  }

  /** Those of `isMeant` that have not ended, the running one first. */
  unfinished(isMeant: (owner: object) => boolean): Operation[] {
    const all = this.#running ? [this.#running, ...this.#waiting] : this.#waiting;
    return all.filter(({ owner }) => isMeant(owner));
  }

  /** Sends a statement, behind what has to go ahead of it. */
  send(config: object | string, values: unknown, tell: QueryCallback): void {
    const { client } = this;
    const told: QueryCallback = (error, result) => {
      if (error) this.#noteFailure(error);
      tell(error, result);
    };
    const plain = plainQuery(this.#context.statements, config, values, this.#ahead.length > 0);
    try {
      if (this.#ahead.length === 0) {
        if (plain) client.run(plain, told);
        else (client.query as Method)(config, values, told);
      } else if (plain) {
        this.fly([plain], (error, { results }) => told(error, results.at(-1)));
      } else {
        this.fly([], (error) => {
          if (error) told(error);
          else this.send(config, values, tell);
        });
      }
    } catch (error) {
      // pg throws for what it cannot even begin with.
      told(error as Error);
    }
  }

  /** Sends statements in one flight, behind what has to go ahead of them; it is told of them alone. */
  fly(plains: readonly PlainQuery[], tell: (error: Error | null, outcome: FlightOutcome) => void): void {
    const ahead = this.#ahead;
    const wasBegun = this.#isBegun;
    if (ahead.length + plains.length === 0) {
      tell(null, { results: [], failedAt: 0, isSent: false });
      return;
    }
    this.#ahead = [];
    this.#isBegun = true;
    this.client.fly([...ahead, ...plains], (error, outcome) => {
      if (!outcome.isSent) {
        this.#ahead = [...ahead, ...this.#ahead];
        this.#isBegun = wasBegun;
      }
      const { results, failedAt, isSent } = outcome;
      tell(error, { results: results.slice(ahead.length), failedAt: failedAt - ahead.length, isSent });
    });
  }

  /** A command that travels with the next statement. */
  sendAhead(plain: PlainQuery): void {
    this.#ahead.push(plain);
  }

  /** Takes a command back with all that came after it; false if it has been sent. */
  takeBack(plain: PlainQuery): boolean {
    const index = this.#ahead.indexOf(plain);
    if (index === -1) return false;
    this.#ahead.length = index;
    return true;
  }

  /** The server has declared the transaction failed, and waits for a ROLLBACK. */
  async isFailed(): Promise<boolean> {
    if (this.client.isSettling) await untilReady(this.client, NEVER);
    return !this.client.isClosed && this.client.getTransactionStatus() === 'E';
  }

  /**
   * Commits. Where the signal fires before the answer, the connection is cut: there is no other way to stop waiting.
   *
   * @throws pg.DatabaseError the server rolled back; PgModuleError `PG_COMMIT_UNKNOWN`
   */
  async commit(signal: AbortSignal | undefined): Promise<void> {
    if (this.#refusal) throw this.#refusal;
    if (signal?.aborted) throw signal.reason as Error;
    if (!this.#isBegun) return;
    this.#ahead = [];
    const { client } = this;
    if (client.isClosed) throw lost(this.#context.name);
    const abort = (): void => {
      this.#isBroken = true;
      client.destroy();
    };
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const [{ command }] = await new Promise<[{ command?: string }]>((resolve, reject) => {
        client.fly([COMMIT], (error, { results }) => {
          if (error) reject(error);
          else resolve(results as [{ command?: string }]);
        });
      });
      if (command !== 'COMMIT') throw aborted(this.#context.name, this.#failure);
    } catch (error) {
      if (error instanceof PgModuleError || isVerdict(error)) throw error;
      this.#isBroken = true;
      throw commitUnknown(this.#context.name, signal?.aborted ? signal.reason : error);
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** Undoes everything, or everything since a savepoint; cancels what runs. Never rejects. */
  async rollBack(commands: readonly PlainQuery[] = [ROLLBACK]): Promise<void> {
    const { client } = this;
    const { clock } = this.#context;
    this.#ahead = [];
    // The end of the session undoes it as well.
    if (!this.#isBegun || client.isClosed || this.#isBroken) return;
    const deadline = new Deadline(ROLLBACK_MILLIS, () => new Error('no answer'), clock);
    if (client.isSettling) await untilReady(client, deadline.signal);
    if (!client.isReady) await this.cancel();
    if (client.isReady && client.getTransactionStatus() !== 'I') {
      client.fly(commands, (error) => {
        if (!error) this.#failure = undefined;
      });
      await untilReady(client, deadline.signal);
    }
    deadline.clear();
  }

  /** Refuses what waits and what comes, from now on. */
  refuse(error: PgModuleError): void {
    this.#refusal ??= error;
    for (const operation of this.#waiting.splice(0)) operation.refuse(this.#refusal);
  }

  /** The connection is not to be lent again. */
  break(): void {
    this.#isBroken = true;
  }

  /** Gives the connection back, to be closed if it is not clean. */
  release(): void {
    const { client } = this;
    if (client.isReleased) return;
    const isClean = client.isReady && client.getTransactionStatus() === 'I';
    client.release(this.#isBroken || !isClean);
  }

  /** Has the server cancel what runs; the turn passes on when it is over. */
  async cancel(): Promise<void> {
    if (!(await cancelPolitely(this.client, this.#context.clock))) this.#isBroken = true;
  }

  /** {@link TransactionSession.cancel}, and cuts the connection if that does not help. */
  async stop(): Promise<void> {
    await this.cancel();
    if (this.client.isReady || this.client.isReleased) return;
    this.#isBroken = true;
    this.client.destroy();
  }

  #next(): void {
    const operation = (this.#running = this.#waiting.shift());
    operation?.start(() => void this.#done());
  }

  async #done(): Promise<void> {
    const { client } = this;
    // Behind an error the server's ReadyForQuery is still to come.
    if (!client.isReleased && client.isSettling) await untilReady(client, NEVER);
    this.#look();
    this.#next();
  }

  /** Whether the transaction is still what it is meant to be. */
  #look(): void {
    const { client } = this;
    const { name } = this.#context;
    if (client.isReleased) return;
    if (client.isClosed) this.refuse(lost(name));
    else if (this.#isBegun && client.isReady && client.getTransactionStatus() === 'I') {
      this.refuse(ended(name, `after ${this.#failure ? 'an error' : 'a statement'} that ended it`));
    }
  }

  #noteFailure(error: Error): void {
    if ((error as { code?: string }).code !== IN_FAILED_TRANSACTION) this.#failure = error;
  }
}

/** The server has said what became of the COMMIT: with an error that leaves the session alive, nothing was committed. */
export function isVerdict(error: unknown): boolean {
  const { severity, code } = error as { severity?: string; code?: string };
  return severity === 'ERROR' && code !== undefined && !code.startsWith('08') && !code.startsWith('57P');
}
