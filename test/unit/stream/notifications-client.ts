import { EventEmitter } from 'node:events';
import type { ListeningClient, NotificationMessage } from '../../../lib/stream/listening-session.js';

interface Command {
  readonly text: string;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/**
 * A connection to a server that listens, in which every message has its turn: a test says when the server takes the next
 * command ({@link FakeListener.serve}) and when the next of its messages arrives ({@link FakeListener.deliver}).
 */
export class FakeListener extends EventEmitter implements ListeningClient {
  isClosed = false;
  /** Whether its socket would keep the process alive. */
  isRef = true;
  /** Commands, in the order in which they were sent. */
  readonly sent: string[] = [];
  /** What the server listens to. */
  readonly channels = new Set<string>();
  /** What the server says to the next command instead of running it. */
  refusal: Error | undefined;
  readonly #unanswered = new Set<Command>();
  readonly #toServer: Command[] = [];
  readonly #toClient: (() => void)[] = [];

  query({ text }: { text: string }): Promise<unknown> {
    this.sent.push(text);
    return new Promise<void>((resolve, reject) => {
      if (this.isClosed) {
        reject(new Error('not queryable'));
        return;
      }
      const command = { text, resolve, reject };
      this.#unanswered.add(command);
      this.#toServer.push(command);
    });
  }

  /** The server runs the next command. */
  serve(): void {
    const command = this.#toServer.shift();
    if (!command) return;
    const { refusal } = this;
    this.refusal = undefined;
    const answer = (): void => {
      this.#unanswered.delete(command);
      if (refusal) command.reject(refusal);
      else command.resolve();
    };
    this.#toClient.push(answer);
    if (refusal) return;
    for (const part of command.text.split('; ')) {
      const [, verb, quoted] = /^(LISTEN|UNLISTEN) "(.*)"$/.exec(part) ?? [];
      const channel = quoted?.replaceAll('""', '"') ?? '';
      if (verb === 'LISTEN') this.channels.add(channel);
      if (verb === 'UNLISTEN') this.channels.delete(channel);
    }
  }

  /** Somebody's NOTIFY is committed. */
  notify(channel: string, payload: string): void {
    if (this.isClosed || !this.channels.has(channel)) return;
    const message: NotificationMessage = { channel, payload, processId: 7 };
    this.#toClient.push(() => this.emit('notification', message));
  }

  /** The next message of the server's arrives. */
  deliver(): void {
    if (!this.isClosed) this.#toClient.shift()?.();
  }

  get isQuiet(): boolean {
    return this.#toServer.length === 0 && this.#toClient.length === 0;
  }

  /** The session ends from the other side. What was on its way does not arrive. */
  die(error = new Error('terminated')): void {
    // A PgClient listens to itself.
    if (this.listenerCount('error') > 0) this.emit('error', error);
    this.destroy();
  }

  close(): Promise<void> {
    this.destroy();
    return Promise.resolve();
  }

  destroy(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#toClient.length = 0;
    this.#toServer.length = 0;
    for (const { reject } of this.#unanswered) reject(new Error('Connection terminated'));
    this.#unanswered.clear();
    this.emit('end');
  }

  ref(): void {
    this.isRef = true;
  }

  unref(): void {
    this.isRef = false;
  }
}
