import pg from 'pg';
import { describe, expect, it } from 'vitest';
import type { SettingSource } from '../../../lib/config/resolved-config.js';
import type { ConnectPhase } from '../../../lib/connect/connect.error.js';
import { NegotiationError } from '../../../lib/connect/dial.js';
import { connectHint } from '../../../lib/connect/hint.js';
import { PgModuleError } from '../../../lib/errors/pg-module.error.js';

const system = (code: string): Error => Object.assign(new Error(`connect ${code}`), { code });

function server(code: string, text = 'some text', routine = 'someFunction'): Error {
  return Object.assign(new pg.DatabaseError(text, text.length, 'error'), { code, routine });
}

const timeout = new PgModuleError('PG_CONNECT_TIMEOUT', 'no connection within 10 s');

interface Case {
  error: Error;
  phase?: ConnectPhase;
  host?: string;
  passwordSource?: SettingSource;
}

const hintOf = ({ error, phase = 'authentication', host = 'db.internal', passwordSource }: Case): string | undefined =>
  connectHint({ failure: { host, phase, error }, passwordSource });

describe('the hint of', () => {
  it.each<[string, Case, RegExp]>([
    [
      'a refused connection',
      { error: system('ECONNREFUSED'), phase: 'TCP connect' },
      /is this its port.*listen_addresses/,
    ],
    ['a dead socket', { error: system('ECONNREFUSED'), phase: 'TCP connect', host: '/run' }, /on this machine\?/],
    ['a missing socket', { error: system('ENOENT'), phase: 'TCP connect', host: '/run' }, /unix_socket_directories/],
    ['a socket of others', { error: system('EACCES'), phase: 'TCP connect', host: '/run' }, /unix_socket_permissions/],
    ['an unknown name', { error: system('ENOTFOUND'), phase: 'name look-up' }, /spelling.*DNS/],
    ['a silent name server', { error: system('EAI_AGAIN'), phase: 'name look-up' }, /name server did not answer/],
    ['lost packets', { error: system('ETIMEDOUT'), phase: 'TCP connect' }, /firewall/],
    ['no route', { error: system('EHOSTUNREACH'), phase: 'TCP connect' }, /routes/],
    ['no network', { error: system('ENETUNREACH'), phase: 'TCP connect' }, /IPv6/],
    ['no address', { error: system('EADDRNOTAVAIL'), phase: 'TCP connect' }, /no free port/],
    ['a reset', { error: system('ECONNRESET') }, /log says why/],
    ['a broken pipe', { error: system('EPIPE') }, /log says why/],
    ['too many files', { error: system('EMFILE'), phase: 'TCP connect' }, /ulimit/],
    ['an early end', { error: new Error('Connection terminated unexpectedly') }, /log says why/],
    ['a server without TLS', { error: new NegotiationError('the server does not support TLS, ...') }, /ssl = on/],
    ['another protocol', { error: new NegotiationError('... with an invalid byte (0x48)') }, /not PostgreSQL/],
    ['an end before TLS', { error: new NegotiationError('the server closed the connection') }, /log says why/],
    [
      'a missing line in pg_hba.conf',
      { error: server('28000', 'x', 'ClientAuthentication') },
      /pg_hba\.conf.*this machine\.$/,
    ],
    [
      'such a line that there may be for TLS',
      { error: server('28000', 'no pg_hba.conf entry for host "::1", ..., no encryption', 'ClientAuthentication') },
      /sslmode to require/,
    ],
    ['an unknown role', { error: server('28000', 'x', 'InitializeSessionUserId') }, /Create the role.*PGUSER/],
    ['a wrong password', { error: server('28P01') }, /Check user and password: /],
    ['an own password', { error: server('28P01'), passwordSource: 'option' }, /that of the options/],
    ['a password in a URI', { error: server('28P01'), passwordSource: 'string' }, /percent-encoded/],
    ['a password of a service', { error: server('28P01'), passwordSource: 'service' }, /service file/],
    ['PGPASSWORD', { error: server('28P01'), passwordSource: 'environment' }, /PGPASSWORD/],
    ['a password file', { error: server('28P01'), passwordSource: 'passfile' }, /password file/],
    ['an unknown database', { error: server('3D000') }, /name of the user/],
    ['a missing right', { error: server('42501') }, /GRANT CONNECT/],
    ['too many connections', { error: server('53300') }, /pool\.max.*max_connections/],
    ['a server that starts', { error: server('57P03') }, /in a moment/],
    ['PgBouncer', { error: server('08P01', 'unsupported startup parameter: x') }, /ignore_startup_parameters/],
    [
      'the wrong kind of server',
      { error: new Error('the server is a standby, but target_session_attrs=primary'), phase: 'session check' },
      /relax target_session_attrs/,
    ],
    ['a lost session', { error: new Error('Connection terminated'), phase: 'session check' }, /log says why/],
    ['a slow look-up', { error: timeout, phase: 'name look-up' }, /name server is slow/],
    ['a slow network', { error: timeout, phase: 'TCP connect' }, /firewall/],
    ['silence', { error: timeout, phase: 'TLS' }, /says nothing/],
    ['a slow authentication', { error: timeout, phase: 'authentication' }, /LDAP/],
    ['a slow password', { error: timeout, phase: 'password' }, /function given as password/],
    ['a slow first query', { error: timeout, phase: 'session check' }, /overloaded/],
    ['a slow onConnect', { error: timeout, phase: 'onConnect' }, /connectTimeoutMillis longer/],
  ])('%s', (_, failure, expected) => {
    const hint = hintOf(failure);
    expect(hint).toMatch(expected);
    expect(hint).toMatch(/^[A-Z].*[.?]$/);
  });

  it.each<[string, Case]>([
    ['what the settings lack', { error: new PgModuleError('PG_CONFIG_INVALID', 'no password'), phase: 'password' }],
    ['a refused method', { error: new PgModuleError('PG_AUTH_REFUSED', 'md5') }],
    ['an explained certificate', { error: new Error('does not lead to a trusted root: name the root'), phase: 'TLS' }],
    ["the application's own errors", { error: system('ECONNREFUSED'), phase: 'onConnect' }],
    ['those of its password function', { error: system('ENOTFOUND'), phase: 'password' }],
    ['an unknown SQLSTATE', { error: server('XX000') }],
    ['an SQLSTATE like a property', { error: server('toString') }],
    ['an errno like a property', { error: system('constructor'), phase: 'TCP connect' }],
  ])('%s is none', (_, failure) => {
    expect(hintOf(failure)).toBeUndefined();
  });
});
