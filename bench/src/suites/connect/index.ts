import type { Bench } from '../../harness/bench.js';
import { clientCpuMicros } from '../../harness/cpu-time.js';
import { quantile } from '../../harness/statistics.js';
import { defineSuite, type Cell, type Values, type Workload } from '../../harness/suite.js';
import { certificateOf, createRoles, PASSWORD, SCRAM, serverOptions, TRUSTED } from './server.js';
import type { Connect, ConnectSubject } from './subject.js';

const STOCK = 'pg';
const OURS = 'nestjs-pg';
const WARM_UP = 30;
const CONNECTIONS = 30;

async function one(connect: Connect): Promise<number> {
  const began = performance.now();
  const close = await connect();
  const took = performance.now() - began;
  await close();
  return took;
}

function cell(name: string, user: string, hasTls: boolean): Cell<ConnectSubject> {
  const measure = async (subject: ConnectSubject, bench: Bench): Promise<Values> => {
    const { hostname: host, port, pathname } = new URL(bench.connectionString);
    const connect = subject({
      host,
      port: Number(port),
      database: pathname.slice(1) || 'postgres',
      user,
      password: user === SCRAM ? PASSWORD : undefined,
      ca: hasTls ? await certificateOf(bench.connectionString) : undefined,
    });
    for (let times = 0; times < bench.count(WARM_UP); times++) await one(connect);
    const took: number[] = [];
    const before = clientCpuMicros();
    for (let times = 0; times < bench.count(CONNECTIONS); times++) took.push(await one(connect));
    return { time: quantile(took, 0.5), 'client CPU': (clientCpuMicros() - before) / took.length };
  };
  return { name, measure };
}

const TLS_AND_SCRAM = 'TLS, SCRAM';

const open: Workload<ConnectSubject> = {
  name: 'open',
  about:
    'A connection is opened and closed, one after the other: the median of the time until it can be used, and the ' +
    'CPU time of both. With TLS the certificate is verified against a root that is named.',
  metrics: { time: { unit: 'ms', better: 'less' }, 'client CPU': { unit: 'µs', better: 'less' } },
  cells: [
    cell('plain, no password', TRUSTED, false),
    cell('plain, SCRAM', SCRAM, false),
    cell('TLS, no password', TRUSTED, true),
    cell(TLS_AND_SCRAM, SCRAM, true),
  ],
  rounds: { quick: 1, record: 5 },
};

/** What a new connection costs. */
export const connectSuite = defineSuite<ConnectSubject>({
  name: 'connect',
  title: 'nestjs-pg beside pg: opening a connection',
  subjects: {
    [STOCK]: async () => (await import('./stock-pg.js')).byStockPg,
    [OURS]: async () => (await import('./nestjs-pg.js')).byNestjsPg,
  },
  baseline: STOCK,
  workloads: [open],
  goals: [
    {
      title: `open, ${TLS_AND_SCRAM}: time, ratio to ${STOCK}`,
      value: (summary) => summary.ratio('open', TLS_AND_SCRAM, 'time', OURS),
      atMost: 0.65,
    },
  ],
  server: serverOptions,
  prepare: createRoles,
});
