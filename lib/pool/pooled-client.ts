import type { SessionReset } from '../client/session-reset.js';

/**
 * What the engine needs of a connection. It depends on this shape and not on PgClient, so that its rules can be tested
 * without a server.
 */
export interface PooledClient {
  /** Nothing is under way. */
  readonly isReady: boolean;
  /** A statement has failed, and only the server's ReadyForQuery is still to come. */
  readonly isSettling: boolean;
  readonly isClosed: boolean;
  /** Requests are kept until the end of this tick: one more leaves in the same write. */
  readonly isCorked: boolean;
  /** The SQLSTATE of an error that made the connection useless. */
  readonly fault: string | undefined;
  getTransactionStatus(): 'I' | 'T' | 'E' | null;
  query(text: string): Promise<unknown>;
  /** Sends a reset; a statement sent now travels behind it. Only while ready. */
  resetSession(reset: SessionReset): void;
  /** Bounded; rejects if the server cannot be reached. */
  cancelRunning(): Promise<void>;
  /** Polite and bounded; never rejects. */
  close(): Promise<void>;
  destroy(): void;
  /** Whether the socket keeps the process alive. */
  ref(): void;
  unref(): void;
  once(event: 'drain' | 'end', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  off(event: 'drain' | 'end', listener: () => void): unknown;
}
