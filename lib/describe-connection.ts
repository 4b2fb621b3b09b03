import { existsSync } from 'node:fs';
import { isSocketDirectory, withDefaults } from './config/config-context.js';
import { KEYWORD_NAMES, KEYWORDS, type Keyword } from './config/keywords.js';
import { CONNECTION_SETTING_KEYS } from './config/resolve-config.js';
import type { PemSource, ResolvedConfig, SettingSource, TargetSessionAttrs } from './config/resolved-config.js';
import { SettingLayers } from './config/setting-layers.js';
import { attemptsOf, formatHost, type Attempt } from './connect/attempt.js';
import { protectionOf, type Protection, type TlsProtection } from './connect/protection.js';
import { Secret } from './errors/secret.js';
import { resolveModuleOptions, type PgModuleOptions, type ResolvedModuleOptions } from './pg.options.js';
import { tlsAttempts, type TlsDecision, type Verification } from './tls/ssl-mode.js';
import { TlsMaterial } from './tls/tls-material.js';
import { formatMillis } from './util/duration.js';

/** A setting that is in force. */
export interface DescribedSetting {
  /** As libpq would write it; `[secret]` for a password, key or passphrase. */
  readonly value: string;
  readonly source: SettingSource;
}

/** One host of the list. Each address behind a name is tried in turn. */
export interface DescribedAttempt {
  /** As written; `undefined` where only `hostaddr` is. */
  readonly host: string | undefined;
  /** What is connected to: the numeric address or the name, as written, or the path of the Unix socket. */
  readonly address: string;
  readonly transport: 'tcp' | 'unix';
  readonly port: number;
  /** In this order: the second is a fallback, and what leads to it is libpq's rule for the sslmode. */
  readonly encryption: readonly TlsDecision[];
  /** What the session must be to be kept. `prefer-standby` is two passes over the hosts: `standby`, then `any`. */
  readonly targetSessionAttrs: Exclude<TargetSessionAttrs, 'prefer-standby'>;
}

/** What {@link describeConnection} returns: plain and frozen, fit for a log or a health page. */
export interface ConnectionDescription {
  /**
   * By libpq's keyword (and `query_timeout`, `statement_timeout`, ... by pg's name): what is in force and where it came
   * from. `connect_timeout` is the deadline of one address, be it from `pool.connectTimeoutMillis` or the default of 10 s.
   */
  readonly settings: Readonly<Record<string, DescribedSetting>>;
  readonly attempts: readonly DescribedAttempt[];
  /** `random` = `load_balance_hosts` shuffles hosts and addresses for every connection. */
  readonly order: 'as listed' | 'random';
  /** The least that TLS guarantees over all attempts that use a network; `nothing` where all are Unix sockets. */
  readonly protection: TlsProtection;
  /** What is not as it should be: a password file that is ignored, a certificate file that cannot be used, ... */
  readonly warnings: readonly string[];
  /** All of it in lines for people; `String(description)` is the same. */
  readonly text: string;
  toString(): string;
}

/**
 * What these options mean, without connecting: the settings in force and where each came from, the attempts in their
 * order, and what TLS will guarantee against. Secrets are masked. It reads what connecting would read (environment,
 * service file, password file, certificates) and looks up no name. A `connectionFactory` of the options is not called.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID` where the module would refuse to start
 */
export function describeConnection(options: PgModuleOptions = {}): ConnectionDescription {
  const warnings: string[] = [];
  const resolved = resolveModuleOptions(options, (message) => warnings.push(message));
  const { config } = resolved;
  const attempts = attemptsOf({ ...config, loadBalanceHosts: 'disable' }, () => 0).map((attempt) =>
    describeAttempt(attempt, config),
  );
  const hasNetwork = attempts.some(({ transport }) => transport === 'tcp');
  const verify = hasNetwork ? verificationOf(config, (message) => warnings.push(message)) : undefined;
  const protection: Protection = hasNetwork
    ? protectionOf(config, verify)
    : { against: 'nothing', why: 'A Unix socket has no TLS, and does not leave this machine.' };
  const description = {
    settings: describeSettings(options, resolved),
    attempts,
    order: config.loadBalanceHosts === 'random' ? 'random' : 'as listed',
    protection: protection.against,
    warnings,
  } as const;
  const text = render(description, config, resolved, protection.why);
  for (const part of [warnings, attempts, description.settings, ...Object.values(description.settings)])
    Object.freeze(part);
  return Object.freeze(
    Object.defineProperty({ ...description, text }, 'toString', { value: () => text, enumerable: false }),
  );
}

function describeAttempt({ entry, attrs }: Attempt, config: ResolvedConfig): DescribedAttempt {
  const target = entry.hostaddr ?? entry.host ?? 'localhost';
  const isUnix = isSocketDirectory(target);
  return Object.freeze({
    host: entry.host,
    address: isUnix ? `${target}/.s.PGSQL.${entry.port}` : target,
    transport: isUnix ? 'unix' : 'tcp',
    port: entry.port,
    encryption: Object.freeze(tlsAttempts(config.tls, isUnix)),
    targetSessionAttrs: attrs,
  });
}

/** Loads the key material as connecting would. */
function verificationOf(config: ResolvedConfig, warn: (message: string) => void): Verification | undefined {
  if (config.tls.mode === 'disable') return undefined;
  try {
    return new TlsMaterial(config.tls, { warn }).secureContext().verify;
  } catch (error) {
    warn(`TLS is not possible: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}

function describeSettings(
  options: PgModuleOptions,
  { config, limits }: ResolvedModuleOptions,
): Record<string, DescribedSetting> {
  const given = Object.entries(options).filter(([key]) => CONNECTION_SETTING_KEYS.includes(key));
  // What it has to say has been said when the options were resolved.
  const layers = new SettingLayers(Object.fromEntries(given), withDefaults({ warn: () => undefined }));
  const { hosts, tls, session } = config;
  const list = (items: readonly string[]): string => (new Set(items).size === 1 ? (items[0] ?? '') : items.join());
  const known: Partial<Record<Keyword, string | undefined>> = {
    user: config.user,
    dbname: config.database,
    host: hosts.some(({ host }) => host !== undefined) ? hosts.map(({ host }) => host ?? '').join() : undefined,
    port: list(hosts.map(({ port }) => String(port))),
    connect_timeout: String(limits.connectTimeoutMillis / 1000),
    keepalives_idle: config.keepalive.idleMillis > 0 ? String(config.keepalive.idleMillis / 1000) : undefined,
    sslrootcert: describePem(tls, tls.ca, 'ca'),
    sslcert: describePem(tls, tls.cert, 'cert'),
    sslkey: describePem(tls, tls.key, 'key'),
    sslcrl: describePem(tls, tls.crl, 'crl'),
  };
  const sources: Partial<Record<string, SettingSource>> = { ...config.sources };
  if (options.pool?.connectTimeoutMillis !== undefined) sources['connect_timeout'] = 'option';
  for (const [keyword, source] of Object.entries({
    sslrootcert: tls.ca,
    sslcert: tls.cert,
    sslkey: tls.key,
    sslcrl: tls.crl,
  })) {
    if (tls.secureContext !== undefined || source?.kind === 'inline') sources[keyword] = 'option';
  }

  const settings: Record<string, DescribedSetting> = {};
  const put = (name: string, value: string | undefined, source: SettingSource): void => {
    if (value !== undefined && (value !== '' || source !== 'default')) settings[name] = { value, source };
  };
  for (const keyword of KEYWORD_NAMES) {
    const source = sources[keyword] ?? 'default';
    const value = Object.hasOwn(known, keyword) ? known[keyword] : layers.text(keyword);
    const isSecret = KEYWORDS[keyword].kind === 'secret' && sources[keyword] !== undefined;
    put(keyword, isSecret ? String(new Secret(undefined)) : value, source);
  }
  for (const [name, value] of Object.entries(session)) {
    if (settings[name] === undefined) put(name, value, SESSION_VARIABLES.includes(name) ? 'environment' : 'option');
  }
  put('ssl.serverName', tls.serverName, 'option');
  if (config.queryTimeoutMillis > 0) put('query_timeout', String(config.queryTimeoutMillis), 'option');
  return settings;
}

/** PGDATESTYLE, PGTZ and PGGEQO have no keyword. */
const SESSION_VARIABLES = ['datestyle', 'timezone', 'geqo'];

/** A file at a default place counts when it is there. */
function describePem(tls: ResolvedConfig['tls'], source: PemSource | undefined, name: string): string | undefined {
  if (tls.secureContext !== undefined) return name === 'ca' ? '(in ssl.secureContext)' : undefined;
  switch (source?.kind) {
    case undefined:
      return undefined;
    case 'system':
      return 'system';
    case 'inline':
      return `(given as ssl.${name})`;
    case 'file':
      return source.required || existsSync(source.path) ? source.path : undefined;
  }
}

const ENCRYPTIONS: Readonly<Record<TlsDecision, string>> = { tls: 'TLS', plain: 'unencrypted' };

function render(
  { settings, attempts, order, protection, warnings }: Omit<ConnectionDescription, 'text' | 'toString'>,
  config: ResolvedConfig,
  { limits, connectionFactory }: ResolvedModuleOptions,
  why: string,
): string {
  const deadline =
    limits.connectTimeoutMillis === 0 ? 'without limit' : `${formatMillis(limits.connectTimeoutMillis)} each`;
  const lines = [
    `Connects as "${config.user}" to database "${config.database}".`,
    `Attempts${order === 'random' ? ' (hosts in random order)' : ', in this order'}, ${deadline}:`,
    ...attempts.map((attempt, index) => `  ${index + 1}. ${renderAttempt(attempt)}`),
    `TLS protects against: ${protection}. ${why}`,
    'Settings:',
    ...Object.entries(settings).map(([name, { value, source }]) => `  ${name}=${value} (${source})`),
    ...warnings.map((warning) => `Warning: ${warning}`),
  ];
  if (connectionFactory) lines.push('The connectionFactory of the options may open connections in another way.');
  return lines.join('\n');
}

function renderAttempt({ host, address, transport, port, encryption, targetSessionAttrs }: DescribedAttempt): string {
  const where =
    transport === 'unix'
      ? `Unix socket ${address}`
      : formatHost({ host, hostaddr: address, port }) + (host === undefined || host === address ? '' : ` (${address})`);
  const wanted = targetSessionAttrs === 'any' ? '' : `, must be ${targetSessionAttrs}`;
  return `${where}, ${encryption.map((decision) => ENCRYPTIONS[decision]).join(', then ')}${wanted}`;
}
