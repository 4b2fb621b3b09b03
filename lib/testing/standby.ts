import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { failure } from './failure.js';
import type { Guard } from './guard.js';
import { replaceFile, type Identity } from './identity.js';
import { launch } from './launch.js';
import { checkOptions, STANDBY_OPTIONS, type ServerOptions } from './postgres-options.js';
import { partsOf, type PostgresServer } from './postgres-server.js';

const STREAMING_DEADLINE_MS = 30_000;
const POLL_MS = 5;

export interface StandbyOptions extends ServerOptions {
  /** How the primary knows the standby (`application_name`, for `synchronous_standby_names`); default `standby`. */
  readonly name?: string;
}

/**
 * Starts a hot standby that streams from `primary`, which must be running: copies its data in an online backup, and
 * returns when replication is streaming. It starts with the primary's settings, beneath `options.settings`.
 *
 * Replication goes through the primary's Unix socket as `postgres`: rules given as `hba` must let `all` and
 * `replication` in there without a password, as the default rules do.
 */
export async function startStandby(primary: PostgresServer, options: StandbyOptions = {}): Promise<PostgresServer> {
  checkOptions(options, STANDBY_OPTIONS);
  const { name = 'standby' } = options;
  const parts = partsOf.get(primary);
  if (!parts || primary.pid === undefined) throw failure('startStandby() needs a primary that is running.');
  const client = new pg.Client({
    host: primary.socketDir,
    port: primary.port,
    user: primary.user,
    database: 'postgres',
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    const standby = await launch({
      site: parts,
      options: {
        ...options,
        settings: {
          ...primary.settings,
          primary_conninfo: conninfo({
            host: primary.socketDir,
            port: String(primary.port),
            user: primary.user,
            application_name: name,
          }),
          ...options.settings,
        },
      },
      database: primary.database,
      password: parts.password,
      fill: (guard) => backUp(client, parts.binaries.major, primary.dataDir, guard, parts.identity),
    });
    await untilStreaming(client, name, standby);
    return standby;
  } finally {
    await client.end();
  }
}

/** An online backup without pg_basebackup, which the npm packages do not contain (manual, "Making a Base Backup"). */
async function backUp(
  client: pg.Client,
  major: number,
  source: string,
  guard: Guard,
  identity: Identity | undefined,
): Promise<void> {
  const [begin, finish] =
    major >= 15
      ? [`pg_backup_start('nestjs-pg', true)`, 'pg_backup_stop(false)']
      : [`pg_start_backup('nestjs-pg', true, false)`, 'pg_stop_backup(false, false)'];
  await client.query(`SELECT ${begin}`);
  if ((await guard.step('clone', source)) !== 0) throw failure(`The data folder ${source} could not be copied.`);
  const { rows } = await client.query<{ labelfile: string }>(`SELECT labelfile FROM ${finish}`);
  const data = join(guard.folder, 'data');
  await replaceFile(join(data, 'backup_label'), rows[0]?.labelfile ?? '', identity);
  await replaceFile(join(data, 'standby.signal'), '', identity);
}

async function untilStreaming(client: pg.Client, name: string, standby: PostgresServer): Promise<void> {
  const deadline = performance.now() + STREAMING_DEADLINE_MS;
  const sql = `SELECT 1 FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming'`;
  while ((await client.query(sql, [name])).rowCount === 0) {
    if (standby.pid === undefined || performance.now() > deadline) {
      const log = await standby.log();
      await standby.close();
      throw failure(`The standby did not stream within ${STREAMING_DEADLINE_MS / 1000} s. Its log:\n${log}`);
    }
    await delay(POLL_MS);
  }
}

/** libpq's key=value syntax, each value quoted (libpq, "Keyword/Value Connection Strings"). */
function conninfo(fields: Record<string, string>): string {
  return Object.entries(fields)
    .map(([key, value]) => `${key}='${value.replace(/[\\']/g, '\\$&')}'`)
    .join(' ');
}
