import { defineSuite, type Goal } from '../../harness/suite.js';
import { createTables } from '../query/database.js';
import type { TransactionSubject } from './subject.js';
import { FAR, LOOKED_UP, lookUp, transfer } from './transfer.js';

const INTERACTIVE = 'nestjs-pg';
const BATCH = 'nestjs-pg, batch';
const TRACKED = 'nestjs-pg, tracked';

const goal = (subject: string, peer: string, atMost: number): Goal => ({
  title: `transfer, ${FAR}: time of ${subject}, ratio to ${peer}`,
  value: (summary) => {
    const [own, other] = [subject, peer].map((name) => summary.value('transfer', FAR, 'time', name));
    return own === undefined || other === undefined ? undefined : own / other;
  },
  atMost,
});

const lookUpGoal: Goal = {
  title: `look-up, ${LOOKED_UP}: rate of ${TRACKED}, ratio to ${INTERACTIVE}`,
  value: (summary) => {
    const [tracked, first] = [TRACKED, INTERACTIVE].map((name) => summary.value('look-up', LOOKED_UP, 'rate', name));
    return tracked === undefined || first === undefined ? undefined : tracked / first;
  },
  atLeast: 0.95,
};

const PEERS = ['pg', 'postgres.js', 'pg-promise'];

export const transactionSuite = defineSuite<TransactionSubject>({
  name: 'transaction',
  title: 'nestjs-pg beside its peers: transactions',
  subjects: {
    pg: async () => (await import('./stock-pg.js')).byHand,
    [INTERACTIVE]: async () => (await import('./nestjs-pg.js')).interactive,
    [BATCH]: async () => (await import('./nestjs-pg.js')).batch,
    [TRACKED]: async () => (await import('./nestjs-pg.js')).tracked,
    'postgres.js': async () => (await import('./postgres-js.js')).begin,
    'postgres.js, array': async () => (await import('./postgres-js.js')).array,
    'pg-promise': async () => (await import('./pg-promise.js')).tx,
  },
  baseline: 'pg',
  workloads: [transfer, lookUp],
  goals: [
    ...PEERS.map((peer) => goal(INTERACTIVE, peer, 0.8)),
    ...PEERS.map((peer) => goal(BATCH, peer, 0.35)),
    lookUpGoal,
  ],
  prepare: createTables,
});
