import type { CallSite } from '../util/call-site.js';
import type { PooledClient } from './pooled-client.js';

/** Why a connection is closed. */
export type RetireCause =
  | 'idle' // idleTimeoutMillis
  | 'lifetime' // maxLifetimeSeconds
  | 'uses' // maxUses
  | 'evicted' // evict()
  | 'resized' // resize() to a smaller pool
  | 'lost' // the session ended by itself
  | 'fatal' // an error of the server that leaves the connection useless
  | 'invalid' // gave no answer when it was validated
  | 'busy' // released while a statement was running
  | 'reset' // could not be brought back to a clean state
  | 'asked' // release(true), release(error)
  | 'drain'; // the pool closes

export type ConnectionState = 'idle' | 'leased' | 'resetting' | 'validating' | 'closed';

/**
 * A connection of the pool and the state it is in. (One that is still being opened is a promise of the dialler's.)
 *
 *     idle -> leased -> idle | resetting | closed
 *     resetting -> idle | closed
 *     idle -> validating -> idle | closed
 *     idle -> closed
 *
 * The state is part of the type, so a transition that is not in this list does not compile. The object stays the same
 * one: a transition returns it under its new type, and the old name must not be used any more.
 */
export class PooledConnection<C extends PooledClient, S extends ConnectionState = ConnectionState> {
  readonly client: C;
  /** When it must be retired, on the engine's clock. */
  readonly expiresAt: number;
  readonly state: S;
  /** Since when it is in this state, on the engine's clock. */
  since: number;
  /** When its server last answered, on the engine's clock. */
  provenAt: number;
  /** Why it is to be closed as soon as nobody uses it. */
  condemned: RetireCause | undefined;
  /** How often it has been lent. */
  uses = 0;
  /** In the bag of those in its state. */
  place = -1;
  /** Statements of pool.query() that travel together on it; 0 = it has one borrower, or none. */
  load = 0;
  /** What the server will need for them, in milliseconds. */
  backlogMillis = 0;
  /** When the last of them was answered, on the engine's clock. */
  answeredAt = 0;
  /** Where the present or last borrower took it; pool.query() leaves none. */
  callSite: CallSite | undefined;

  private constructor(client: C, expiresAt: number, now: number, state: S) {
    this.client = client;
    this.expiresAt = expiresAt;
    this.since = now;
    this.provenAt = now;
    this.state = state;
  }

  static opened<C extends PooledClient>(client: C, expiresAt: number, now: number): PooledConnection<C, 'idle'> {
    return new PooledConnection(client, expiresAt, now, 'idle');
  }

  lend(this: PooledConnection<C, 'idle'>, callSite: CallSite | undefined, now: number): PooledConnection<C, 'leased'> {
    this.uses++;
    this.callSite = callSite;
    return this.#become('leased', now);
  }

  reset(this: PooledConnection<C, 'leased'>, now: number): PooledConnection<C, 'resetting'> {
    return this.#become('resetting', now);
  }

  /** Its idleness goes on: what is validated has not been used. */
  validate(this: PooledConnection<C, 'idle'>): PooledConnection<C, 'validating'> {
    return this.#become('validating', this.since);
  }

  rest(this: PooledConnection<C, 'leased' | 'resetting'>, now: number): PooledConnection<C, 'idle'> {
    this.provenAt = now;
    return this.#become('idle', now);
  }

  /** It is alive. */
  prove(this: PooledConnection<C, 'validating'>, now: number): PooledConnection<C, 'idle'> {
    this.provenAt = now;
    return this.#become('idle', this.since);
  }

  close(
    this: PooledConnection<C, 'idle' | 'leased' | 'resetting' | 'validating'>,
    now: number,
  ): PooledConnection<C, 'closed'> {
    return this.#become('closed', now);
  }

  /** Asks for the state at run time, where events arrive and types cannot know. */
  is<T extends ConnectionState>(state: T): this is PooledConnection<C, T> {
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-assertion -- the types cannot overlap, the values can
    return (this.state as ConnectionState) === state;
  }

  #become<T extends ConnectionState>(state: T, now: number): PooledConnection<C, T> {
    const next = this as unknown as { state: T; since: number };
    next.state = state;
    next.since = now;
    return this as unknown as PooledConnection<C, T>;
  }
}

/** One that is lent. */
export type Leased<C extends PooledClient> = PooledConnection<C, 'leased'>;
