import { EventEmitter } from 'node:events';
import type { SessionReset } from '../../lib/client/session-reset.js';
import type { PgClient } from '../../lib/client/pg-client.js';
import type { PlainQuery } from '../../lib/client/plain-query.js';
import type { PooledClient } from '../../lib/pool/pooled-client.js';
import type { ManualClock } from '../support/manual-clock.js';

type Told = (error: Error | null, result?: unknown) => void;

interface Running {
  readonly text: string;
  readonly tell: Told;
}

/** What the statements of the model do to the server's time; everything else takes none. */
const MILLIS: Readonly<Record<string, number>> = {
  'SELECT fast': 0.1,
  'SELECT slow': 40,
  'SELECT hang': Infinity,
};
const WAY_MILLIS = 0.2;

function serverError(code: string): Error {
  return Object.assign(new Error(code), { code, severity: 'ERROR' });
}

/** A server that does what a test says, in time that passes when a test says so. */
export class SimulatedServer {
  readonly clock: ManualClock;
  /** The sessions that it has, like pg_stat_activity. */
  readonly sessions = new Set<SimulatedClient>();
  isUp = true;
  /** Neither refuses nor answers. */
  isMute = false;
  /** So many of the next attempts to connect fail after the session is there. */
  badSetUps = 0;
  dials = 0;

  constructor(clock: ManualClock) {
    this.clock = clock;
  }

  readonly connect = (signal: AbortSignal): Promise<PgClient> =>
    new Promise((resolve, reject) => {
      this.dials++;
      const settle = (): void => {
        signal.removeEventListener('abort', abort);
        this.clock.clearTimeout(timer);
      };
      const abort = (): void => {
        settle();
        reject(signal.reason as Error);
      };
      const answer = (): void => {
        if (this.isMute) return;
        settle();
        if (!this.isUp) reject(new Error('refused'));
        else if (this.badSetUps > 0) {
          this.badSetUps--;
          reject(new Error('onConnect failed'));
        } else resolve(new SimulatedClient(this) as unknown as PgClient);
      };
      const timer = this.clock.setTimeout(answer, 3);
      if (signal.aborted) abort();
      else signal.addEventListener('abort', abort, { once: true });
    });

  /** Ends every session at once, and refuses new ones. */
  stop(): void {
    this.isUp = false;
    for (const session of [...this.sessions]) session.kill();
  }

  start(): void {
    this.isUp = true;
    this.isMute = false;
    for (const session of this.sessions) session.wake();
  }
}

let pids = 0;

/** One session, as the client and as the server see it. */
export class SimulatedClient extends EventEmitter implements PooledClient {
  readonly processID = ++pids;
  readonly server: SimulatedServer;
  isClosed = false;
  isCorked = false;
  isSettling = false;
  fault: string | undefined;
  #status: 'I' | 'T' | 'E' = 'I';
  readonly #queue: Running[] = [];
  #timer: unknown;

  constructor(server: SimulatedServer) {
    super();
    this.server = server;
    server.sessions.add(this);
    this.on('error', () => undefined);
  }

  get processId(): number {
    return this.processID;
  }

  get isReady(): boolean {
    return this.#queue.length === 0 && !this.isSettling && !this.isClosed;
  }

  getTransactionStatus(): 'I' | 'T' | 'E' {
    return this.#status;
  }

  /** The plain statements of pool.query(). */
  run({ statement }: PlainQuery, tell: Told): void {
    this.#send(statement.text, tell);
  }

  query(config: string | { text: string }, values?: unknown, callback?: Told): Promise<unknown> {
    const text = typeof config === 'string' ? config : config.text;
    const tell = typeof values === 'function' ? (values as Told) : callback;
    if (tell) {
      this.#send(text, tell);
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      this.#send(text, (error, result) => (error ? reject(error) : resolve(result)));
    });
  }

  setPipelining(): void {
    return undefined;
  }

  resetSession(_: SessionReset): void {
    this.#status = 'I';
  }

  ref(): void {
    return undefined;
  }

  unref(): void {
    return undefined;
  }

  cancelRunning(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.server.clock.setTimeout(() => {
        if (!this.server.isUp || this.server.isMute) {
          reject(new Error('cannot be reached'));
          return;
        }
        if (this.server.sessions.has(this) && this.#queue.length > 0) this.#answer(serverError('57014'));
        resolve();
      }, 2);
    });
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.server.clock.setTimeout(() => {
        this.#end(undefined);
        resolve();
      }, 1);
      this.isClosed = true;
    });
  }

  destroy(): void {
    this.isClosed = true;
    process.nextTick(() => this.#end(new Error('Connection terminated')));
  }

  /** The server ends the session. */
  kill(): void {
    if (!this.server.sessions.has(this)) return;
    const error = serverError('57P01');
    this.fault = '57P01';
    this.#end(error);
  }

  /** The server answers again. */
  wake(): void {
    this.server.clock.clearTimeout(this.#timer as number);
    this.#work();
  }

  #send(text: string, tell: Told): void {
    if (this.isClosed) {
      process.nextTick(tell, new Error('not queryable'));
      return;
    }
    this.#queue.push({ text, tell });
    if (this.#queue.length === 1) this.#work();
  }

  #work(): void {
    const [first] = this.#queue;
    if (!first) return;
    const millis = MILLIS[first.text] ?? 0;
    if (millis === Infinity) return;
    this.#timer = this.server.clock.setTimeout(() => {
      if (!this.server.isMute) this.#answer(first.text === 'SELECT fail' ? serverError('22012') : undefined);
    }, millis + WAY_MILLIS);
  }

  #answer(error: Error | undefined): void {
    this.server.clock.clearTimeout(this.#timer as number);
    const done = this.#queue.shift();
    if (!done) return;
    if (error) {
      if (this.#status === 'T') this.#status = 'E';
      // The ReadyForQuery comes in a packet of its own.
      this.isSettling = true;
      this.server.clock.setTimeout(() => {
        this.isSettling = false;
        this.#goOn();
      }, WAY_MILLIS);
      done.tell(error);
      return;
    }
    if (done.text === 'BEGIN') this.#status = 'T';
    if (done.text === 'ROLLBACK' || done.text === 'COMMIT') this.#status = 'I';
    done.tell(null, { rows: [] });
    this.#goOn();
  }

  #goOn(): void {
    if (this.isClosed) return;
    if (this.#queue.length > 0) this.#work();
    else if (!this.isSettling) this.emit('drain');
  }

  #end(error: Error | undefined): void {
    if (!this.server.sessions.delete(this)) return;
    this.isClosed = true;
    this.isSettling = false;
    this.server.clock.clearTimeout(this.#timer as number);
    for (const { tell } of this.#queue.splice(0)) tell(error ?? new Error('Connection terminated'));
    if (error) this.emit('error', error);
    this.emit('end');
  }
}
