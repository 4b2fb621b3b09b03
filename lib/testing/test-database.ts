import { randomBytes } from 'node:crypto';
import type { PgClient } from '../client/pg-client.js';
import { configError } from '../config/config-error.js';
import { assertKnownKeys, kindOf } from '../config/unknown-option.js';
import { createConnectionFactory } from '../create-pool.js';
import { errorCode, failure } from './failure.js';
import type { PostgresServer } from './postgres-server.js';
import { startPostgres } from './start-postgres.js';

export interface TestDatabaseOptions {
  /**
   * A server on which databases may be created, as a URI or as keywords and values; its database is the one to connect to
   * for that. Default: a server of its own (`startPostgres()`), for as long as the database is there.
   */
  connectionString?: string;
  /**
   * The name of a database to copy. Where there is none of that name it is made once, by `migrate`, whatever number of
   * processes ask for it; one that exists is taken as it is, so put a version or a hash of the schema into the name.
   */
  template?: string;
  /** Fills an empty database: the template if there is one, or else the new database. It must close its connections. */
  migrate?: (connectionString: string) => Promise<unknown>;
}

/** A database for one test file, or one test. */
export interface TestDatabase extends AsyncDisposable {
  /** For `PgModule.forRoot({ connectionString })`. */
  readonly connectionString: string;
  readonly name: string;
  /** Removes it with whoever is connected to it, and the server if it came with one. Further calls wait for the same end. */
  drop(): Promise<void>;
}

/** For those who make one template at the same time. */
const TEMPLATE_LOCK = 'nestjs-pg:template';
const IN_USE = '55006';
const URI = /^(postgres(?:ql)?:\/\/[^/?#]*)(?:\/[^?#]*)?(\?[^#]*)?$/i;

/**
 * Creates an empty database with a unique name, or a copy of a template, on a server that is given or on an embedded one.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID`, `PG_TEST_SERVER_FAILED`, and those of connecting; pg.DatabaseError; what
 *   `migrate` throws
 */
export async function createTestDatabase(options: TestDatabaseOptions = {}): Promise<TestDatabase> {
  check(options);
  const { template, migrate } = options;
  let server: PostgresServer | undefined;
  const connectionString = options.connectionString ?? (server = await startPostgres()).connectionString;
  try {
    const name = `test_${process.pid}_${randomBytes(6).toString('hex')}`;
    const own = withDatabase(connectionString, name);
    await administrate(connectionString, async (client) => {
      if (template !== undefined) await ensureTemplate(client, connectionString, template, migrate);
      await create(client, name, template);
      if (template !== undefined || !migrate) return;
      try {
        await migrate(own);
      } catch (error) {
        await drop(client, name);
        throw error;
      }
    });
    let dropping: Promise<void> | undefined;
    const end = async (): Promise<void> => {
      if (server) await server.close();
      else await administrate(connectionString, (client) => drop(client, name));
    };
    const dropOnce = (): Promise<void> => (dropping ??= end());
    return { connectionString: own, name, drop: dropOnce, [Symbol.asyncDispose]: dropOnce };
  } catch (error) {
    await server?.close();
    throw error;
  }
}

function check(options: TestDatabaseOptions): void {
  assertKnownKeys(options, ['connectionString', 'template', 'migrate'], 'options of createTestDatabase()');
  const { connectionString, template, migrate } = options;
  if (connectionString !== undefined && (typeof connectionString !== 'string' || connectionString === '')) {
    throw configError('connectionString must be a text that is not empty; without it a server is started.');
  }
  if (template !== undefined && (typeof template !== 'string' || template === '' || Buffer.byteLength(template) > 63)) {
    throw configError('template must be the name of a database, of 1 to 63 bytes.');
  }
  if (migrate !== undefined && typeof migrate !== 'function') {
    throw configError(`migrate must be a function; it is ${kindOf(migrate)}.`);
  }
}

async function ensureTemplate(
  client: PgClient,
  connectionString: string,
  template: string,
  migrate: TestDatabaseOptions['migrate'],
): Promise<void> {
  const exists = async (): Promise<boolean> =>
    (await client.query('SELECT FROM pg_database WHERE datname = $1', [template])).rowCount !== 0;
  if (await exists()) return;
  if (!migrate) {
    throw configError(`There is no database ${quote(template)} to copy (template), and no migrate() that makes it.`);
  }
  // It is the session's, and goes with it.
  await client.query('SELECT pg_advisory_lock(hashtext($1))', [TEMPLATE_LOCK]);
  if (await exists()) return;
  // Under its name only when it is complete.
  const draft = `test_template_${randomBytes(6).toString('hex')}`;
  await client.query(`CREATE DATABASE ${quote(draft)}`);
  try {
    await migrate(withDatabase(connectionString, draft));
    await client.query(`ALTER DATABASE ${quote(draft)} RENAME TO ${quote(template)}`);
  } catch (error) {
    await drop(client, draft);
    throw stillConnected(error, `migrate() has left connections to the template ${quote(template)} open`);
  }
}

async function create(client: PgClient, name: string, template: string | undefined): Promise<void> {
  try {
    await client.query(`CREATE DATABASE ${quote(name)}${template === undefined ? '' : ` TEMPLATE ${quote(template)}`}`);
  } catch (error) {
    throw stillConnected(error, `somebody is connected to the template ${quote(template ?? 'template1')}`);
  }
}

function stillConnected(error: unknown, why: string): unknown {
  if (errorCode(error) !== IN_USE) return error;
  return failure(`A database cannot be copied while others use it: ${why}. Close them.`, error);
}

async function drop(client: PgClient, name: string): Promise<void> {
  await client.query(`DROP DATABASE IF EXISTS ${quote(name)} WITH (FORCE)`);
}

async function administrate<T>(connectionString: string, work: (client: PgClient) => Promise<T>): Promise<T> {
  const client = await createConnectionFactory({ connectionString })();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** The same server, another database. */
function withDatabase(connectionString: string, name: string): string {
  const uri = URI.exec(connectionString);
  // Of two values libpq takes the last.
  if (!uri) return `${connectionString} dbname='${name}'`;
  const [, authority = '', query = ''] = uri;
  const parameters = query
    .slice(1)
    .split('&')
    .filter((parameter) => parameter !== '' && !parameter.startsWith('dbname='));
  return `${authority}/${name}${parameters.length > 0 ? `?${parameters.join('&')}` : ''}`;
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
