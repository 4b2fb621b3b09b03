import type { FileFacts, MaterialFiles } from '../../../lib/tls/material-files.js';

interface Entry {
  bytes: Buffer;
  mode: number;
  uid: number;
  isFile: boolean;
  version: number;
  changedMillis: number;
}

function failure(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

/** Files in memory, with a clock that only tests move and counts of what was asked. */
export class MemoryFiles implements MaterialFiles {
  readonly #entries = new Map<string, Entry>();
  readonly #unstatable = new Map<string, string>();
  readonly #unreadable = new Map<string, string>();
  readonly #stamps = new Set<string>();
  #version = 0;
  #now = 1_800_000_000_000;
  reads = 0;

  readonly now = (): number => this.#now;

  /** Lets every change so far become old. */
  settle(): this {
    this.#now += 60_000;
    return this;
  }

  write(path: string, content: string | Buffer, facts: { mode?: number; uid?: number; isFile?: boolean } = {}): this {
    const { mode = 0o600, uid = 1000, isFile = true } = facts;
    const version = this.#stamps.has(path) ? (this.#entries.get(path)?.version ?? 0) : ++this.#version;
    this.#entries.set(path, { bytes: Buffer.from(content), mode, uid, isFile, version, changedMillis: this.#now });
    return this;
  }

  /** From now on the file system does not notice a change of this file: same size, same coarse time. */
  freezeStamp(path: string): this {
    this.#stamps.add(path);
    return this;
  }

  remove(path: string): this {
    this.#entries.delete(path);
    return this;
  }

  failStat(path: string, code: string): this {
    this.#unstatable.set(path, code);
    return this;
  }

  failRead(path: string, code: string): this {
    this.#unreadable.set(path, code);
    return this;
  }

  stat(path: string): FileFacts {
    const { mode, uid, isFile, version, changedMillis } = this.#entry(path);
    return { mode, uid, isFile, stamp: String(version), changedMillis };
  }

  read(path: string): Buffer {
    this.reads++;
    const code = this.#unreadable.get(path);
    if (code !== undefined) throw failure(code, path);
    return this.#entry(path).bytes;
  }

  list(directory: string): string[] {
    this.#entry(directory);
    return [...this.#entries.keys()]
      .filter((path) => path.startsWith(`${directory}/`))
      .map((path) => path.slice(directory.length + 1));
  }

  #entry(path: string): Entry {
    const code = this.#unstatable.get(path);
    if (code !== undefined) throw failure(code, path);
    const entry = this.#entries.get(path);
    if (!entry) throw failure('ENOENT', path);
    return entry;
  }
}
