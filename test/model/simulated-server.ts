import { EventEmitter } from 'node:events';
import { StatementCatalog } from '../../lib/client/statement-catalog.js';
import type { PgClient } from '../../lib/client/pg-client.js';
import type { PlainQuery } from '../../lib/client/plain-query.js';
import { LendingPool } from '../../lib/pool/lending-pool.js';
import type { ResolvedPoolOptions } from '../../lib/pool/pool-options.js';
import type { PooledClient } from '../../lib/pool/pooled-client.js';
import { ManualClock } from '../support/manual-clock.js';
import type { Doing, Fault } from './steps.js';
import type { LentPool, Statement, World } from './world.js';

type Told = (error: Error | null, result?: unknown) => void;

interface Running {
  readonly text: string;
  readonly number: unknown;
  readonly tell: Told;
}

/** How long the server takes, in milliseconds; what is not named takes no time. */
const MILLIS: Readonly<Record<string, number>> = { 'SELECT fast': 0.125, 'SELECT slow': 40, 'SELECT hang': Infinity };
/** How long a statement and its answer are under way, and a cancel, a goodbye, a connection. */
const WAY = 0.25;
const CANCEL = 2;
const GOODBYE = 1;
const CONNECT = 3;
const CONNECT_DEADLINE = 1_000;

function serverError(code: string): Error {
  return Object.assign(new Error(`server error ${code}`), { code });
}

/** A pool on a server that does what a test says, in time that passes when a test says so. */
export class SimulatedServer implements World {
  readonly isExact = true;
  readonly clock = new ManualClock();
  readonly pool: LentPool;
  /** The sessions that it has, like pg_stat_activity. */
  readonly running = new Map<number, SimulatedClient>();
  isUp = true;
  /** Nothing comes back from it. */
  isMute = false;
  #isLocked = false;
  #failsSetUp = false;
  #pids = 0;
  readonly #sent: number[] = [];

  constructor(limits: ResolvedPoolOptions) {
    this.pool = new LendingPool({
      name: 'model',
      limits,
      shown: {},
      connect: (signal) => this.#connect(signal),
      statements: new StatementCatalog(10, () => undefined),
      isPermanent: (error) => (error as { code?: string }).code === '28P01',
      clock: this.clock,
    });
  }

  now(): number {
    return this.clock.now();
  }

  async pass(millis: number): Promise<void> {
    await this.clock.advance(millis);
  }

  statement(doing: Doing, number: number): Statement {
    return { text: `SELECT ${doing}`, values: [number] };
  }

  sent(): number[] {
    return this.#sent.splice(0);
  }

  sessions(): readonly number[] {
    return [...this.running.keys()];
  }

  kill(client: PgClient): void {
    this.running.get(client.processId ?? 0)?.kill();
  }

  cancel(client: PgClient): void {
    this.running.get(client.processId ?? 0)?.interrupt();
  }

  fault(fault: Fault): void {
    switch (fault) {
      case 'stop server':
        this.isUp = false;
        for (const session of [...this.running.values()]) session.kill();
        break;
      case 'mute server':
        this.isMute = true;
        break;
      case 'lock server':
        this.#isLocked = true;
        break;
      case 'fail a set-up':
        this.#failsSetUp = true;
        break;
      case 'start server':
        this.isUp = true;
        this.isMute = this.#isLocked = this.#failsSetUp = false;
        for (const session of this.running.values()) session.wake();
    }
  }

  /** A statement of pool.query() was sent. */
  onSent(number: unknown): void {
    this.#sent.push(number as number);
  }

  /** As the connection factory does: within its own deadline, and without leaving anything behind. */
  #connect(signal: AbortSignal): Promise<PgClient> {
    return new Promise((resolve, reject) => {
      let session: SimulatedClient | undefined;
      const settle = (): void => {
        signal.removeEventListener('abort', onAbort);
        for (const timer of timers) this.clock.clearTimeout(timer);
      };
      const fail = (reason: Error): void => {
        settle();
        session?.destroy();
        reject(reason);
      };
      const onAbort = (): void => fail(signal.reason as Error);
      const accept = (): void => {
        if (this.isMute) return;
        if (!this.isUp) fail(new Error('refused'));
        else if (this.#isLocked) fail(serverError('28P01'));
        else session = new SimulatedClient(this, ++this.#pids);
      };
      const finish = (): void => {
        if (this.isMute || !session) return;
        if (this.#failsSetUp) fail(new Error('onConnect failed'));
        else if (session.isClosed || session.fault !== undefined) fail(new Error('lost while it was set up'));
        else {
          settle();
          resolve(session as unknown as PgClient);
        }
        this.#failsSetUp = false;
      };
      const timers = [
        this.clock.setTimeout(accept, CONNECT / 2),
        this.clock.setTimeout(finish, CONNECT),
        this.clock.setTimeout(() => fail(new Error('connect timeout')), CONNECT_DEADLINE),
      ];
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}

/** One session, as the client and as the server see it. */
class SimulatedClient extends EventEmitter implements PooledClient {
  readonly processId: number;
  readonly isCorked = false;
  isClosed = false;
  isSettling = false;
  fault: string | undefined;
  readonly #server: SimulatedServer;
  #status: 'I' | 'T' | 'E' = 'I';
  readonly #queue: Running[] = [];
  #isEnded = false;
  #timer: ReturnType<ManualClock['setTimeout']> | undefined;

  constructor(server: SimulatedServer, pid: number) {
    super();
    this.#server = server;
    this.processId = pid;
    server.running.set(pid, this);
    this.on('error', () => undefined);
  }

  get isReady(): boolean {
    return this.#queue.length === 0 && !this.isSettling && !this.isClosed;
  }

  getTransactionStatus(): 'I' | 'T' | 'E' {
    return this.#status;
  }

  /** What pool.query() sends. */
  run({ statement, values }: PlainQuery, tell: Told): void {
    this.#server.onSent(values?.[0]);
    this.#send(statement.text, values?.[0], tell);
  }

  query(config: string | { text: string; values?: unknown[] }): Promise<unknown> {
    const { text, values } = typeof config === 'string' ? { text: config } : config;
    return new Promise((resolve, reject) => {
      this.#send(text, values?.[0], (error, result) => (error ? reject(error) : resolve(result)));
    });
  }

  setPipelining(): void {
    return undefined;
  }

  resetSession(): void {
    this.#send('DISCARD', undefined, () => undefined);
  }

  ref(): void {
    return undefined;
  }

  unref(): void {
    return undefined;
  }

  /** A CancelRequest travels on a connection of its own. */
  cancelRunning(): Promise<void> {
    return new Promise((resolve, reject) => {
      const arrive = (): void => {
        if (this.#server.isUp && !this.#server.isMute) {
          this.interrupt();
          resolve();
          return;
        }
        // Who cannot be reached hears of a socket that is gone some day.
        if (this.isClosed) {
          this.#server.running.delete(this.processId);
          // What it was woken for ends with it.
          this.#server.clock.clearTimeout(this.#timer);
        }
        reject(new Error('cannot be reached'));
      };
      this.#server.clock.setTimeout(arrive, CANCEL);
    });
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        // It hears of a goodbye when it is not busy.
        if (this.#queue.length === 0) this.#server.running.delete(this.processId);
        this.#end(undefined);
        resolve();
      };
      this.isClosed = true;
      this.#server.clock.setTimeout(end, GOODBYE);
    });
  }

  destroy(): void {
    this.isClosed = true;
    if (this.#queue.length === 0) this.#server.running.delete(this.processId);
    process.nextTick(() => this.#end(undefined));
  }

  /** The server ends the session: it tells why, and then the connection ends. */
  kill(): void {
    if (!this.#server.running.delete(this.processId) || this.isClosed) return;
    const error = serverError('57P01');
    this.fault = '57P01';
    this.#server.clock.clearTimeout(this.#timer);
    const first = this.#queue.shift();
    if (this.#queue.length === 0) this.isSettling = true;
    this.#server.clock.setTimeout(() => this.#end(error), WAY);
    if (first) first.tell(error);
    else this.emit('error', error);
  }

  /** The server is told to cancel what runs. */
  interrupt(): void {
    if (!this.#server.running.has(this.processId) || this.#queue.length === 0) return;
    this.#answer(serverError('57014'));
  }

  /** The server answers again. */
  wake(): void {
    if (this.isSettling) this.#settle();
    else this.#work();
  }

  #send(text: string, number: unknown, tell: Told): void {
    if (this.isClosed || this.#isEnded) {
      process.nextTick(tell, new Error('Client has encountered a connection error and is not queryable'));
      return;
    }
    this.#queue.push({ text, number, tell });
    if (this.#queue.length === 1 && !this.isSettling) this.#work();
  }

  #work(): void {
    this.#server.clock.clearTimeout(this.#timer);
    const [first] = this.#queue;
    // Of a session that was killed there is only the end to come.
    if (!first || this.fault !== undefined) return;
    const millis = MILLIS[first.text] ?? 0;
    if (millis === Infinity) return;
    this.#timer = this.#server.clock.setTimeout(() => {
      if (!this.#server.isMute) this.#answer(this.#failureOf(first.text));
    }, millis + WAY);
  }

  #failureOf(text: string): Error | undefined {
    if (text === 'SELECT fail') return serverError('22012');
    return this.#status === 'E' && text !== 'ROLLBACK' && text !== 'COMMIT' ? serverError('25P02') : undefined;
  }

  #answer(error: Error | undefined): void {
    this.#server.clock.clearTimeout(this.#timer);
    const done = this.#queue.shift();
    if (!done) return;
    if (this.isClosed) {
      this.#server.running.delete(this.processId);
      return;
    }
    if (error) {
      if (this.#status === 'T') this.#status = 'E';
      // The ReadyForQuery comes in a packet of its own.
      this.isSettling = true;
      this.#server.clock.setTimeout(() => {
        if (!this.#server.isMute) this.#settle();
      }, WAY);
      done.tell(error);
      return;
    }
    if (done.text === 'BEGIN') this.#status = 'T';
    if (done.text === 'ROLLBACK' || done.text === 'COMMIT') this.#status = 'I';
    this.#goOn(() => done.tell(null, { rows: [{ number: done.number }] }));
  }

  #settle(): void {
    if (!this.isSettling || this.fault !== undefined) return;
    this.isSettling = false;
    this.#goOn(() => undefined);
  }

  #goOn(tell: () => void): void {
    tell();
    if (this.isClosed) return;
    if (this.#queue.length > 0) this.#work();
    else if (this.isReady) this.emit('drain');
  }

  #end(error: Error | undefined): void {
    if (this.#isEnded) return;
    this.#isEnded = this.isClosed = true;
    this.isSettling = false;
    const queue = this.#server.running.has(this.processId) ? [...this.#queue] : this.#queue.splice(0);
    for (const { tell } of queue) tell(error ?? new Error('Connection terminated'));
    if (error && queue.length === 0) this.emit('error', error);
    this.emit('end');
  }
}
