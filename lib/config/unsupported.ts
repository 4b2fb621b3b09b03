import { isSocketDirectory, type ConfigContext } from './config-context.js';
import { configError } from './config-error.js';
import type { ListedHost } from './host-list.js';
import { KEYWORD_NAMES, KEYWORDS, type Keyword } from './keywords.js';
import type { SettingLayers } from './setting-layers.js';

const SOCKET_OPTIONS = ['keepalives_interval', 'keepalives_count', 'tcp_user_timeout'] as const;

/**
 * Whatever libpq would honour and this package cannot is an error: a setting that is silently ignored would give
 * another connection than the one asked for. Runs after `listHosts`.
 */
export function refuseUnsupported(layers: SettingLayers, hosts: readonly ListedHost[], context: ConfigContext): void {
  for (const keyword of KEYWORD_NAMES) {
    if (KEYWORDS[keyword].treatment !== 'refused') continue;
    // An empty value is "not set" in libpq, but for these keys, where it is one of the wrong length.
    const isSet = keyword.startsWith('scram_') ? layers.has(keyword) : layers.filled(keyword) !== undefined;
    if (isSet) refuse(keyword, layers);
  }

  const keepalives = layers.integer('keepalives') !== 0;
  for (const keyword of SOCKET_OPTIONS) {
    const value = layers.integer(keyword);
    const matters = keyword === 'tcp_user_timeout' || keepalives;
    if (value !== undefined && value > 0 && matters) refuse(keyword, layers);
  }

  const overSocket = hosts.some(
    ({ host, hostaddr }) => hostaddr === undefined && host !== undefined && isSocketDirectory(host, context.platform),
  );
  if (layers.filled('requirepeer') !== undefined && overSocket) refuse('requirepeer', layers);

  if (layers.choice('gssencmode', ['disable', 'prefer', 'require']) === 'require') refuse('gssencmode', layers);
  if (layers.text('krbsrvname') !== 'postgres' && layers.filled('krbsrvname') !== undefined) {
    refuse('krbsrvname', layers);
  }
  if (layers.text('gssdelegation')?.startsWith('1')) refuse('gssdelegation', layers);

  const encoding = layers.filled('client_encoding');
  if (encoding !== undefined && !isUtf8(encoding)) refuse('client_encoding', layers);

  refuseProtocolVersions(layers);
}

function refuseProtocolVersions(layers: SettingLayers): void {
  const versions = ['3.0', '3.2', 'latest'] as const;
  const min = layers.choice('min_protocol_version', versions);
  const max = layers.choice('max_protocol_version', versions);
  if (min === undefined || min === '3.0') return;
  if (max === '3.0') {
    throw configError(
      `${layers.origin('min_protocol_version')} is greater than ${layers.origin('max_protocol_version')}.`,
    );
  }
  refuse('min_protocol_version', layers);
}

/** The server's spellings (`pg_char_to_encoding` skips case and punctuation), and libpq's `auto`. */
function isUtf8(encoding: string): boolean {
  const name = encoding.toLowerCase().replace(/[^a-z0-9]/g, '');
  return encoding === 'auto' || name === 'utf8' || name === 'unicode';
}

function refuse(keyword: Keyword, layers: SettingLayers): never {
  throw configError(`${layers.origin(keyword)} cannot be honoured: ${KEYWORDS[keyword].note}.`);
}
