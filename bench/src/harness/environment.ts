import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { fromRoot, stockPg } from '../stock-pg.js';
import type { ServerUnderTest } from './bench.js';

/** What the figures of a run depend on besides what was measured. */
export interface Environment {
  readonly cpu: string;
  readonly cores: number;
  readonly platform: string;
  readonly node: string;
  readonly postgres: string;
  /** The server was started for the run, or somebody named one. */
  readonly server: 'embedded' | 'given';
  readonly packages: Readonly<Record<string, string>>;
}

/** @param packages those besides pg whose versions are told, if they are installed */
export async function environmentOf(
  { connectionString, pid }: ServerUnderTest,
  packages: readonly string[] = [],
): Promise<Environment> {
  const client = new stockPg.Client({ connectionString });
  await client.connect();
  const { rows } = await client.query<{ server_version: string }>('SHOW server_version');
  await client.end();
  const [first] = cpus();
  return {
    cpu: first?.model.trim() ?? 'unknown',
    cores: cpus().length,
    platform: `${process.platform} ${process.arch}`,
    node: process.version,
    postgres: rows[0]?.server_version.split(' ')[0] ?? 'unknown',
    server: pid === undefined ? 'given' : 'embedded',
    packages: Object.fromEntries([
      ...['pg', 'pg-pool'].map((name) => [name, versionOf(name, fromRoot)]),
      ...packages
        .map((name) => [name, versionOf(name, import.meta.url)])
        .filter(([, version]) => version !== undefined),
    ]) as Record<string, string>,
  };
}

function versionOf(name: string, from: string | URL): string | undefined {
  // Not every package exports its manifest, so the folders are looked through as Node does.
  for (const folder of createRequire(from).resolve.paths(name) ?? []) {
    try {
      return (JSON.parse(readFileSync(join(folder, name, 'package.json'), 'utf8')) as { version: string }).version;
    } catch {
      // Not here.
    }
  }
  return undefined;
}
