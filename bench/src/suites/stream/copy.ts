import type { Bench } from '../../harness/bench.js';
import { childrenCpuMicros, clientCpuMicros } from '../../harness/cpu-time.js';
import type { Values, Workload } from '../../harness/suite.js';
import { checkTarget, emptyTarget, items, ROWS } from './database.js';
import type { StreamClient, StreamSubject } from './subject.js';

export const COPY_CELL = '1 000 000 rows';
/** Until the compiler has seen enough. */
const WARM_UP = 20_000;

async function loadAll({ load }: StreamClient, count: number): Promise<void> {
  if (!load) throw new Error('this subject loads no rows');
  await load(items(count), count);
}

async function measure(subject: StreamSubject, bench: Bench): Promise<Values> {
  const { connectionString } = bench;
  const client = await subject(connectionString);
  try {
    const [warmUp, count] = [bench.count(WARM_UP), bench.count(ROWS)];
    await client.prepare?.(warmUp);
    await client.prepare?.(count);
    await loadAll(client, warmUp);
    await emptyTarget(connectionString);
    const cpu = clientCpuMicros() + childrenCpuMicros();
    const began = performance.now();
    await loadAll(client, count);
    const seconds = (performance.now() - began) / 1000;
    const used = clientCpuMicros() + childrenCpuMicros() - cpu;
    await checkTarget(connectionString, count);
    return { rate: count / seconds, 'client CPU': used / count };
  } finally {
    await client.close();
    await emptyTarget(connectionString);
  }
}

export const copy: Workload<StreamSubject> = {
  name: 'copy',
  about:
    '1 000 000 rows of 5 columns (int4, int8, float8, text, timestamptz) go from values in the process into a table; for psql ' +
    'they lie in a file already.',
  metrics: {
    rate: { unit: 'per second', better: 'more' },
    'client CPU': { unit: 'µs', better: 'less' },
  },
  cells: [{ name: COPY_CELL, measure }],
  rounds: { quick: 2, record: 5 },
  subjects: ['pg', 'nestjs-pg', 'postgres.js', 'INSERT', 'psql'],
};
