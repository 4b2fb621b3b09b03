import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, statSync } from 'node:fs';

/** What of a file's state matters here. */
export interface FileFacts {
  readonly isFile: boolean;
  readonly mode: number;
  readonly uid: number;
  /** Changes with every write, replacement, chmod and chown. */
  readonly stamp: string;
  /** Of the last change, in epoch milliseconds. */
  readonly changedMillis: number;
}

/** The file access of this folder, as a seam for tests. Every function throws as `node:fs` does. */
export interface MaterialFiles {
  stat(path: string): FileFacts;
  read(path: string): Buffer;
  list(directory: string): string[];
}

export const nodeFiles: MaterialFiles = {
  stat(path) {
    const stat = statSync(path, { bigint: true });
    return {
      isFile: stat.isFile(),
      mode: Number(stat.mode) & 0o7777,
      uid: Number(stat.uid),
      stamp: [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(':'),
      changedMillis: Number((stat.ctimeNs > stat.mtimeNs ? stat.ctimeNs : stat.mtimeNs) / 1_000_000n),
    };
  },
  read: (path) => readFileSync(path),
  list: (directory) => readdirSync(directory).sort(),
};

/**
 * A file that was changed so shortly before it was read may be changed again without a visible change of its stamp:
 * file systems keep coarse times (a kernel tick locally, up to 2 s on FAT and network shares).
 */
const SETTLED_AFTER_MILLIS = 2_000;

export function errnoOf(error: unknown): string {
  const code: unknown = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === 'string' ? code : 'unknown error';
}

/**
 * One look at the files: whatever is asked goes through it and is remembered, so that {@link MaterialLook.isCurrent}
 * can tell later, by stat alone, whether a new look would see anything else.
 *
 * A file's stamp is taken before its content is read: a change in between makes the look stale, never wrong for good.
 */
export class MaterialLook {
  readonly #files: MaterialFiles;
  readonly #now: () => number;
  readonly #stamps = new Map<string, string>();
  readonly #hash = createHash('sha256');
  #settled = true;
  #digest: string | undefined;

  constructor(files: MaterialFiles, now: () => number) {
    this.#files = files;
    this.#now = now;
  }

  /** The file's facts, or the errno name of the failure. */
  stat(path: string): FileFacts | string {
    let facts: FileFacts | string;
    try {
      facts = this.#files.stat(path);
    } catch (error) {
      facts = errnoOf(error);
    }
    this.#stamps.set(path, stampOf(facts));
    if (typeof facts !== 'string' && this.#now() - facts.changedMillis < SETTLED_AFTER_MILLIS) this.#settled = false;
    this.#hash.update(`\0${path}\0${typeof facts === 'string' ? facts : `${facts.mode}:${facts.uid}`}\0`);
    return facts;
  }

  /** Only after {@link stat} of the same path. */
  read(path: string): Buffer {
    const bytes = this.#files.read(path);
    this.#hash.update(bytes);
    return bytes;
  }

  /** Only after {@link stat} of the same path. */
  list(directory: string): string[] {
    return this.#files.list(directory);
  }

  /** Equal digests: equal content, access rights and absences. Ends the look. */
  digest(): string {
    return (this.#digest ??= this.#hash.digest('hex'));
  }

  /** Whether nothing that was looked at can have changed since. */
  isCurrent(): boolean {
    if (!this.#settled) return false;
    for (const [path, stamp] of this.#stamps) {
      let now: string;
      try {
        now = stampOf(this.#files.stat(path));
      } catch (error) {
        now = errnoOf(error);
      }
      if (now !== stamp) return false;
    }
    return true;
  }
}

function stampOf(facts: FileFacts | string): string {
  return typeof facts === 'string' ? facts : `${facts.stamp}:${facts.mode}:${facts.uid}`;
}
