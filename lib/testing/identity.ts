import { readFileSync } from 'node:fs';
import { chown, rename, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { failure } from './failure.js';

/** The user that the server runs as, where that is not the user of this process. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
}

/** PostgreSQL refuses to run as root, so root lends it `nobody`. Undefined means: run it as ourselves. */
export function serverIdentity(): Identity | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const entry = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .find(([name]) => name === 'nobody');
  const uid = Number(entry?.[2]);
  const gid = Number(entry?.[3]);
  if (!Number.isInteger(uid) || !Number.isInteger(gid)) {
    throw failure(
      'PostgreSQL does not run as root, and /etc/passwd has no user "nobody" to run it as. ' +
        'Run as a normal user, or use a server of your own through DATABASE_URL.',
    );
  }
  return { uid, gid };
}

/** Hands a path to the server's user. macOS writes nobody's ids as -2, which chown wants as an unsigned number. */
export async function giveTo(identity: Identity | undefined, path: string): Promise<void> {
  if (identity) await chown(path, identity.uid >>> 0, identity.gid >>> 0);
}

/**
 * Replaces a file of the server in one step, so that neither a reload nor a crash ever sees half of it. The name is
 * never opened through: the folder belongs to another user, who could have put a link there.
 */
export async function replaceFile(
  path: string,
  text: string,
  identity: Identity | undefined,
  mode = 0o600,
): Promise<void> {
  const draft = `${path}.${process.pid}.new`;
  await writeFile(draft, text, { mode, flag: 'wx' });
  await giveTo(identity, draft);
  await rename(draft, path);
}

/** True if every user may read `path` (and write to it) and pass through the folders above it: what `nobody` needs. */
export async function openToOthers(path: string, { writable = false } = {}): Promise<boolean> {
  const found = await stat(path);
  const needed = 0o004 | (found.isDirectory() ? 0o001 : 0) | (writable ? 0o002 : 0);
  if ((found.mode & needed) !== needed) return false;
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if (((await stat(folder)).mode & 0o001) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}
