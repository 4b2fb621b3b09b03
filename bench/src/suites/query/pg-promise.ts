import { peer } from '../../peer.js';
import type { QuerySubject, Row } from './subject.js';

interface Database {
  any(text: string, values: readonly unknown[]): Promise<Row[]>;
  readonly $pool: { end(): Promise<void> };
}

/** It writes the values into the text by itself, unless it is told to prepare. */
export async function pgPromise(): Promise<QuerySubject> {
  const { default: init } = await peer<{
    default: (options: { noWarnings: boolean }) => (connection: { connectionString: string; max: number }) => Database;
  }>('pg-promise');
  const connect = init({ noWarnings: true });
  return {
    open: async (connectionString, connections) => {
      const database = connect({ connectionString, max: connections });
      return { run: (text, values) => database.any(text, values), close: () => database.$pool.end() };
    },
  };
}
