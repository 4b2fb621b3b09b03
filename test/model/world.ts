import type { PgClient } from 'nestjs-pg';
import type { LendingPool } from '../../lib/pool/lending-pool.js';
import type { Doing, Fault } from './steps.js';

/** A statement of the model, and what names it in its answer. */
export interface Statement {
  readonly text: string;
  readonly values: unknown[];
}

/** What the pool of the model stands in: a server, and time. */
export interface World {
  readonly pool: LentPool;
  /** Time passes only when it is told to, so that everything can be said exactly. */
  readonly isExact: boolean;
  /** Milliseconds. */
  now(): number;
  /** Lets time pass, and then whatever can settle do so. */
  pass(millis: number): Promise<void>;
  statement(doing: Doing, number: number): Statement;
  /** Numbers of the statements that have been sent since it was asked last. Exact worlds only. */
  sent(): number[];
  /** The process ids of the sessions that the server has. */
  sessions(): readonly number[] | Promise<readonly number[]>;
  kill(client: PgClient): void;
  /** Ends what runs in a session. */
  cancel(client: PgClient): void;
  fault(fault: Fault): void;
}

/** What the model uses of a pool. */
export type LentPool = Pick<
  LendingPool,
  'connect' | 'query' | 'stats' | 'resize' | 'evict' | 'suspend' | 'resume' | 'open' | 'drain' | 'on' | 'totalCount'
>;
