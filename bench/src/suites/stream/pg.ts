import { createRequire } from 'node:module';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type Cursor from 'pg-cursor';
import type { from } from 'pg-copy-streams';
import { fromRoot, stockPg } from '../../stock-pg.js';
import { COLUMNS, TARGET } from './database.js';
import type { Row, StreamClient, StreamSubject } from './subject.js';
import { textChunks } from './text-format.js';

const require = createRequire(fromRoot);
const CursorOfPg = require('pg-cursor') as typeof Cursor;
const { from: copyFrom } = require('pg-copy-streams') as { from: typeof from };
const BATCH = 1_000;

async function open(connectionString: string): Promise<InstanceType<typeof stockPg.Client>> {
  const client = new stockPg.Client({ connectionString });
  await client.connect();
  return client;
}

/** pg-cursor and pg-copy-streams, by hand. */
export const byHand: StreamSubject = async (connectionString): Promise<StreamClient> => {
  const client = await open(connectionString);
  return {
    read: async (text, see) => {
      const cursor = client.query(new CursorOfPg<Row>(text));
      for (;;) {
        const rows = await cursor.read(BATCH);
        if (rows.length === 0) break;
        for (const row of rows) see(row);
      }
      await cursor.close();
    },
    load: (items) =>
      pipeline(
        Readable.from(textChunks(items), { objectMode: false }),
        client.query(copyFrom(`COPY ${TARGET} (${COLUMNS.join(', ')}) FROM STDIN`)),
      ),
    close: () => client.end(),
  };
};

/** Statements of 1000 rows, with a parameter for each value. */
export const insert: StreamSubject = async (connectionString): Promise<StreamClient> => {
  const client = await open(connectionString);
  return {
    load: async (items) => {
      let values: unknown[] = [];
      const send = async (): Promise<void> => {
        if (values.length === 0) return;
        const rows = Array.from({ length: values.length / COLUMNS.length }, (_, row) => {
          const places = COLUMNS.map((__, column) => `$${row * COLUMNS.length + column + 1}`);
          return `(${places.join(', ')})`;
        });
        await client.query(`INSERT INTO ${TARGET} (${COLUMNS.join(', ')}) VALUES ${rows.join(', ')}`, values);
        values = [];
      };
      await client.query('BEGIN');
      for (const item of items) {
        values.push(...item);
        if (values.length === BATCH * COLUMNS.length) await send();
      }
      await send();
      await client.query('COMMIT');
    },
    close: () => client.end(),
  };
};
