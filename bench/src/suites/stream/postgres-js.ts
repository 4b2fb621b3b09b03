import type { Writable } from 'node:stream';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { peer } from '../../peer.js';
import { COLUMNS, TARGET } from './database.js';
import type { Row, StreamSubject } from './subject.js';
import { textChunks } from './text-format.js';

interface Query {
  cursor(rows: number): AsyncIterable<Row[]>;
  writable(): Promise<Writable>;
}

interface Sql {
  unsafe(text: string): Query;
  end(): Promise<void>;
}

/** Its cursor gives arrays of so many rows. */
export function postgresJs(batchSize: number): StreamSubject {
  return async (connectionString) => {
    const { default: postgres } = await peer<{ default: (url: string, options: { max: number }) => Sql }>('postgres');
    const sql = postgres(connectionString, { max: 1 });
    return {
      read: async (text, see) => {
        for await (const rows of sql.unsafe(text).cursor(batchSize)) for (const row of rows) see(row);
      },
      load: async (items) => {
        const writable = await sql.unsafe(`COPY ${TARGET} (${COLUMNS.join(', ')}) FROM STDIN`).writable();
        await pipeline(Readable.from(textChunks(items), { objectMode: false }), writable);
      },
      close: () => sql.end(),
    };
  };
}
