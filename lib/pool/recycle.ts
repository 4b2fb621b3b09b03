import type { Clock } from '../util/clock.js';
import { Deadline } from '../util/deadline.js';
import { formatMillis } from '../util/duration.js';
import type { PooledClient } from './pooled-client.js';

/** For a ROLLBACK, and for the ReadyForQuery behind an error. */
const RESET_MILLIS = 5_000;
/** For a cancelled statement to tell of it. */
const TOLD_MILLIS = 1_000;

/** What can be done with a connection that came back: it is clean, or it is to be closed for this cause. */
export type Recycled = 'clean' | 'busy' | 'lost' | 'reset';

/** Nothing is under way, and no transaction is open: the next borrower may have it. */
export function isClean(client: PooledClient): boolean {
  return client.isReady && client.getTransactionStatus() === 'I';
}

/** Brings a connection that came back unclean to a clean session, within five seconds. */
export async function recycle(client: PooledClient, clock: Clock, rollingBack: () => void): Promise<Recycled> {
  // A statement that pg itself refuses leaves the client busy until its callback, which we may be in, has returned.
  await Promise.resolve();
  if (!client.isReady && !client.isSettling) return client.isClosed ? 'lost' : 'busy';
  const expired = (): Error => new Error(`no answer within ${formatMillis(RESET_MILLIS)}`);
  const deadline = new Deadline(RESET_MILLIS, expired, clock);
  if (!client.isReady) await untilReady(client, deadline.signal);
  if (client.isReady && client.getTransactionStatus() !== 'I') {
    rollingBack();
    client.query('ROLLBACK').catch(() => undefined);
    await untilReady(client, deadline.signal);
  }
  deadline.clear();
  if (isClean(client)) return 'clean';
  return client.isClosed ? 'lost' : 'reset';
}

/** Whether the server still answers on this connection. */
export async function isAlive(client: PooledClient, timeoutMillis: number, clock: Clock): Promise<boolean> {
  const deadline = new Deadline(timeoutMillis, () => new Error('no answer'), clock);
  // An empty statement: the server answers it without doing anything.
  client.query('').catch(() => undefined);
  await untilReady(client, deadline.signal);
  deadline.clear();
  return isClean(client);
}

/** Has the server cancel what it does for this connection, and waits a second until its borrower has been told. */
export async function cancelPolitely(client: PooledClient, clock: Clock): Promise<void> {
  const deadline = new Deadline(TOLD_MILLIS, () => new Error('cancelled too late'), clock);
  const ready = untilReady(client, deadline.signal);
  await client.cancelRunning().catch(() => deadline.abort(new Error('not cancelled')));
  await ready;
  deadline.clear();
}

/** Cuts a connection off in the midst of something, and has the server stop what nobody waits for any more. */
export async function cutOff(client: PooledClient): Promise<void> {
  client.destroy();
  await client.cancelRunning().catch(() => undefined);
  await client.close();
}

/** Resolves when the client is ready or closed, or the signal fires: look which. */
function untilReady(client: PooledClient, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      client.off('drain', done);
      client.off('end', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    if (client.isClosed || signal.aborted) {
      resolve();
      return;
    }
    client.once('drain', done);
    client.once('end', done);
    signal.addEventListener('abort', done, { once: true });
  });
}
