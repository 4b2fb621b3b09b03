import { defineSuite, type Goal } from '../../harness/suite.js';
import type { Summary } from '../../harness/summary.js';
import { copy, COPY_CELL } from './copy.js';
import { createTables } from './database.js';
import { rows, ROWS_CELL } from './rows.js';
import type { StreamSubject } from './subject.js';

const OURS = 'nestjs-pg';
const MEGABYTE = 1_000_000;

/** The rate beside that of the fastest of some peers, each as seen from the baseline next to it. */
function rateGoal(workload: string, cell: string, peers: readonly string[], atLeast: number): Goal {
  const ratio = (summary: Summary, subject: string): number | undefined =>
    summary.ratio(workload, cell, 'rate', subject);
  return {
    title: `${workload}, ${cell}: rate, ratio to ${peers.length > 1 ? 'the best of ' : ''}${peers.join(' and ')}`,
    value: (summary) => {
      const own = ratio(summary, OURS);
      const others = peers.map((peer) => ratio(summary, peer)).filter((one) => one !== undefined);
      return own === undefined || others.length === 0 ? undefined : own / Math.max(...others);
    },
    atLeast,
  };
}

/** Many rows out of the server, and into it. */
export const streamSuite = defineSuite<StreamSubject>({
  name: 'stream',
  title: 'nestjs-pg beside its peers: streams',
  subjects: {
    pg: async () => (await import('./pg.js')).byHand,
    [OURS]: async () => (await import('./nestjs-pg.js')).rowByRow,
    [`${OURS}, batches`]: async () => (await import('./nestjs-pg.js')).inBatches,
    'pg-query-stream': async () => (await import('./pg-query-stream.js')).pgQueryStream(),
    'pg-query-stream, 1000': async () => (await import('./pg-query-stream.js')).pgQueryStream(1_000),
    'postgres.js': async () => (await import('./postgres-js.js')).postgresJs(1_000),
    'postgres.js, 10000': async () => (await import('./postgres-js.js')).postgresJs(10_000),
    INSERT: async () => (await import('./pg.js')).insert,
    psql: async () => (await import('./psql.js')).psql,
  },
  baseline: 'pg',
  packages: ['pg-cursor', 'pg-query-stream', 'pg-copy-streams', 'postgres'],
  workloads: [rows, copy],
  goals: [
    rateGoal('rows', ROWS_CELL, ['postgres.js', 'postgres.js, 10000'], 1.05),
    rateGoal('rows', ROWS_CELL, ['pg-query-stream', 'pg-query-stream, 1000'], 1.8),
    {
      title: 'rows: memory over base, in MB',
      value: (summary) => {
        const bytes = summary.value('rows', ROWS_CELL, 'memory', OURS);
        return bytes === undefined ? undefined : bytes / MEGABYTE;
      },
      atMost: 60,
    },
    rateGoal('copy', COPY_CELL, ['postgres.js'], 2),
    rateGoal('copy', COPY_CELL, ['psql'], 1.4),
  ],
  prepare: createTables,
});
