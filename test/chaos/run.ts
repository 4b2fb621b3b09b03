import { setTimeout as delay } from 'node:timers/promises';
import type { PgOptions } from 'nestjs-pg';
import { startPostgres, type PostgresServer } from 'nestjs-pg/testing';
import { ADMIN_HBA, adminQuery, sessionsOf, waitFor } from '../support/postgres.js';
import { startProxy, type FaultProxy } from '../support/proxy.js';
import { Child } from './child.js';
import { FAULTS, type Fault } from './faults.js';
import { ClientFiles, newGeneration, serverSsl } from './material.js';
import type { FaultRecord, JournalRecord, Report, Sample } from './program/protocol.js';
import { between, seeded, shuffled, type Random } from './program/random.js';
import { KEEPALIVE_MILLIS, MAX, MIN, QUERY_TIMEOUT_MILLIS, VALIDATE_TIMEOUT_MILLIS, type Scene } from './scene.js';

const APPLICATION = 'chaos';
const BORROWERS = 200;
const ACCOUNTS = 1_000;
const START_BALANCE = 1_000;
/** Code is compiled and caches are filled while nothing is broken. */
const WARM_UP_MILLIS = 6_000;
/** For a process with nothing left to do to end. */
const EXIT_MILLIS = 30_000;

/** What a run of the program has come to. */
export interface Run {
  readonly seed: number;
  readonly seconds: number;
  readonly borrowers: number;
  readonly faults: readonly FaultRecord[];
  /** One after the warm-up, and one after each fault. */
  readonly samples: readonly Sample[];
  readonly report: Report;
  /** The program's, and those that only this side can see. */
  readonly violations: readonly string[];
  /** Of the proxy, at any time. */
  readonly peakConnections: number;
  readonly bank: Bank;
  /** When the pool had ended: of the server, and of the proxy. */
  readonly sessionsLeft: number;
  readonly connectionsLeft: number;
  /** Undefined if it did not end. */
  readonly exit: { code: number | null; signal: NodeJS.Signals | null } | undefined;
  /** What the program has written. */
  readonly output: string;
}

/** What the database holds in the end, against what the program was told. */
export interface Bank {
  /** The sum of all balances less what it was at the start. */
  readonly difference: number;
  /** Entries of transactions that were never committed. */
  readonly uncommitted: number;
  /** Entries in the journal and their sum, less those that were acknowledged and those of which nobody knows. */
  readonly surplus: number;
  readonly surplusSum: number;
}

/**
 * Makes one fault after the other, each kind once before any comes again, for as long as that takes at least. A
 * violation ends it.
 */
export async function runChaos(seed: number, seconds: number): Promise<Run> {
  const random = seeded(seed);
  const generation = await newGeneration(1);
  await using files = await ClientFiles.create();
  await files.trust(generation);
  await files.show(generation);
  await using server = await startPostgres({
    ssl: serverSsl(generation, generation),
    hba: [ADMIN_HBA, 'hostssl all all all cert'],
    // What the server has acknowledged must survive its immediate stop.
    settings: { synchronous_commit: true },
  });
  await openBank(server);
  await using proxy = await startProxy({ host: server.host, port: server.port });
  await using child = await Child.start({
    seed,
    borrowers: BORROWERS,
    accounts: ACCOUNTS,
    options: poolOptions(proxy, files),
  });
  const scene: Scene = { server, proxy, files, child, generation };
  using peak = new Peak(proxy);

  const began = performance.now();
  const faults: FaultRecord[] = [];
  const samples: Sample[] = [];
  const complaints: string[] = [];
  const go = async (): Promise<void> => {
    await delay(WARM_UP_MILLIS);
    samples.push(await rest(scene));
    let bag: Fault[] = [];
    while (faults.length < FAULTS.length || performance.now() - began < seconds * 1_000) {
      if (bag.length === 0) bag = shuffled(random, FAULTS);
      const fault = bag.pop()!;
      await delay(between(random, 0, 1_500));
      faults.push(await endure(scene, fault, random));
      await delay(between(random, 300, 1_000));
      samples.push(await rest(scene));
      if ((await child.call('violations')) > 0) return;
    }
  };
  await go().catch((error: Error) => complaints.push(error.message));
  const report = await child.call('finish').catch((error: Error) => {
    throw new Error([...complaints, error.message].join('\n'));
  });
  const exit = await Promise.race([child.exit, delay(EXIT_MILLIS, undefined, { ref: false })]);
  const sessionsLeft = (await sessionsOf(server, APPLICATION)).length;
  return {
    seed,
    seconds: (performance.now() - began) / 1_000,
    borrowers: BORROWERS,
    faults,
    samples,
    report,
    violations: [...report.violations, ...complaints],
    peakConnections: peak.connections,
    bank: await auditBank(server, report.journal),
    sessionsLeft,
    connectionsLeft: proxy.connections,
    exit,
    output: child.output,
  };
}

function poolOptions(proxy: FaultProxy, files: ClientFiles): PgOptions {
  return {
    host: 'localhost',
    hostaddr: proxy.host,
    port: proxy.port,
    user: 'postgres',
    database: 'postgres',
    application_name: APPLICATION,
    ssl: files.ssl,
    query_timeout: QUERY_TIMEOUT_MILLIS,
    pool: {
      min: MIN,
      max: MAX,
      connectTimeoutMillis: 3_000,
      idleTimeoutMillis: 2_000,
      maxLifetimeSeconds: 20,
      maxUses: 500,
      validateAfterIdleMillis: 1_000,
      validateTimeoutMillis: VALIDATE_TIMEOUT_MILLIS,
      keepaliveMillis: KEEPALIVE_MILLIS,
      leakThresholdMillis: 20_000,
    },
  };
}

async function endure(scene: Scene, fault: Fault, random: Random): Promise<FaultRecord> {
  const { child } = scene;
  if (fault.atRest) await child.call('pause');
  await child.call('begin', fault.kind);
  const atMost = await fault.make(scene, random);
  if (fault.atRest) await child.call('resume');
  return child.call('over', fault.atRest ? 0 : atMost);
}

/** Lets the borrowers come to rest, looks at what is there, and lets them go on. */
async function rest({ server, proxy, child }: Scene): Promise<Sample> {
  await child.call('pause');
  let seen = '';
  const agreed = async (): Promise<boolean> => {
    const sessions = (await sessionsOf(server, APPLICATION)).length;
    const { total, dialling } = await child.call('stats');
    seen = `the server has ${sessions}, the proxy ${proxy.connections}, the pool ${total}, ${dialling} of them dialled`;
    return dialling === 0 && total <= MAX && sessions === total && proxy.connections === total;
  };
  await waitFor(agreed, { message: 'all to agree on the connections', deadline: 30_000 }).catch((cause: Error) => {
    throw new Error(`nobody borrows, but ${seen}`, { cause });
  });
  const sample = await child.call('sample');
  await child.call('resume');
  return sample;
}

async function openBank(server: PostgresServer): Promise<void> {
  await adminQuery(server, 'CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL) WITH (fillfactor = 50)');
  await adminQuery(server, 'CREATE TABLE journal (entry bigint PRIMARY KEY)');
  await adminQuery(
    server,
    `INSERT INTO account SELECT id, ${START_BALANCE} FROM generate_series(0, ${ACCOUNTS - 1}) AS id`,
  );
}

async function auditBank(server: PostgresServer, { acknowledged, sum, unknown }: JournalRecord): Promise<Bank> {
  const [accounts] = await adminQuery<{ sum: string }>(server, 'SELECT sum(balance) FROM account');
  const [entries] = await adminQuery<{ uncommitted: string; count: string; sum: string | null }>(
    server,
    `SELECT count(*) FILTER (WHERE entry < 0) AS uncommitted, count(*) FILTER (WHERE known) AS count,
            sum(entry) FILTER (WHERE known) AS sum
     FROM (SELECT entry, entry > 0 AND entry <> ALL ($1::bigint[]) AS known FROM journal) AS seen`,
    [unknown],
  );
  return {
    difference: Number(accounts?.sum) - ACCOUNTS * START_BALANCE,
    uncommitted: Number(entries?.uncommitted),
    surplus: Number(entries?.count) - acknowledged,
    surplusSum: Number(entries?.sum) - sum,
  };
}

/** The most connections that a proxy has had at once. */
class Peak implements Disposable {
  connections = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(proxy: FaultProxy) {
    this.#timer = setInterval(() => (this.connections = Math.max(this.connections, proxy.connections)), 10);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
