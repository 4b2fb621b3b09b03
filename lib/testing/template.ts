import { appendFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { cacheFolder, cached, publish, WORK_PREFIX } from './cache.js';
import type { Binaries } from './binaries.js';
import { failure } from './failure.js';
import { Guard } from './guard.js';
import { replaceFile, type Identity } from './identity.js';
import { SETTINGS_FILE } from './server-files.js';
import { ServerLog } from './server-log.js';

/** The password that the template's superuser has. */
export const DEFAULT_PASSWORD = 'postgres';

/** To be raised with every change to what a template contains (initdb's arguments, the lines added to its files). */
const TEMPLATE_FORMAT = 2;

const building = new Map<string, Promise<string>>();

/** A data folder fresh from initdb (0.7 s), kept in the cache, to be copied (0.03 s) for each server. */
export async function findTemplate(binaries: Binaries, identity: Identity | undefined): Promise<string> {
  const cache = await cacheFolder(identity);
  const user = identity?.uid ?? process.getuid?.() ?? 0;
  const name = `template${TEMPLATE_FORMAT}-${process.platform}-${process.arch}-${binaries.version}-${user}`;
  const key = join(cache, name);
  const underway = building.get(key);
  if (underway) return underway;
  const entry = cached(cache, name, (target) => build(target, cache, binaries, identity));
  building.set(key, entry);
  try {
    return await entry;
  } finally {
    building.delete(key);
  }
}

async function build(target: string, cache: string, binaries: Binaries, identity: Identity | undefined): Promise<void> {
  // Root's cache lies in the temporary folder and `nobody` cannot write into it, but beside it. Either place is on the
  // cache's file system, as a rename wants it.
  const guard = identity
    ? await Guard.open(dirname(cache), binaries.bin, identity)
    : await Guard.open(cache, binaries.bin, identity, WORK_PREFIX);
  try {
    await replaceFile(join(guard.folder, 'password'), `${DEFAULT_PASSWORD}\n`, identity);
    const status = await guard.step('initdb');
    if (status !== 0) {
      const said = await new ServerLog(join(guard.folder, 'log')).tail();
      throw failure(`initdb of PostgreSQL ${binaries.version} in ${binaries.bin} ended with status ${status}.${said}`);
    }
    const data = join(guard.folder, 'data');
    await appendFile(join(data, 'postgresql.conf'), `\ninclude '${SETTINGS_FILE}'\n`);
    await replaceFile(join(data, SETTINGS_FILE), '', identity);
    await publish(data, target);
  } finally {
    await guard.close();
  }
}
