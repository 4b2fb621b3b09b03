import { EventEmitter } from 'node:events';
import type { SessionReset } from '../../lib/client/session-reset.js';
import type { PooledClient } from '../../lib/pool/pooled-client.js';

/** A connection without a server: a test says what the server does. */
export class FakeClient extends EventEmitter implements PooledClient {
  status: 'I' | 'T' | 'E' = 'I';
  isReady = true;
  isSettling = false;
  isClosed = false;
  isCorked = false;
  destroyed = false;
  fault: string | undefined;
  readonly queries: string[] = [];
  cancels = 0;
  /** Whether its socket would keep the process alive. */
  isRef = true;
  /** Set by a test that says when the goodbye is over. */
  goodbye: Promise<void> = Promise.resolve();
  /** Whether the server answers a ROLLBACK. */
  answers = true;

  constructor(readonly id = 0) {
    super();
  }

  getTransactionStatus(): 'I' | 'T' | 'E' {
    return this.status;
  }

  query(text: string): Promise<unknown> {
    this.queries.push(text);
    this.isReady = false;
    return new Promise((resolve) => {
      if (!this.answers) return;
      setImmediate(() => {
        this.status = 'I';
        this.becomeReady();
        resolve(undefined);
      });
    });
  }

  becomeReady(): void {
    this.isReady = true;
    this.isSettling = false;
    this.emit('drain');
  }

  resetSession(reset: SessionReset): void {
    this.queries.push(reset);
  }

  cancelRunning(): Promise<void> {
    this.cancels++;
    this.becomeReady();
    return Promise.resolve();
  }

  /** The session ends from the other side. */
  die(error = new Error('terminated')): void {
    this.isClosed = true;
    this.emit('error', error);
    this.emit('end');
  }

  close(): Promise<void> {
    if (!this.isClosed) {
      this.isClosed = true;
      this.emit('end');
    }
    return this.goodbye;
  }

  destroy(): void {
    this.destroyed = true;
    this.isClosed = true;
  }

  ref(): void {
    this.isRef = true;
  }

  unref(): void {
    this.isRef = false;
  }
}
