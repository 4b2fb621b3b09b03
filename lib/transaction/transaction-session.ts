import { plainQuery, type PlainQuery } from '../client/plain-query.js';
import type { FlightCallback, FlightOutcome } from '../client/flight.js';
import type { StatementCatalog } from '../client/statement-catalog.js';
import { untilReady } from '../client/until-ready.js';
import type { PgModuleError } from '../errors/pg-module.error.js';
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
  /** Whoever asked for it knows how it has ended, or it was given up, though the connection may still be busy with it. */
  isTold?: boolean;
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
/** For the server to be ready again behind an error in answer to COMMIT. */
const VERDICT_MILLIS = 5_000;
const NEVER = new AbortController().signal;
const IN_FAILED_TRANSACTION = '25P02';

/** What became of statements that flew together. */
export interface SessionOutcome extends FlightOutcome {
  /** They were under way when the connection was lost. */
  readonly isLost: boolean;
}

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
  /** The server knows of no failure, but what was done is not what somebody has been told. */
  #isDoomed = false;
  /** What a statement has been told last, whoever it came from. */
  #latest: Error | undefined;
  /** Whoever waits for the running operation to leave the connection. */
  #onQuiet: (() => void) | undefined;
  #cancelling: Promise<void> | undefined;
  /** One after the other: an inner transaction and the one around it may end at the same time. */
  #undoing: Promise<unknown> = Promise.resolve();

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
    return all.filter(({ owner, isTold }) => isMeant(owner) && !isTold);
  }

  /** Sends a statement, behind what has to go ahead of it. */
  send(config: object | string, values: unknown, tell: QueryCallback): void {
    const { client } = this;
    const told = once<Parameters<QueryCallback>>((error, result) => {
      if (error) this.#noteFailure(error);
      tell(error, result);
    });
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
  fly(plains: readonly PlainQuery[], tell: (error: Error | null, outcome: SessionOutcome) => void): void {
    const ahead = this.#ahead;
    const wasBegun = this.#isBegun;
    if (ahead.length + plains.length === 0) {
      tell(null, { results: [], failedAt: 0, isSent: false, isLost: false });
      return;
    }
    this.#ahead = [];
    this.#isBegun = true;
    const told = once<Parameters<FlightCallback>>((error, outcome) => {
      if (!outcome.isSent) {
        this.#ahead = [...ahead, ...this.#ahead];
        this.#isBegun = wasBegun;
      }
      const { results, failedAt, isSent, isTogether } = outcome;
      const { isReady, isClosed } = this.client;
      const isLost = error !== null && isSent && !isReady && !isAnswer(error) && (isTogether === true || isClosed);
      const own = { results: results.slice(ahead.length), failedAt: failedAt - ahead.length };
      tell(error, { ...outcome, ...own, isLost });
    });
    this.client.fly([...ahead, ...plains], told);
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

  /** Something is under way, or has not gone as it should: {@link TransactionSession.isFailed} is to be asked. */
  get hasTrouble(): boolean {
    return (
      this.#running !== undefined ||
      this.#isDoomed ||
      !this.client.isReady ||
      this.client.getTransactionStatus() === 'E'
    );
  }

  /**
   * The transaction can only be rolled back. Asked when every statement's end has been told.
   *
   * @throws the reason of the signal
   */
  async isFailed(signal: AbortSignal = NEVER): Promise<boolean> {
    const { client } = this;
    if (this.#running) await this.#quiet(signal);
    if (client.isSettling) await untilReady(client, signal);
    if (signal.aborted) throw signal.reason as Error;
    return !client.isClosed && (this.#isDoomed || client.getTransactionStatus() === 'E');
  }

  /** What was done must not be committed: somebody has been told something else. */
  doom(error: Error): void {
    if (!this.#isDoomed) this.#failure = error;
    this.#isDoomed = true;
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
    let done: { command?: string } | undefined;
    try {
      done = await new Promise((resolve, reject) => {
        client.fly([COMMIT], (error, { results }) => {
          if (error) reject(error);
          else resolve(results[0] as { command?: string });
        });
      });
    } catch (error) {
      if (isVerdict(error) || (await this.survives())) throw error;
      this.#isBroken = true;
      throw commitUnknown(this.#context.name, signal?.aborted ? signal.reason : error);
    } finally {
      signal?.removeEventListener('abort', abort);
    }
    if (done?.command !== 'COMMIT') throw aborted(this.#context.name, this.#failure);
  }

  /** Whether the session goes on behind an error in answer to COMMIT: then nothing was committed. */
  async survives(): Promise<boolean> {
    const { client } = this;
    if (client.isSettling) {
      const deadline = new Deadline(VERDICT_MILLIS, () => new Error('no answer'), this.#context.clock);
      await untilReady(client, deadline.signal);
      deadline.clear();
    }
    return client.isReady;
  }

  /** Undoes everything; cancels what runs. Never rejects. */
  async rollBack(): Promise<void> {
    await this.#undo([ROLLBACK], undefined);
  }

  /**
   * Undoes everything since the savepoint that `save` makes; cancels what runs. Where that cannot be done, the connection
   * is cut, since what was to be undone must not be committed. Never rejects.
   */
  async rollBackTo(save: PlainQuery, commands: readonly PlainQuery[]): Promise<void> {
    const { client } = this;
    if ((await this.#undo(commands, save)) || client.isReleased) return;
    // It had failed before the savepoint.
    if (client.isReady && client.getTransactionStatus() === 'E') return;
    this.#isBroken = true;
    client.destroy();
    this.refuse(lost(this.#context.name));
  }

  #undo(commands: readonly PlainQuery[], save: PlainQuery | undefined): Promise<boolean> {
    const undone = this.#undoing.then(() => this.#undoNow(commands, save));
    this.#undoing = undone;
    return undone;
  }

  async #undoNow(commands: readonly PlainQuery[], save: PlainQuery | undefined): Promise<boolean> {
    const { client } = this;
    // A request that is under way must not meet what comes after this.
    await this.#cancelling;
    if (client.isReleased || client.isClosed) return false;
    // The end of the session undoes everything as well.
    if (!this.#isBegun || (this.#isBroken && !save)) return true;
    const deadline = new Deadline(ROLLBACK_MILLIS, () => new Error('no answer'), this.#context.clock);
    if (client.isSettling) await untilReady(client, deadline.signal);
    if (!client.isReady) await this.cancel();
    let isDone = false;
    if (client.isReady) {
      isDone = (save && this.takeBack(save)) || client.getTransactionStatus() === 'I';
      this.#ahead = isDone && save ? this.#ahead : [];
      if (!isDone) {
        client.fly(commands, (error) => (isDone = !error));
        await untilReady(client, deadline.signal);
      }
    }
    deadline.clear();
    if (isDone) {
      this.#failure = undefined;
      this.#isDoomed = false;
    }
    return isDone;
  }

  /** Refuses what waits and what comes, from now on. */
  refuse(error: PgModuleError): void {
    this.#refusal ??= error;
    for (const operation of this.#waiting.splice(0)) operation.refuse(this.#refusal);
  }

  /** The connection is not to be lent again, and nothing that was done on it committed. */
  break(error: Error): void {
    this.#isBroken = true;
    this.doom(error);
  }

  /** Gives the connection back, to be closed if it is not clean. */
  release(): void {
    const { client } = this;
    if (client.isReleased) return;
    const isClean = client.isReady && client.getTransactionStatus() === 'I';
    client.handBack(this.#isBroken || !isClean);
  }

  /** Has the server cancel what runs; the turn passes on when it is over. */
  cancel(): Promise<void> {
    return (this.#cancelling ??= this.#cancel());
  }

  async #cancel(): Promise<void> {
    if (!(await cancelPolitely(this.client, this.#context.clock))) this.#isBroken = true;
    this.#cancelling = undefined;
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
    if (operation) operation.start(() => this.#done());
    else this.#onQuiet?.();
  }

  #done(): void {
    if (this.client.isReleased || this.client.isReady) this.#pass();
    else void this.#settle().then(() => this.#pass());
  }

  /** The connection is free for the next operation. */
  #pass(): void {
    this.#look();
    this.#next();
  }

  async #settle(): Promise<void> {
    const { client } = this;
    // What pg itself refuses leaves the client busy until the callback, which this may be, has returned.
    await Promise.resolve();
    if (client.isReleased || client.isReady || client.isClosed) return;
    // Behind an error the server's ReadyForQuery is still to come.
    if (client.isSettling) await untilReady(client, NEVER);
    // The statement goes on: the client has only given up waiting (query_timeout).
    else this.doom(this.#latest ?? new Error('A statement was given up.'));
  }

  /** The running operation has left the connection, or the signal has fired. */
  #quiet(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#onQuiet = undefined;
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.#onQuiet = done;
      signal.addEventListener('abort', done, { once: true });
      if (signal.aborted) done();
    });
  }

  /** Whether the transaction is still what it is meant to be. */
  #look(): void {
    const { client } = this;
    const { name } = this.#context;
    if (client.isReleased) return;
    if (client.isClosed) this.refuse(lost(name));
    else if (this.#isBegun && client.isReady && client.getTransactionStatus() === 'I') {
      this.refuse(ended(name, `after ${this.#failure ? 'an error' : 'a statement'} that ended it`, this.#failure));
    }
  }

  #noteFailure(error: Error): void {
    this.#latest = error;
    const isFirst = isAnswer(error) && (error as { code?: string }).code !== IN_FAILED_TRANSACTION;
    if (isFirst && !this.#isDoomed) this.#failure = error;
  }
}

/** Stock pg calls back twice for a value that it could not convert: with the error, and when the server is ready. */
function once<Args extends unknown[]>(tell: (...args: Args) => void): (...args: Args) => void {
  let isTold = false;
  return (...args) => {
    if (isTold) return;
    isTold = true;
    tell(...args);
  };
}

/** The server's answer to a statement, and not the end of the connection. */
function isAnswer(error: unknown): boolean {
  // Its text is translated, but it is there. EPIPE looks like an SQLSTATE.
  const { severity, code } = error as { severity?: string; code?: string };
  return severity !== undefined && code !== undefined && !isEnd(code);
}

/** SQLSTATEs of the end of a session. */
function isEnd(code: string): boolean {
  return code.startsWith('08') || code.startsWith('57P');
}

/** The server has said what became of the COMMIT: with an error that leaves the session alive, nothing was committed. */
export function isVerdict(error: unknown): boolean {
  const { severity, code } = error as { severity?: string; code?: string };
  return severity === 'ERROR' && code !== undefined && !isEnd(code);
}
