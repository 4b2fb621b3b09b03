import { defineSuite, type Goal } from '../../harness/suite.js';
import { createTables } from './database.js';
import { far, kinds, point } from './load.js';
import { LOCKED, mixture, SLOW_CLOSED, SLOW_PACED } from './mixture.js';
import type { QuerySubject } from './subject.js';

const STOCK = 'pg';
const OURS = 'nestjs-pg';
const UNSHARED = 'nestjs-pg, pipeline off';
const FASTEST_PEER = 'postgres.js';
const LIMIT = 'pgbench';

/** How many times as many a second as somebody else, both compared with the runs of the baseline next to them. */
function rateGoal(workload: string, cell: string, other: string, atLeast: number): Goal {
  return {
    title: `${workload}, ${cell}: rate, ratio to ${other}`,
    value: (summary) => {
      const ours = summary.ratio(workload, cell, 'rate', OURS);
      const others = other === STOCK ? 1 : summary.ratio(workload, cell, 'rate', other);
      return ours === undefined || others === undefined ? undefined : ours / others;
    },
    atLeast,
  };
}

/** To share connections may not make a fast statement wait for a slow one. */
const harmGoals = [SLOW_PACED, SLOW_CLOSED, LOCKED].map((cell): Goal => ({
  title: `mixture, ${cell}: p99 of the fast ones, ratio to pipeline 'off'`,
  value: (summary) => {
    const [shared, unshared] = [OURS, UNSHARED].map((name) => summary.ratio('mixture', cell, 'p99', name));
    return shared === undefined || unshared === undefined ? undefined : shared / unshared;
  },
  atMost: 1.2,
}));

/** Statements, beside those who send them otherwise. */
export const querySuite = defineSuite<QuerySubject>({
  name: 'query',
  title: 'nestjs-pg beside its peers: statements',
  subjects: {
    [STOCK]: async () => (await import('./stock-pg.js')).unnamed,
    'pg, named': async () => (await import('./stock-pg.js')).named,
    [OURS]: async () => (await import('./nestjs-pg.js')).injected(),
    [UNSHARED]: async () => (await import('./nestjs-pg.js')).injected({ pipeline: 'off' }),
    [FASTEST_PEER]: async () => (await import('./postgres-js.js')).postgresJs(),
    'pg-promise': async () => (await import('./pg-promise.js')).pgPromise(),
    Kysely: async () => (await import('./kysely.js')).kysely(),
    Drizzle: async () => (await import('./drizzle.js')).drizzle(),
    Knex: async () => (await import('./knex.js')).knex(),
    TypeORM: async () => (await import('./typeorm.js')).typeOrm(),
    [LIMIT]: async () => (await import('./pgbench.js')).pgbench(),
  },
  baseline: STOCK,
  occasional: ['pg-promise', 'Kysely', 'Drizzle', 'Knex', 'TypeORM'],
  quick: [OURS, UNSHARED, FASTEST_PEER],
  packages: ['postgres', 'pg-promise', 'kysely', 'drizzle-orm', 'knex', 'typeorm'],
  workloads: [point, kinds, far, mixture],
  goals: [
    rateGoal('point', 'c=1', STOCK, 1.5),
    rateGoal('point', 'c=10', STOCK, 2.6),
    rateGoal('point', 'c=10', FASTEST_PEER, 1.8),
    rateGoal('point', 'c=100', STOCK, 4.5),
    rateGoal('point', 'c=100', FASTEST_PEER, 2),
    rateGoal('point', 'c=100', LIMIT, 0.85),
    rateGoal('point', 'c=1000', STOCK, 5),
    rateGoal('far', 'c=100', STOCK, 6),
    rateGoal('far', 'c=100', FASTEST_PEER, 1.4),
    rateGoal('kinds', 'rows, c=100', STOCK, 1.8),
    rateGoal('kinds', 'rows, c=100', FASTEST_PEER, 1.8),
    rateGoal('kinds', 'rows, c=100', LIMIT, 1),
    rateGoal('kinds', 'join, c=10', STOCK, 8),
    rateGoal('kinds', 'join, c=10', FASTEST_PEER, 1.4),
    rateGoal('kinds', 'insert, c=100', STOCK, 2),
    rateGoal('kinds', 'distinct, c=10', STOCK, 1),
    ...harmGoals,
  ],
  chart: {
    title: `Statements a second, compared with ${STOCK}`,
    metric: 'rate',
    subjects: [OURS, 'pg, named', FASTEST_PEER, 'pg-promise', 'Kysely', 'Drizzle', 'TypeORM', LIMIT],
    groups: [
      ...['c=1', 'c=10', 'c=100', 'c=1000'].map((cell) => ({
        title: `Select by key, ${cell}`,
        workload: 'point',
        cell,
      })),
      { title: 'Select by key, server 1 ms away, c=100', workload: 'far', cell: 'c=100' },
      { title: '100 rows of 8 columns, c=100', workload: 'kinds', cell: 'rows, c=100' },
      { title: 'Join of 7 tables, c=10', workload: 'kinds', cell: 'join, c=10' },
      { title: 'Insert of a row, c=100', workload: 'kinds', cell: 'insert, c=100' },
      { title: 'Texts that never come back, c=10', workload: 'kinds', cell: 'distinct, c=10' },
    ],
  },
  prepare: createTables,
});
