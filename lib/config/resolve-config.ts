import { Secret } from '../errors/secret.js';
import { homeFile, withDefaults, type ConfigContext } from './config-context.js';
import { configError } from './config-error.js';
import { readSessionEnvironment } from './environment.js';
import { readMillis, readSessionTimeouts } from './explicit-settings.js';
import { DEFAULT_SOCKET_DIRECTORIES, listHosts, type ListedHost } from './host-list.js';
import { findPassword, readPassFile } from './pass-file.js';
import { parseRequireAuth } from './require-auth.js';
import { resolveTls } from './resolve-tls.js';
import type { HostEntry, Password, RequireAuth, ResolvedConfig, TargetSessionAttrs } from './resolved-config.js';
import { CONNECTION_SETTING_HINTS, CONNECTION_SETTING_KEYS } from './setting-hints.js';
import { SettingLayers } from './setting-layers.js';
import type { ConnectionSettings } from './settings.js';
import { assertKnownKeys, kindOf } from './unknown-option.js';
import { refuseUnsupported } from './unsupported.js';

export type { ConfigContext, FileFacts } from './config-context.js';
export { assertKnownKeys } from './unknown-option.js';
export { parseConnectionString } from './connection-string.js';
export { CONNECTION_SETTING_HINTS, CONNECTION_SETTING_KEYS } from './setting-hints.js';

const TARGETS: readonly TargetSessionAttrs[] = [
  'any',
  'read-write',
  'read-only',
  'primary',
  'standby',
  'prefer-standby',
];

/**
 * Decides every setting of a connection once, by libpq's rules: explicit fields win over the connection string, which
 * wins over the service file, the PG* environment, and the password file and compiled defaults, keyword by keyword.
 *
 * @param context the world to read (environment, files, account); what is missing is Node's
 * @returns a deeply frozen object; passwords, keys and passphrases in it are wrapped in `Secret`
 * @throws PgModuleError `PG_CONFIG_INVALID` for an unknown option, a wrong type or value, a contradiction that libpq
 * refuses, or a setting that libpq would honour and this package cannot. No message quotes a piece of a connection
 * string, an environment variable or a file.
 */
export function resolveConfig(settings: ConnectionSettings, context?: Partial<ConfigContext>): ResolvedConfig {
  assertKnownKeys(settings, CONNECTION_SETTING_KEYS, 'connection settings', CONNECTION_SETTING_HINTS);
  const world = withDefaults(context);
  const layers = new SettingLayers(settings, world);

  const listed = listHosts(layers, world);
  const user = resolveUser(layers, world);
  const database = resolveDatabase(layers, user);
  const password = resolvePassword(settings, layers);
  const hosts =
    password === undefined ? withFilePasswords(listed, { user, database }, layers, world) : listed.map(withoutPassword);
  const requireAuth = parseRequireAuth(layers.text('require_auth') ?? '', layers.origin('require_auth'));
  const channelBinding = layers.choice('channel_binding', ['disable', 'prefer', 'require']) ?? 'prefer';
  const tls = resolveTls(layers, world);
  refuseUnsupported(layers, listed, world);

  const config: Omit<ResolvedConfig, keyof Brand> = {
    hosts,
    user,
    database,
    password,
    tls,
    requireAuth,
    channelBinding,
    targetSessionAttrs: layers.choice('target_session_attrs', TARGETS) ?? 'any',
    loadBalanceHosts: layers.choice('load_balance_hosts', ['disable', 'random']) ?? 'disable',
    connectTimeoutMillis: resolveConnectTimeout(layers),
    queryTimeoutMillis: readMillis('query_timeout', settings.query_timeout) ?? 0,
    keepalive: resolveKeepalive(settings, layers),
    session: resolveSession(settings, layers, world),
    types: checkTypes(settings.types),
    sources: layers.sources(),
  };
  return freeze(config) as ResolvedConfig;
}

type Brand = Pick<ResolvedConfig, Extract<keyof ResolvedConfig, symbol>>;

function resolveUser(layers: SettingLayers, context: ConfigContext): string {
  const named = layers.filled('user');
  if (named !== undefined) return named;
  let account: string;
  try {
    account = context.osUser();
  } catch (error) {
    throw configError('No user is set, and the OS account of this process has no name: set user or PGUSER.', error);
  }
  layers.note('user', account, 'default');
  return account;
}

function resolveDatabase(layers: SettingLayers, user: string): string {
  const named = layers.filled('dbname');
  if (named !== undefined) return named;
  layers.note('dbname', user, 'default');
  return user;
}

function resolvePassword(settings: ConnectionSettings, layers: SettingLayers): Secret<Password> | undefined {
  const { password } = settings;
  if (typeof password === 'function') {
    // The text only marks the keyword as set; it is never read.
    layers.note('password', '', 'option');
    return new Secret<Password>(password);
  }
  if (password !== undefined && typeof password !== 'string') {
    throw configError(`password must be a string or a function that returns one, not ${kindOf(password)}.`);
  }
  const text = layers.filled('password');
  return text === undefined ? undefined : new Secret<Password>(text);
}

const withoutPassword = (host: ListedHost): HostEntry => ({ ...host, password: undefined });

function withFilePasswords(
  hosts: readonly ListedHost[],
  session: { readonly user: string; readonly database: string },
  layers: SettingLayers,
  context: ConfigContext,
): readonly HostEntry[] {
  const named = layers.filled('passfile');
  const file = named ?? homeFile(context, context.platform === 'win32' ? 'pgpass.conf' : '.pgpass');
  if (file === undefined) return hosts.map(withoutPassword);
  if (named === undefined) layers.note('passfile', file, 'default');
  const label =
    layers.source('passfile') === 'string'
      ? 'The password file that the connection string names'
      : `The password file ${file}`;
  if (named !== undefined && context.stat(file) === undefined) context.warn(`${label} is not there: it is not used.`);
  const text = readPassFile(file, label, context);
  if (text === undefined) return hosts.map(withoutPassword);

  const entries = hosts.map((host): HostEntry => {
    const name = host.host ?? host.hostaddr ?? 'localhost';
    const key = {
      host: DEFAULT_SOCKET_DIRECTORIES.includes(name) ? 'localhost' : name,
      port: String(host.port),
      ...session,
    };
    const password = findPassword(text, key);
    return { ...host, password: password === undefined ? undefined : new Secret(password) };
  });
  if (entries.some(({ password }) => password !== undefined)) layers.note('password', '', 'passfile');
  return entries;
}

/** Seconds; zero and less wait for ever. Since libpq 17 one second is one second. */
function resolveConnectTimeout(layers: SettingLayers): number | undefined {
  const seconds = layers.integer('connect_timeout');
  return seconds === undefined ? undefined : Math.max(0, seconds) * 1000;
}

function resolveKeepalive(settings: ConnectionSettings, layers: SettingLayers): ResolvedConfig['keepalive'] {
  const millis = readMillis('keepAliveInitialDelayMillis', settings.keepAliveInitialDelayMillis);
  const seconds = layers.integer('keepalives_idle');
  if (millis !== undefined) layers.note('keepalives_idle', '', 'option');
  return {
    enabled: layers.integer('keepalives') !== 0,
    idleMillis: millis ?? Math.max(0, seconds ?? 0) * 1000,
  };
}

/** `build_startup_packet` of fe-protocol3.c, but for user and database; client_encoding is always UTF8 in pg. */
function resolveSession(
  settings: ConnectionSettings,
  layers: SettingLayers,
  context: ConfigContext,
): Record<string, string> {
  const session = readSessionEnvironment(context.env);
  // An application_name that is set to the empty string keeps the fallback out, too.
  const applicationName = layers.text('application_name') ?? layers.text('fallback_application_name');
  if (applicationName) session.application_name = applicationName;
  for (const keyword of ['options', 'replication'] as const) {
    const value = layers.filled(keyword);
    if (value !== undefined) session[keyword] = value;
  }
  return { ...session, ...readSessionTimeouts(settings) };
}

function checkTypes(types: ConnectionSettings['types']): ConnectionSettings['types'] {
  if (types === undefined) return undefined;
  const given: unknown = types;
  const usable =
    typeof given === 'object' &&
    given !== null &&
    'getTypeParser' in given &&
    typeof given.getTypeParser === 'function';
  if (!usable) {
    throw configError('types must have a function getTypeParser(oid, format), as pg.types has.');
  }
  return types;
}

/** `types` and a SecureContext are the user's own and stay as they are; a Secret has nothing to freeze. */
function freeze(config: Omit<ResolvedConfig, keyof Brand>): typeof config {
  config.hosts.forEach(Object.freeze);
  Object.freeze(config.hosts);
  const { ca, cert, key, crl } = config.tls;
  for (const part of [ca, cert, key, crl, config.tls, config.keepalive, config.session, config.sources]) {
    Object.freeze(part);
  }
  return Object.freeze({ ...config, requireAuth: frozenAuth(config.requireAuth) });
}

function frozenAuth(requireAuth: RequireAuth | undefined): RequireAuth | undefined {
  if (requireAuth !== undefined) Object.freeze(requireAuth.methods);
  return Object.freeze(requireAuth);
}
