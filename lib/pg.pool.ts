import type { BorrowedConnection, ConnectionSource } from './pool/connection-source.js';
import { LendingPool } from './pool/lending-pool.js';

/** The pool of an application: what {@link LendingPool} lends and runs, with transactions and streams on top. */
export class PgPool extends LendingPool implements ConnectionSource {
  /** @internal For streams. */
  async borrow(signal?: AbortSignal): Promise<BorrowedConnection> {
    const client = await this.connect(signal && { signal });
    return { client, isInTransaction: false, release: (error) => client.release(error) };
  }
}
