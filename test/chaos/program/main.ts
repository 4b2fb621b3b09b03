import { getEventListeners } from 'node:events';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setImmediate as tick, setTimeout as delay } from 'node:timers/promises';
import { createPool } from 'nestjs-pg';
import { Connections } from './connections.js';
import { Journal } from './journal.js';
import { Ledger } from './ledger.js';
import { Load } from './load.js';
import { SHARED_SIGNAL } from './operations.js';
import type { Call, ChaosSettings, Commands, Reply, Report } from './protocol.js';
import { takeSample } from './vitals.js';

/** For connections to come back from borrowers that have settled: a cancelled statement's may take some time. */
const RETURN_MILLIS = 20_000;
/** More than the pool's own limit. */
const END_MILLIS = 30_000;

// The pool alone in a process, so that its heap and its handles can be told from those of server and proxy.
const { seed, borrowers, accounts, options } = JSON.parse(process.env['CHAOS_SETTINGS'] ?? '') as ChaosSettings;
const startedAt = performance.now();
const ledger = new Ledger(() => performance.now() - startedAt);
const journal = new Journal();
const stalls = monitorEventLoopDelay();
stalls.enable();

let rotating = false;
process.on('unhandledRejection', (reason) => ledger.violation(`unhandled rejection: ${describe(reason)}`));
process.on('uncaughtException', (error) => ledger.violation(`uncaught exception: ${describe(error)}`));
process.on('warning', (warning) => {
  // Between the new certificate's file and the new key's the two do not fit, and the library says so.
  if (!(rotating && warning.name === 'PgWarning')) ledger.violation(`warning: ${warning.name}: ${warning.message}`);
});

const pool = createPool(options, 'chaos');
const connections = new Connections(pool, (what) => ledger.violation(what));
const warnings: Record<string, number> = {};
pool.on('warning', (message) => {
  const what = message.replace(/ taken at .*? was /, ' was ');
  warnings[what] = (warnings[what] ?? 0) + 1;
});

const first = await takeSample(startedAt);
const load = new Load({ pool, ledger, journal, seed, borrowers, accounts });

const commands: Commands = {
  begin: (kind) => {
    rotating = kind === 'rotation';
    ledger.begin(kind);
  },
  gone: async (pids) => {
    await connections.gone(pids);
    // What has arrived together with these ends is seen to before anybody says that the fault is over.
    await tick();
    await tick();
  },
  over: async (atMost) => {
    const record = await ledger.over(atMost);
    load.disperse();
    return record;
  },
  pids: () => connections.pids,
  crowd: () => load.crowd(),
  connects: (count) => connections.more(count),
  evict: () => pool.evict(),
  resize: (bounds) => pool.resize(bounds),
  pause: async () => {
    await load.pause();
    await allReturned();
    lookForRests();
  },
  sample: () => takeSample(startedAt),
  resume: () => load.resume(),
  stats: () => pool.stats(),
  violations: () => ledger.violations.length,
  finish,
};

/** Nobody borrows: whatever is lent or waits now has been lost. */
async function allReturned(): Promise<void> {
  const deadline = performance.now() + RETURN_MILLIS;
  for (;;) {
    const { leased, resetting, waiting } = pool.stats();
    if (leased + resetting + waiting === 0) return;
    if (performance.now() > deadline) {
      ledger.violation(`nobody borrows, but ${leased} are lent, ${resetting} being reset, and ${waiting} wait`);
      return;
    }
    await delay(10);
  }
}

/** What operations may have forgotten. */
function lookForRests(): void {
  const unreturned = connections.countUnreturned();
  if (unreturned > 0)
    ledger.violation(`nobody borrows, but ${unreturned} events "acquire" were followed by no "release"`);
  const forgotten = getEventListeners(SHARED_SIGNAL, 'abort').length;
  if (forgotten > 0) ledger.violation(`nobody borrows, but a signal has ${forgotten} listeners`);
  if (connections.burdened > 0) ledger.violation(`${connections.burdened} connections have gained listeners`);
}

async function finish(): Promise<Report> {
  ledger.close();
  const late = delay(END_MILLIS, 'late', { ref: false });
  if ((await Promise.race([pool.end(), late])) === 'late') ledger.violation('pool.end() has not resolved');
  await load.stop();
  stalls.disable();
  return {
    kinds: ledger.kinds,
    violations: ledger.violations,
    journal: journal.record,
    warnings,
    stats: pool.stats(),
    first,
    last: await takeSample(startedAt),
    longestStallMillis: stalls.max / 1e6,
  };
}

function describe(error: unknown): string {
  return error instanceof Error ? String(error.stack) : String(error);
}

function send(reply: Reply): void {
  process.send?.(reply);
}

/** Whoever started this is gone. */
const abandon = (): never => process.exit(1);
process.on('disconnect', abandon);

process.on('message', ({ id, command, args }: Call) => {
  void (async () => {
    try {
      send({ id, value: await (commands[command] as (...given: readonly unknown[]) => unknown)(...args) });
    } catch (error) {
      send({ id, error: describe(error) });
    }
    // From here on nothing keeps the process alive but what the pool may have left behind.
    if (command !== 'finish') return;
    process.off('disconnect', abandon);
    process.disconnect();
  })();
});
send({ id: 0 });
