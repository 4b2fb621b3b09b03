import pg from 'pg';
import { isSocketDirectory } from '../config/config-context.js';
import type { SettingSource } from '../config/resolved-config.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import type { ConnectPhase, FailedAttempt } from './connect.error.js';
import { NegotiationError } from './dial.js';

/** What a hint is drawn from. */
export interface HintFacts {
  readonly failure: Pick<FailedAttempt, 'host' | 'phase' | 'error'>;
  /** Where the password came from; `undefined` = there is none. */
  readonly passwordSource: SettingSource | undefined;
}

type Hint = string | ((facts: HintFacts) => string);

const LOST_PACKETS =
  'Packets get lost on the way: mostly a firewall or a security group that drops them, or a wrong address.';

const HUNG_UP =
  "The server's log says why it hung up; if it says nothing, something else answers on this port, or a proxy between " +
  'has no server behind it.';

/** What the operating system says of a look-up or of a socket. */
const SYSTEM_ERRORS: Readonly<Record<string, Hint>> = {
  ECONNREFUSED: ({ failure }) =>
    isSocketDirectory(failure.host)
      ? 'Nobody listens on this socket any more: is the server running on this machine?'
      : 'Nothing listens there: is the server running, is this its port, and does its listen_addresses include this ' +
        'address?',
  ENOENT:
    'There is no such socket: is the server running on this machine, with this port and with this folder among its ' +
    'unix_socket_directories?',
  EACCES: 'The account of this process may not use the socket: compare unix_socket_permissions and unix_socket_group.',
  ENOTFOUND:
    'Nobody knows this host name: check its spelling, and whether the DNS of this machine or container has it.',
  EAI_AGAIN: 'The name server did not answer: check the network and DNS of this machine or container.',
  ETIMEDOUT: LOST_PACKETS,
  EHOSTUNREACH: 'There is no way to this address: check the address, routes, VPN and firewall.',
  ENETUNREACH: 'There is no way to this network: check the address, routes and VPN (an IPv6 address needs IPv6 here).',
  EADDRNOTAVAIL: 'This machine cannot reach such an address, or has no free port left for one more connection.',
  ECONNRESET: HUNG_UP,
  EPIPE: HUNG_UP,
  EMFILE: 'This process has too many open files: close what is not needed, or raise its limit (ulimit -n).',
};

/** https://www.postgresql.org/docs/18/errcodes-appendix.html */
const SQL_STATES: Readonly<Record<string, Hint>> = {
  '28P01': ({ passwordSource }) =>
    `Check user and password${PASSWORD_ORIGIN[passwordSource ?? 'default']}: PostgreSQL says the same of an unknown ` +
    'user, of one without a password, and of an expired password.',
  '3D000': 'Create the database, or correct its name; without one it is the name of the user.',
  '42501': 'The user lacks a right that connecting needs: GRANT CONNECT ON DATABASE ... TO ..., or another role.',
  '53300':
    'All connections of the server are taken: the sum of pool.max over all processes has to stay below its ' +
    'max_connections (or the limit of the role or database).',
  '57P03': 'The server is starting, stopping or recovering: it will serve in a moment, if its log says nothing else.',
};

const PASSWORD_ORIGIN: Readonly<Record<SettingSource, string>> = {
  option: ' (the password is that of the options)',
  string: ' (the password is that of the connection string, where "@", ":", "/" and "%" must be percent-encoded)',
  service: ' (the password is that of the service file)',
  environment: ' (the password is that of PGPASSWORD)',
  passfile: ' (the password is that of the password file)',
  default: '',
};

/** Where the deadline struck. */
const TIMEOUTS: Readonly<Record<ConnectPhase, string>> = {
  'name look-up': 'The name server is slow or cannot be reached: check the DNS of this machine or container.',
  'TCP connect': LOST_PACKETS,
  TLS:
    'Something accepts connections there and then says nothing: a server that is stopped or overloaded, a proxy ' +
    'without a server behind it, or no PostgreSQL at all.',
  authentication:
    'The server has taken the connection and does not finish: it is overloaded, or its way to authenticate (LDAP, ' +
    'RADIUS, PAM) is slow.',
  password: 'The function given as password did not answer: give what it calls a timeout of its own.',
  'session check': 'The server let us in and does not answer: it is overloaded, or the network is lost.',
  onConnect: 'What pool.onConnect does is part of connecting: make it shorter, or pool.connectTimeoutMillis longer.',
};

/**
 * The usual cause of a failed attempt and what to look at, as sentences; `undefined` where the error says so itself
 * (certificates, refused authentication, settings).
 */
export function connectHint(facts: HintFacts): string | undefined {
  const hint = findHint(facts.failure);
  return typeof hint === 'function' ? hint(facts) : hint;
}

function findHint({ phase, error }: HintFacts['failure']): Hint | undefined {
  if (error instanceof pg.DatabaseError) return ofDatabase(error);
  if (error instanceof PgModuleError) return error.code === 'PG_CONNECT_TIMEOUT' ? TIMEOUTS[phase] : undefined;
  if (error instanceof NegotiationError) return ofNegotiation(error);
  // What fails in there is the application's own.
  if (phase === 'onConnect' || phase === 'password') return undefined;
  if (phase === 'session check') {
    return error.message.includes('target_session_attrs')
      ? 'Name a server of the wanted kind in the list of hosts, or relax target_session_attrs.'
      : HUNG_UP;
  }
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (Object.hasOwn(SYSTEM_ERRORS, code)) return SYSTEM_ERRORS[code];
  return /terminated unexpectedly|closed the connection/.test(error.message) ? HUNG_UP : undefined;
}

/** The server's words may be translated; the names of its functions are not. */
function ofDatabase({ code = '', message, routine }: pg.DatabaseError): Hint | undefined {
  if (code === '28000' && routine === 'ClientAuthentication') {
    const encryption = / no encryption$| SSL off$/.test(message)
      ? ' (for TLS alone, perhaps: then set sslmode to require or stronger)'
      : '';
    return `The server's pg_hba.conf has no line that lets this user in from this machine${encryption}.`;
  }
  if (code === '28000' && routine === 'InitializeSessionUserId') return 'Create the role, or correct user (PGUSER).';
  // PgBouncer's own words, with the SQLSTATE of a protocol violation.
  if (message.includes('unsupported startup parameter')) {
    return 'The pooler between refuses it: add it to ignore_startup_parameters in pgbouncer.ini, or leave it out.';
  }
  return Object.hasOwn(SQL_STATES, code) ? SQL_STATES[code] : undefined;
}

function ofNegotiation({ message }: NegotiationError): string | undefined {
  if (message.includes('does not support TLS')) {
    return 'Switch TLS on at the server (ssl = on); in a network that you trust, sslmode=disable does without.';
  }
  if (message.includes('invalid byte')) return 'Check host and port: what answers there is not PostgreSQL.';
  return message.includes('closed the connection') ? HUNG_UP : undefined;
}
