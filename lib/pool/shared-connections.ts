import type { PooledClient } from './pooled-client.js';
import type { PooledConnection } from './pooled-connection.js';

type Leased<C extends PooledClient> = PooledConnection<C, 'leased'>;

/** The most statements that travel on one connection at a time. More gain nothing. */
const MAX_LOAD = 16;
/** Nobody joins a queue that the server needs longer for, in milliseconds. */
const MAX_BACKLOG_MILLIS = 4;

/** Connections on which statements of pool.query() travel together. */
export class SharedConnections<C extends PooledClient> {
  readonly #connections: Leased<C>[] = [];
  #turn = 0;
  #excess = 0;

  /** Statements that would be on a connection of their own if there were enough. */
  get excess(): number {
    return this.#excess;
  }

  add(connection: Leased<C>, millis: number): void {
    connection.load = 1;
    connection.backlogMillis = millis;
    this.#connections.push(connection);
  }

  hasRoom(connection: Leased<C>, millis: number): boolean {
    return connection.load < MAX_LOAD && connection.backlogMillis + millis <= MAX_BACKLOG_MILLIS;
  }

  /** One with room, each in its turn. */
  find(millis: number, isFit: (connection: Leased<C>) => boolean): Leased<C> | undefined {
    const { length } = this.#connections;
    for (let tried = 0; tried < length; tried++) {
      this.#turn = (this.#turn + 1) % length;
      const connection = this.#connections[this.#turn];
      if (connection && this.hasRoom(connection, millis) && isFit(connection)) return connection;
    }
    return undefined;
  }

  join(connection: Leased<C>, millis: number): void {
    connection.load++;
    connection.backlogMillis += millis;
    this.#excess++;
  }

  /** @returns whether others are still on it */
  leave(connection: Leased<C>, millis: number): boolean {
    connection.load--;
    connection.backlogMillis -= millis;
    if (connection.load > 0) {
      this.#excess--;
      return true;
    }
    connection.backlogMillis = 0;
    this.#connections.splice(this.#connections.indexOf(connection), 1);
    return false;
  }
}
