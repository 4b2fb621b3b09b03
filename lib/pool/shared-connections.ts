import type { PooledClient } from './pooled-client.js';
import type { PooledConnection } from './pooled-connection.js';

type Leased<C extends PooledClient> = PooledConnection<C, 'leased'>;

/** The most statements that travel on one connection at a time. More gain nothing. */
const MAX_LOAD = 16;
/** Nobody joins a queue that the server needs longer for, or on which it has been silent for longer, in milliseconds. */
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

  /**
   * One with room whose server is answering. Of those whose requests are about to leave each in its turn: one more costs no
   * write, and spread over them few are behind a statement that meets a lock. If none is, of all each in its turn. One that
   * has been silent may be waiting for a lock, and who joined it would wait as well.
   *
   * @param since whose answer was to be expected by now had it been sent then
   */
  find(millis: number, since: number, isFit: (connection: Leased<C>) => boolean): Leased<C> | undefined {
    const { length } = this.#connections;
    const mayJoin = (connection: Leased<C>): boolean =>
      this.hasRoom(connection, millis) &&
      since - Math.max(connection.since, connection.answeredAt) <= MAX_BACKLOG_MILLIS &&
      isFit(connection);
    const from = this.#turn;
    let found: Leased<C> | undefined;
    for (let tried = 1; tried <= length; tried++) {
      const place = (from + tried) % length;
      const connection = this.#connections[place];
      const isLeaving = connection?.client.isCorked === true;
      if (!connection || (found && !isLeaving) || !mayJoin(connection)) continue;
      this.#turn = place;
      found = connection;
      if (isLeaving) break;
    }
    return found;
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
