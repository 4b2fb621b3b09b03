import dns from 'node:dns/promises';
import net from 'node:net';
import { isSocketDirectory } from '../config/config-context.js';
import type { HostEntry } from '../config/resolved-config.js';
import { withSignal } from '../util/deadline.js';
import { shuffled } from './attempt.js';
import type { DialTarget } from './dial.js';
import type { Opener, OpenOptions } from './opener.js';

/** The addresses behind one entry of the host list, in the order in which they are tried. */
export async function targetsOf(
  opener: Opener,
  entry: HostEntry,
  options: OpenOptions,
  signal: AbortSignal,
): Promise<DialTarget[]> {
  const { keepalive, loadBalanceHosts } = opener.config;
  const openStream = options.stream;
  const host = entry.hostaddr ?? entry.host ?? 'localhost';
  if (isSocketDirectory(host)) {
    const directory = host.startsWith('@') ? `\0${host.slice(1)}` : host;
    return [{ endpoint: { path: `${directory}/.s.PGSQL.${entry.port}` }, openStream, keepalive }];
  }
  let addresses = [host];
  if (!openStream && net.isIP(host) === 0) {
    const found = await withSignal(dns.lookup(host, { all: true, verbatim: true }), signal);
    addresses = found.map(({ address }) => address);
    if (loadBalanceHosts === 'random') addresses = shuffled(addresses, () => opener.clock.random());
  }
  return addresses.map((address) => ({ endpoint: { address, port: entry.port }, openStream, keepalive }));
}
