import type { PgOptions, PoolStats } from 'nestjs-pg';

/** What the program is started with. */
export interface ChaosSettings {
  readonly seed: number;
  readonly borrowers: number;
  readonly accounts: number;
  readonly options: PgOptions;
}

/** A fault, from its beginning to the first success of an operation that began after its end. */
export interface FaultRecord {
  readonly kind: string;
  readonly seconds: number;
  readonly recoveredMillis: number;
  /** Operations that failed because of it, by error. */
  readonly failures: Readonly<Record<string, number>>;
  readonly failed: number;
  /** How many could, at most. */
  readonly atMost: number;
}

/** The process while nobody borrows. */
export interface Sample {
  readonly atSeconds: number;
  /** After garbage collection, in bytes. */
  readonly heap: number;
  /** Buffers outside of the heap, in bytes. */
  readonly external: number;
  readonly rss: number;
  /** Open descriptors; undefined where the system does not tell. */
  readonly descriptors: number | undefined;
  /** What keeps the event loop alive, by kind. */
  readonly resources: Readonly<Record<string, number>>;
}

export interface KindRecord {
  readonly kind: string;
  readonly done: number;
  /** Failed as it was meant to: a division by zero, its own abort. */
  readonly intended: number;
  /** The pool had been closed. */
  readonly refused: number;
  readonly failed: number;
  readonly longestMillis: number;
}

/** Committed entries of the journal as far as the program knows. */
export interface JournalRecord {
  readonly acknowledged: number;
  /** Sum of their ids. */
  readonly sum: number;
  /** The answer to their COMMIT got lost. */
  readonly unknown: readonly number[];
}

export interface Report {
  readonly kinds: readonly KindRecord[];
  readonly violations: readonly string[];
  readonly journal: JournalRecord;
  readonly warnings: Readonly<Record<string, number>>;
  readonly stats: PoolStats;
  /** Before the pool was used. */
  readonly first: Sample;
  /** When it had ended. */
  readonly last: Sample;
  readonly longestStallMillis: number;
}

/** What the program does when it is told to. */
export interface Commands {
  /** A fault is about to be made. */
  begin(kind: string): void;
  /** Resolves when these connections, by backend pid, have ended as far as the program can see. */
  gone(pids: readonly number[]): Promise<void>;
  /** Nothing is broken any more. Resolves at the first success of an operation that has begun since. */
  over(atMost: number): Promise<FaultRecord>;
  /** Backend pids of the connections that the pool has. */
  pids(): number[];
  /** Resolves when so many more connections have been opened. */
  connects(count: number): Promise<void>;
  evict(): void;
  resize(bounds: { min?: number; max?: number }): void;
  /** Resolves when every borrower waits for a connection; for when there is none to be had. */
  crowd(): Promise<void>;
  /** Resolves when every operation under way has settled, and everything has been given back. */
  pause(): Promise<void>;
  sample(): Promise<Sample>;
  resume(): void;
  stats(): PoolStats;
  /** How many there are. */
  violations(): number;
  /** Ends the pool under load. */
  finish(): Promise<Report>;
}

export type CommandName = keyof Commands;

export interface Call {
  readonly id: number;
  readonly command: CommandName;
  readonly args: readonly unknown[];
}

/** `id` 0 = the program is ready. */
export interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}
