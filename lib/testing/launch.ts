import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Secret } from '../errors/secret.js';
import { findBinaries, type Binaries } from './binaries.js';
import { temporaryRoot } from './cache.js';
import { freePort } from './free-port.js';
import { Guard } from './guard.js';
import { giveTo, serverIdentity, type Identity } from './identity.js';
import type { ServerOptions } from './postgres-options.js';
import { PostgresServer } from './postgres-server.js';
import { DEFAULT_HBA, ServerFiles } from './server-files.js';
import { ServerLog } from './server-log.js';

/** How often a port that was free when it was chosen and taken when the server came is replaced by another. */
const PORT_TRIES = 5;

/** Where, as whom and with which programs servers run. */
export interface Site {
  readonly packageName: string;
  readonly binaries: Binaries;
  readonly identity: Identity | undefined;
}

export async function findSite(packageName: string): Promise<Site> {
  const identity = serverIdentity();
  return { packageName, identity, binaries: await findBinaries(packageName, identity) };
}

export interface Launch {
  readonly site: Site;
  readonly options: ServerOptions;
  readonly database: string;
  readonly password: Secret<string>;
  /** Puts a data folder into `<folder>/data`. */
  readonly fill: (guard: Guard, log: ServerLog) => Promise<void>;
}

/** Makes a folder, lets `fill` put the data into it, and starts a server on it. Nothing is left behind on failure. */
export async function launch({ site, options, database, password, fill }: Launch): Promise<PostgresServer> {
  const { binaries, identity, packageName } = site;
  const guard = await Guard.open(await temporaryRoot(identity), binaries.bin, identity);
  try {
    const log = new ServerLog(join(guard.folder, 'log'));
    const run = join(guard.folder, 'run');
    await mkdir(run, { mode: 0o700 });
    await giveTo(identity, run);
    await fill(guard, log);
    const listen = options.listen ?? ['127.0.0.1'];
    for (let tries = 1; ; tries++) {
      const port = options.port ?? (await freePort(listen));
      const files = new ServerFiles(join(guard.folder, 'data'), identity, {
        port,
        listen_addresses: listen.join(','),
        unix_socket_directories: run,
        unix_socket_permissions: '0777',
      });
      await files.writeSettings(options.settings ?? {});
      await files.writeSsl(options.ssl);
      await files.writeHba(options.hba ?? DEFAULT_HBA);
      const host = hostFor(listen, run);
      const parts = { guard, files, log, binaries, identity, packageName, host, port, database, password };
      const before = await log.size();
      try {
        const server = new PostgresServer({ ...parts, logSink: options.log });
        await server.start();
        return server;
      } catch (error) {
        const taken = /could not bind [^]* Address already in use/.test(await log.text(before));
        if (!taken || options.port !== undefined || tries === PORT_TRIES) throw error;
      }
    }
  } catch (error) {
    await guard.close();
    throw error;
  }
}

function hostFor(listen: readonly string[], socketDir: string): string {
  const [first = socketDir] = listen;
  if (listen.some((address) => ['*', '0.0.0.0', '127.0.0.1', 'localhost'].includes(address))) return '127.0.0.1';
  return first === '::' ? '::1' : first;
}
