import type { Subscriber } from 'rxjs';
import type { PgNotificationEvent } from './notification.js';

/** The subscribers of one channel, in the order in which they came. */
export class NotificationTopic {
  readonly #channel: string;
  /** Whether each has been told that LISTEN is in force. */
  readonly #told = new Map<Subscriber<PgNotificationEvent>, boolean>();
  /** Subscribers may come and go while others are told; it is made anew when they have. */
  #snapshot: readonly Subscriber<PgNotificationEvent>[] | undefined;

  constructor(channel: string) {
    this.#channel = channel;
  }

  get size(): number {
    return this.#told.size;
  }

  add(subscriber: Subscriber<PgNotificationEvent>): void {
    this.#told.set(subscriber, false);
    this.#snapshot = undefined;
  }

  delete(subscriber: Subscriber<PgNotificationEvent>): void {
    this.#told.delete(subscriber);
    this.#snapshot = undefined;
  }

  /** LISTEN is in force: news for whoever has come since, and a gap for all others. */
  establish(): void {
    for (const subscriber of this.#subscribers()) {
      if (this.#told.has(subscriber)) this.#tell(subscriber);
    }
  }

  /** For a subscriber who has come to a channel on which LISTEN is in force. */
  welcome(subscriber: Subscriber<PgNotificationEvent>): void {
    if (this.#told.get(subscriber) === false) this.#tell(subscriber);
  }

  next(event: PgNotificationEvent): void {
    // A subscriber that has left meanwhile is closed, and takes nothing.
    for (const subscriber of this.#subscribers()) subscriber.next(event);
  }

  error(error: Error): void {
    for (const subscriber of this.#subscribers()) subscriber.error(error);
  }

  complete(): void {
    for (const subscriber of this.#subscribers()) subscriber.complete();
  }

  #tell(subscriber: Subscriber<PgNotificationEvent>): void {
    const kind = this.#told.get(subscriber) === true ? 'gap' : 'listening';
    this.#told.set(subscriber, true);
    subscriber.next({ kind, channel: this.#channel });
  }

  #subscribers(): readonly Subscriber<PgNotificationEvent>[] {
    return (this.#snapshot ??= [...this.#told.keys()]);
  }
}
