import { open, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { errorCode } from './failure.js';

const POLL_MS = 3;
const FOLLOW_MS = 50;

/** The file that a server writes its log to. */
export class ServerLog {
  readonly #path: string;
  #follower: NodeJS.Timeout | undefined;
  #followed = 0;
  #rest = '';

  constructor(path: string) {
    this.#path = path;
  }

  async text(from = 0): Promise<string> {
    return (await this.#bytes(from)).toString('utf8');
  }

  async size(): Promise<number> {
    return (await this.#bytes(0)).length;
  }

  /** The last lines, laid out as the end of an error message. */
  async tail(lines = 12): Promise<string> {
    const text = (await this.text()).trim();
    return text === '' ? '' : ` Its log ends with:\n${text.split('\n').slice(-lines).join('\n')}`;
  }

  /** Waits until `pattern` stands in what was logged after byte `from`; false if `deadline` (ms) comes first. */
  async waitFor(pattern: RegExp, from: number, deadline: number): Promise<boolean> {
    const end = performance.now() + deadline;
    while (!pattern.test(await this.text(from))) {
      if (performance.now() > end) return false;
      await delay(POLL_MS);
    }
    return true;
  }

  /** Calls `sink` with each line, shortly after it was written. Does not keep the process alive. */
  follow(sink: (line: string) => void): void {
    this.#follower = setInterval(() => void this.#forward(sink), FOLLOW_MS).unref();
  }

  async unfollow(sink: (line: string) => void): Promise<void> {
    clearInterval(this.#follower);
    await this.#forward(sink);
  }

  async #forward(sink: (line: string) => void): Promise<void> {
    const fresh = await this.#bytes(this.#followed);
    this.#followed += fresh.length;
    const lines = (this.#rest + fresh.toString('utf8')).split('\n');
    this.#rest = lines.pop() ?? '';
    lines.forEach(sink);
  }

  async #bytes(from: number): Promise<Buffer> {
    try {
      if (from === 0) return await readFile(this.#path);
      const file = await open(this.#path);
      try {
        const { size } = await file.stat();
        const buffer = Buffer.alloc(Math.max(0, size - from));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, from);
        return buffer.subarray(0, bytesRead);
      } finally {
        await file.close();
      }
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return Buffer.alloc(0);
      throw error;
    }
  }
}
