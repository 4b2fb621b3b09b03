import { createRequire } from 'node:module';
import type QueryStream from 'pg-query-stream';
import { fromRoot, stockPg } from '../../stock-pg.js';
import type { Row, StreamSubject } from './subject.js';

const QueryStreamOfPg = createRequire(fromRoot)('pg-query-stream') as typeof QueryStream;

/** `batchSize` undefined = its default. */
export function pgQueryStream(batchSize?: number): StreamSubject {
  return async (connectionString) => {
    const client = new stockPg.Client({ connectionString });
    await client.connect();
    return {
      read: async (text, see) => {
        const stream = client.query(new QueryStreamOfPg(text, [], batchSize === undefined ? {} : { batchSize }));
        for await (const row of stream) see(row as Row);
      },
      close: () => client.end(),
    };
  };
}
