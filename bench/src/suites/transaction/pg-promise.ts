import { peer } from '../../peer.js';
import { CHANGE, check, NOTE, READ, type TransactionSubject } from './subject.js';

interface Task {
  any(text: string, values: readonly unknown[]): Promise<readonly unknown[]>;
  none(text: string, values: readonly unknown[]): Promise<null>;
}

interface Database {
  tx(work: (task: Task) => Promise<void>): Promise<void>;
  readonly $pool: { end(): Promise<void> };
}

type PgPromise = (options: object) => (settings: { connectionString: string; max: number }) => Database;

export const tx: TransactionSubject = async (connectionString, connections) => {
  const { default: pgPromise } = await peer<{ default: PgPromise }>('pg-promise');
  const database = pgPromise({ noWarnings: true })({ connectionString, max: connections });
  return {
    transfer: (account, amount) =>
      database.tx(async (task) => {
        check(await task.any(READ, [account]), account);
        await task.none(CHANGE, [account, amount]);
        await task.none(NOTE, [account, amount]);
      }),
    close: () => database.$pool.end(),
  };
};
