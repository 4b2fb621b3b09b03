import { isIP } from 'node:net';
import { isSocketDirectory, type ConfigContext } from './config-context.js';
import { configError } from './config-error.js';
import { parseInteger, type SettingLayers } from './setting-layers.js';

/** One entry of the list, before its password is looked up. */
export interface ListedHost {
  readonly host: string | undefined;
  readonly hostaddr: string | undefined;
  readonly port: number;
}

/**
 * libpq's compiled directory differs from build to build and cannot be asked for: Debian, Ubuntu and Red Hat use the
 * first, PostgreSQL's own builds the second.
 */
export const DEFAULT_SOCKET_DIRECTORIES: readonly string[] = ['/var/run/postgresql', '/tmp'];

const DEFAULT_PORT = 5432;

const URI_ADVICE = ' In a URI, write %3A for ":", %2F for "/" and %40 for "@" in user name and password.';

/** The first part of `pqConnectOptions2`: host, hostaddr and port are parallel lists. */
export function listHosts(layers: SettingLayers, context: ConfigContext): readonly ListedHost[] {
  const hosts = layers.filled('host')?.split(',');
  const addresses = layers.filled('hostaddr')?.split(',');
  const ports = layers.filled('port')?.split(',') ?? [''];
  const count = (addresses ?? hosts ?? ['']).length;

  if (hosts !== undefined && hosts.length !== count) {
    throw configError(
      `There are ${hosts.length} names in ${layers.origin('host')} for ${count} addresses in ` +
        `${layers.origin('hostaddr')}: the lists must be of one length.`,
    );
  }
  if (ports.length !== 1 && ports.length !== count) {
    throw configError(
      `There are ${ports.length} ports in ${layers.origin('port')} for ${count} hosts: ` +
        'give one port for all of them, or one for each.',
    );
  }

  const listed = Array.from({ length: count }, (_, index): ListedHost => {
    const host = hosts?.[index] || undefined;
    const hostaddr = addresses?.[index] || undefined;
    const port = readPort(ports[ports.length === 1 ? 0 : index] ?? '', layers);
    if (host !== undefined) checkHost(host, index, layers, context);
    if (hostaddr !== undefined && isIP(hostaddr) === 0) {
      throw configError(`Entry ${index + 1} of ${layers.origin('hostaddr')} is not an IPv4 or IPv6 address.`);
    }
    return host === undefined && hostaddr === undefined ? defaultHost(port, context) : { host, hostaddr, port };
  });
  const [first] = listed;
  if (!layers.has('host') && hosts === undefined && addresses === undefined) {
    layers.note('host', first?.host ?? '', 'default');
  }
  return listed;
}

function readPort(text: string, layers: SettingLayers): number {
  if (text === '') return DEFAULT_PORT;
  // A password with ":" or "/" in a URI is the usual way to a port that is none.
  const advice = layers.source('port') === 'string' ? URI_ADVICE : '';
  const port = parseInteger(text, layers.shown('port'), `from 1 to 65535.${advice}`);
  if (port < 1 || port > 65_535)
    throw configError(`${layers.shown('port')} must be an integer from 1 to 65535.${advice}`);
  return port;
}

/**
 * A "@" or "/" inside a name can only come from a URI whose password holds one that is not escaped. No such name can
 * be looked up, and later errors would quote it: with a piece of the password.
 */
function checkHost(host: string, index: number, layers: SettingLayers, context: ConfigContext): void {
  if (isSocketDirectory(host, context.platform)) return;
  if (/[@/\s]/.test(host)) {
    throw configError(`Entry ${index + 1} of ${layers.origin('host')} cannot be a host name.${URI_ADVICE}`);
  }
}

/** libpq's default is the socket of the machine's own server; where none is found, TCP to localhost. */
function defaultHost(port: number, context: ConfigContext): ListedHost {
  const directories = context.platform === 'win32' ? [] : DEFAULT_SOCKET_DIRECTORIES;
  const found = directories.find((directory) => context.stat(`${directory}/.s.PGSQL.${port}`)?.kind === 'socket');
  return { host: found ?? 'localhost', hostaddr: undefined, port };
}
