import type { ConnectionSource } from '../pool/connection-source.js';
import type { QueryRunner } from '../pool/query-forms.js';
import type { TransactionWork } from './run-transaction.js';
import type { TransactionOptions } from './transaction-options.js';

/**
 * Where a pool does what it is asked for outside of any transaction, while a test has it do that elsewhere than on
 * connections of its own.
 */
export interface PinnedPool extends ConnectionSource {
  readonly runner: QueryRunner;
  /** Why it gives no connection away; undefined if it does. */
  readonly connectRefusal: Error | undefined;
  transaction<T>(work: TransactionWork<T>, options?: TransactionOptions): Promise<T>;
  outside<T>(work: () => T): T;
}
