import { chmod, lstat, mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { errorCode, failure } from './failure.js';
import { openToOthers, type Identity } from './identity.js';

const WEEK_MS = 7 * 24 * 60 * 60 * 1000;

/** The longest temporary folder that leaves room for `<folder>/nestjs-pg-XXXXXX/run/.s.PGSQL.65535` in 100 bytes. */
const LONGEST_ROOT = 60;

/** A folder for short-lived things that the server's user can reach and write to, and that is short enough for a Unix socket. */
export async function temporaryRoot(identity: Identity | undefined): Promise<string> {
  const usual = tmpdir();
  if (Buffer.byteLength(usual) > LONGEST_ROOT) return '/tmp';
  return identity && !(await openToOthers(usual, { writable: true })) ? '/tmp' : usual;
}

/**
 * What outlives this process: the initialised template, and where node_modules cannot be used as it is, a copy of the
 * binaries. In `node_modules/.cache` of the application if it is writable, else in the temporary folder under our uid;
 * always the latter as root, because `nobody` must be able to reach it.
 */
export async function cacheFolder(identity: Identity | undefined): Promise<string> {
  if (!identity) {
    const modules = await nearestModules(process.cwd());
    const folder = modules && join(modules, '.cache', 'nestjs-pg');
    if (folder && (await isWritableFolder(folder))) return ownFolder(folder, 0o700);
  }
  const uid = process.getuid?.() ?? 0;
  return ownFolder(join(await temporaryRoot(identity), `nestjs-pg-${uid}`), identity ? 0o755 : 0o700);
}

/**
 * The entry `name` of the cache, built on first use. Builders in parallel never see each other's halves: each builds in
 * a folder of its own, and the first rename wins. Entries are renewed every week, since cleaners of temporary folders
 * remove old files one by one; entries that nobody can be using any more are removed then.
 */
export async function cached(cache: string, name: string, build: (target: string) => Promise<void>): Promise<string> {
  const week = Math.floor(Date.now() / WEEK_MS);
  const entry = join(cache, `${name}-${week}`);
  if (await exists(entry)) return entry;
  await sweep(cache, week);
  await build(entry);
  return entry;
}

/** Puts a finished folder in its place in the cache; losing the race against another builder is as good as winning. */
export async function publish(finished: string, entry: string): Promise<void> {
  try {
    await rename(finished, entry);
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST'].includes(errorCode(error) ?? '')) throw error;
  }
}

/** How the names of folders begin in which an entry is being built. */
export const WORK_PREFIX = 'build-';

/** A new folder inside the cache to build in; only its owner can look inside. */
export async function workFolder(cache: string): Promise<string> {
  return mkdtemp(join(cache, WORK_PREFIX));
}

async function sweep(cache: string, week: number): Promise<void> {
  for (const name of await readdir(cache)) {
    const path = join(cache, name);
    const age = Number(/-(\d+)$/.exec(name)?.[1] ?? Number.NaN);
    const stale = name.startsWith(WORK_PREFIX)
      ? await stat(path).then(
          ({ mtimeMs }) => Date.now() - mtimeMs > WEEK_MS,
          () => false,
        )
      : age <= week - 2;
    if (stale) await rm(path, { recursive: true, force: true });
  }
}

async function nearestModules(from: string): Promise<string | undefined> {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules');
    if (await exists(candidate)) return candidate;
    if (folder === dirname(folder)) return undefined;
  }
}

async function isWritableFolder(folder: string): Promise<boolean> {
  try {
    await mkdir(dirname(folder), { recursive: true });
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const { uid } = await lstat(folder);
    return uid === process.getuid?.();
  } catch (error) {
    if (['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST'].includes(errorCode(error) ?? '')) return false;
    throw error;
  }
}

/** The binaries in the cache are run and the template is trusted: nobody else may be able to put them there. */
async function ownFolder(folder: string, mode: number): Promise<string> {
  if (await mkdir(folder, { mode }).then(always, isThere)) await chmod(folder, mode);
  const found = await lstat(folder);
  if (!found.isDirectory() || found.uid !== process.getuid?.() || (found.mode & 0o022) !== 0) {
    throw failure(
      `The cache folder ${folder} is not a folder of this user that only this user can write to ` +
        `(owner ${found.uid}, mode ${(found.mode & 0o777).toString(8)}). Remove it and try again.`,
    );
  }
  return folder;
}

const always = (): boolean => true;

function isThere(error: unknown): boolean {
  if (errorCode(error) !== 'EEXIST') throw error;
  return false;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(always, () => false);
}
