import type { Bench } from '../../harness/bench.js';
import { clientCpuMicros } from '../../harness/cpu-time.js';
import type { Values, Workload } from '../../harness/suite.js';
import { ROWS, selectFirst } from './database.js';
import type { Row, StreamClient, StreamSubject } from './subject.js';

export const ROWS_CELL = '1 000 000 rows';
/** Until the compiler has seen enough. */
const WARM_UP = 50_000;
/** How often the memory is looked at, in rows. */
const LOOK = 1_000;

/** @returns the most memory that the process had meanwhile, in bytes */
async function readAll({ read }: StreamClient, count: number): Promise<number> {
  if (!read) throw new Error('this subject reads no rows');
  let seen = 0;
  let sum = 0;
  let peak = process.memoryUsage.rss();
  await read(selectFirst(count), ({ id }: Row) => {
    sum += id;
    if (++seen % LOOK === 0) peak = Math.max(peak, process.memoryUsage.rss());
  });
  if (seen !== count || sum !== (count * (count + 1)) / 2)
    throw new Error(`${seen} rows of ${count} were read: ${sum}`);
  return peak;
}

async function measure(subject: StreamSubject, bench: Bench): Promise<Values> {
  const client = await subject(bench.connectionString);
  try {
    const base = process.memoryUsage.rss();
    await readAll(client, bench.count(WARM_UP));
    const count = bench.count(ROWS);
    const cpu = clientCpuMicros();
    const began = performance.now();
    const peak = await readAll(client, count);
    const seconds = (performance.now() - began) / 1000;
    return {
      rate: count / seconds,
      'client CPU': (clientCpuMicros() - cpu) / count,
      memory: Math.max(0, peak - base),
    };
  } finally {
    await client.close();
  }
}

export const rows: Workload<StreamSubject> = {
  name: 'rows',
  about:
    '1 000 000 rows of 5 columns (int4, int8, float8, text, timestamptz) are read by one consumer, row by row or array by array ' +
    'as the client has it. Memory is the most that the process takes above what it took before, in RSS.',
  metrics: {
    rate: { unit: 'per second', better: 'more' },
    'client CPU': { unit: 'µs', better: 'less' },
    memory: { unit: 'bytes', better: 'less' },
  },
  cells: [{ name: ROWS_CELL, measure }],
  rounds: { quick: 2, record: 5 },
  subjects: [
    'pg',
    'nestjs-pg',
    'nestjs-pg, batches',
    'pg-query-stream',
    'pg-query-stream, 1000',
    'postgres.js',
    'postgres.js, 10000',
  ],
};
