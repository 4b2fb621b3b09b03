import { createWriteStream, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startPostgres } from 'nestjs-pg/testing';
import type { ServerUnderTest } from './harness/bench.js';
import { svgOf } from './harness/chart.js';
import { environmentOf } from './harness/environment.js';
import { PROFILES } from './harness/profile.js';
import { disturbanceOf, markdownOf, outcomesOf } from './harness/report.js';
import { run } from './harness/runner.js';
import { randomFrom, type Entry } from './harness/schedule.js';
import type { Suite } from './harness/suite.js';
import { Summary, type Sample } from './harness/summary.js';
import { SUITE_NAMES, suiteNamed } from './suites/index.js';

/** What a quick run is about if nothing else is asked for. */
const QUICK: readonly string[] = ['query'];

const USAGE = `node dist/main.js [options] [suite...]

Suites: ${SUITE_NAMES.join(', ')}; all of them if none is named, and ${QUICK.join(', ')} with --quick.

  --quick             shorter and fewer rounds, in less than two minutes
  --rounds <n>        another number of rounds
  --only <workload>   only this workload, or one cell of it ('point: c=10'); may be repeated
  --subject <name>    only this one beside the baseline; may be repeated
  --record            more and longer rounds, in an hour; writes results/<suite>.json, .md and, where there is one to draw, .svg
  --check             ends with status 1 if a target is missed
  --cpu-prof <dir>    writes a CPU profile of every entry into the folder

BENCH_DATABASE_URL names a server to measure against; by default one is started for the run.`;

const RESULTS = fileURLToPath(new URL('../results/', import.meta.url));

/** The same for every run: autovacuum, checkpoints and the compiler of queries come when they like. */
const SETTINGS = { max_connections: 300, autovacuum: false, jit: false, checkpoint_timeout: '1h', max_wal_size: '4GB' };

interface Options {
  quick?: boolean;
  rounds?: string;
  only?: string[];
  subject?: string[];
  record?: boolean;
  check?: boolean;
  'cpu-prof'?: string;
}

/** @returns whether everything ran, and if that is asked for, whether every target was met */
async function bench(suite: Suite, server: ServerUnderTest, options: Options): Promise<boolean> {
  const { rounds, only, subject: subjects, record, check } = options;
  const preset = PROFILES[options.quick ? 'quick' : record ? 'record' : 'full'];
  const profile = rounds === undefined ? preset : { ...preset, rounds: Number(rounds) };
  await suite.prepare?.(server.connectionString);
  const environment = await environmentOf(server, suite.packages);
  const now = new Date().toISOString();
  const date = now.slice(0, 10);
  const seed = Date.now() % 2 ** 31;
  mkdirSync(RESULTS, { recursive: true });
  const rawFile = join(RESULTS, `${suite.name}-${now.replaceAll(/[:.]/g, '-')}.jsonl`);
  const raw = createWriteStream(rawFile);
  const write = (line: object): void => void raw.write(`${JSON.stringify(line)}\n`);
  write({ suite: suite.name, date: now, seed, profile, environment });
  const samples: Sample[] = [];
  const failures = await run(suite, {
    profile,
    server,
    random: randomFrom(seed),
    only,
    subjects,
    nodeArguments: (entry) => profilerArguments(options['cpu-prof'], entry),
    sampled: (sample) => {
      samples.push(sample);
      write(sample);
    },
    progress: (line) => console.error(line),
  });
  raw.end();
  await finished(raw);

  const summary = new Summary(suite, samples);
  const outcomes = outcomesOf(suite.goals, summary);
  const markdown = markdownOf({ suite, summary, samples, outcomes, environment, profile: profile.name, date });
  console.log(markdown);
  console.log(`Raw results: ${rawFile}`);
  for (const failure of failures) console.error(`failed: ${failure}`);
  if (record) {
    const recorded = {
      suite: suite.name,
      date,
      profile,
      environment,
      foreignCores: disturbanceOf(samples),
      outcomes,
      figures: summary.figures,
    };
    writeFileSync(join(RESULTS, `${suite.name}.json`), `${JSON.stringify(recorded, roundedNumber, 1)}\n`);
    writeFileSync(join(RESULTS, `${suite.name}.md`), markdown);
    const under = `${date}, ${environment.cpu}, Node ${environment.node}, PostgreSQL ${environment.postgres}; medians with their quartiles`;
    const svg = suite.chart && svgOf(suite.chart, summary.figures, suite.baseline, under);
    if (svg !== undefined) writeFileSync(join(RESULTS, `${suite.name}.svg`), svg);
  }
  return failures.length === 0 && !(check && outcomes.some(({ met }) => met === false));
}

function profilerArguments(
  folder: string | undefined,
  { workload, subject, isControl, round, position }: Entry,
): string[] {
  if (folder === undefined || isControl) return [];
  const name = `${workload}-${subject}-${round}-${position}.cpuprofile`;
  return ['--cpu-prof', '--cpu-prof-interval', '200', '--cpu-prof-dir', folder, '--cpu-prof-name', name];
}

function roundedNumber(_key: string, value: unknown): unknown {
  return typeof value === 'number' ? Number(value.toPrecision(5)) : value;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      help: { type: 'boolean', short: 'h' },
      quick: { type: 'boolean' },
      rounds: { type: 'string' },
      only: { type: 'string', multiple: true },
      subject: { type: 'string', multiple: true },
      record: { type: 'boolean' },
      check: { type: 'boolean' },
      'cpu-prof': { type: 'string' },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  for (const name of positionals.length > 0 ? positionals : values.quick ? QUICK : SUITE_NAMES) {
    const suite = await suiteNamed(name);
    const given = process.env['BENCH_DATABASE_URL'];
    if (given) {
      if (suite.server) {
        console.error(`${name} is left out: it needs a server with settings of its own.`);
        continue;
      }
      if (!(await bench(suite, { connectionString: given, pid: undefined }, values))) process.exitCode = 1;
      continue;
    }
    const options = await suite.server?.();
    await using server = await startPostgres({ ...options, settings: { ...SETTINGS, ...options?.settings } });
    const { connectionString, pid } = server;
    if (!(await bench(suite, { connectionString, pid }, values))) process.exitCode = 1;
  }
}

await main();
