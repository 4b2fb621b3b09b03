import type { Clock } from '../util/clock.js';
import type { PooledClient } from './pooled-client.js';
import type { RetireCause } from './pooled-connection.js';
import { cutOff } from './recycle.js';

/** Causes for which no polite goodbye can be expected to be heard. */
const DOES_NOT_ANSWER: ReadonlySet<RetireCause> = new Set(['reset', 'invalid']);

/** Connections that are being closed: they count no more, and the pool's end waits for their sockets. */
export class Goodbyes<C extends PooledClient> {
  readonly #clock: Clock;
  readonly #closed: (client: C, cause: RetireCause) => void;
  readonly #underWay = new Set<Promise<void>>();

  /** `closed` is told when the socket is. */
  constructor(clock: Clock, closed: (client: C, cause: RetireCause) => void) {
    this.#clock = clock;
    this.#closed = closed;
  }

  /** Politely where the server listens. What is still running is cancelled. */
  say(client: C, cause: RetireCause): void {
    client.ref();
    const isRunning = !client.isReady && !client.isSettling && !client.isClosed;
    const isMute = DOES_NOT_ANSWER.has(cause);
    const closing = isRunning || isMute ? cutOff(client, this.#clock, !isMute) : client.close();
    const goodbye = closing.then(() => {
      this.#underWay.delete(goodbye);
      this.#closed(client, cause);
    });
    this.#underWay.add(goodbye);
  }

  /** Every socket is closed, those of goodbyes that are said meanwhile as well. */
  async over(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
  }
}
