import { configError } from './config-error.js';
import type { Keyword } from './keywords.js';
import type { ConnectionSettings } from './settings.js';
import type { Values } from './stored-values.js';
import { kindOf } from './unknown-option.js';

const INT_MAX = 2_147_483_647;

/** Fields that carry a keyword's value as text. */
const TEXT_FIELDS = {
  host: 'host',
  hostaddr: 'hostaddr',
  database: 'dbname',
  user: 'user',
  service: 'service',
  passfile: 'passfile',
  application_name: 'application_name',
  fallback_application_name: 'fallback_application_name',
  options: 'options',
  client_encoding: 'client_encoding',
  replication: 'replication',
  target_session_attrs: 'target_session_attrs',
  load_balance_hosts: 'load_balance_hosts',
  channel_binding: 'channel_binding',
  require_auth: 'require_auth',
} as const satisfies Partial<Record<keyof ConnectionSettings, Keyword>>;

const SESSION_TIMEOUTS = ['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout'] as const;

/** How the option is called that sets a keyword, where the names differ. */
const OPTION_NAMES: Partial<Record<Keyword, string>> = {
  dbname: 'database',
  keepalives: 'keepAlive',
  keepalives_idle: 'keepAliveInitialDelayMillis',
  sslmode: 'ssl.mode',
  sslnegotiation: 'ssl.negotiation',
  sslrootcert: 'ssl.ca',
  sslcert: 'ssl.cert',
  sslkey: 'ssl.key',
  sslpassword: 'ssl.passphrase',
  sslcrl: 'ssl.crl',
  sslcrldir: 'ssl.crlDir',
  sslsni: 'ssl.serverName',
  ssl_min_protocol_version: 'ssl.minVersion',
  ssl_max_protocol_version: 'ssl.maxVersion',
};

export const optionName = (keyword: Keyword): string => OPTION_NAMES[keyword] ?? keyword;

/**
 * The keywords that the settings' own fields set. An empty string is as good as absent, as it is for
 * PQconnectdbParams: `host: process.env.DB_HOST ?? ''` does not hide what the environment says.
 */
export function readExplicitSettings(settings: ConnectionSettings): Values {
  const values: Values = {};
  for (const [field, keyword] of Object.entries(TEXT_FIELDS)) {
    const value: unknown = settings[field as keyof typeof TEXT_FIELDS];
    if (value === undefined || value === '') continue;
    values[keyword] = checkText(field, value);
  }
  const port = readPort(settings.port);
  if (port !== undefined) values.port = port;
  if (typeof settings.password === 'string' && settings.password !== '') {
    values.password = checkText('password', settings.password);
  }
  if (settings.keepAlive !== undefined) {
    if (typeof settings.keepAlive !== 'boolean') {
      throw configError(`keepAlive must be true or false, not ${kindOf(settings.keepAlive)}.`);
    }
    values.keepalives = settings.keepAlive ? '1' : '0';
  }
  return values;
}

function readPort(port: unknown): string | undefined {
  if (port === undefined || port === '') return undefined;
  if (typeof port === 'string') return checkText('port', port);
  if (typeof port !== 'number') throw configError(`port must be a number or a string, not ${kindOf(port)}.`);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw configError(`port is ${port}; it must be an integer from 1 to 65535.`);
  }
  return String(port);
}

/** A NUL would end the value early in the startup packet, and what follows would become a parameter of its own. */
function checkText(field: string, value: unknown): string {
  if (typeof value !== 'string') throw configError(`${field} must be a string, not ${kindOf(value)}.`);
  if (value.includes('\0')) throw configError(`${field} contains a NUL character.`);
  return value;
}

/** Milliseconds; `undefined` if not set. */
export function readMillis(field: keyof ConnectionSettings, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'number') throw configError(`${field} must be a number of milliseconds, not ${kindOf(value)}.`);
  if (!Number.isInteger(value) || value < 0 || value > INT_MAX) {
    throw configError(`${field} is ${value}; it must be an integer from 0 (none) to ${INT_MAX} milliseconds.`);
  }
  return value;
}

export function readSessionTimeouts(settings: ConnectionSettings): Record<string, string> {
  const session: Record<string, string> = {};
  for (const field of SESSION_TIMEOUTS) {
    const millis = readMillis(field, settings[field]);
    if (millis !== undefined) session[field] = String(millis);
  }
  return session;
}
