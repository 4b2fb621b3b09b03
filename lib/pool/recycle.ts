import { untilReady } from '../client/until-ready.js';
import type { Clock } from '../util/clock.js';
import { Deadline, withSignal } from '../util/deadline.js';
import { formatMillis } from '../util/duration.js';
import type { PooledClient } from './pooled-client.js';

/** For a ROLLBACK, and for the ReadyForQuery behind an error. */
const RESET_MILLIS = 5_000;
/** For a cancelled statement to tell of it. */
const TOLD_MILLIS = 1_000;
/** Before a CancelRequest is made again; twice as long each time. */
const FIRST_PAUSE_MILLIS = 50;
/** Before the requests that follow the first, where nobody hears whether it was heeded. */
const FURTHER_PAUSES_MILLIS = [50, 150, 400];

/** What can be done with a connection that came back: it is clean, or it is to be closed for this cause. */
export type Recycled = 'clean' | 'busy' | 'lost' | 'reset';

/** Nothing is under way, and no transaction is open: the next borrower may have it. */
export function isClean(client: PooledClient): boolean {
  return client.isReady && client.getTransactionStatus() === 'I';
}

/** What recycling tells on its way. */
export interface RecycleSteps {
  rollingBack(): void;
  /** The pool's own SQL runs. */
  resetting(): void;
  /** Why the pool's own SQL did not give a clean session. */
  resetFailed(reason: string): void;
}

/**
 * Brings a connection that came back to a clean session, within five seconds: out of its transaction, and through the
 * pool's own SQL, if there is any.
 */
export async function recycle(
  client: PooledClient,
  sql: string | undefined,
  clock: Clock,
  steps: RecycleSteps,
): Promise<Recycled> {
  // A statement that pg itself refuses leaves the client busy until its callback, which we may be in, has returned.
  await Promise.resolve();
  if (!client.isReady && !client.isSettling) return client.isClosed ? 'lost' : 'busy';
  const expired = (): Error => new Error(`no answer within ${formatMillis(RESET_MILLIS)}`);
  const deadline = new Deadline(RESET_MILLIS, expired, clock);
  if (!client.isReady) await untilReady(client, deadline.signal);
  if (client.isReady && client.getTransactionStatus() !== 'I') {
    steps.rollingBack();
    client.query('ROLLBACK').catch(() => undefined);
    await untilReady(client, deadline.signal);
  }
  const failure = sql !== undefined && isClean(client) ? await run(client, sql, deadline.signal, steps) : undefined;
  deadline.clear();
  if (client.isClosed) return 'lost';
  if (failure !== undefined) steps.resetFailed(failure);
  return failure === undefined && isClean(client) ? 'clean' : 'reset';
}

/** Runs the pool's own SQL, and says why the session is not clean after it, if it is not. */
async function run(
  client: PooledClient,
  sql: string,
  signal: AbortSignal,
  steps: RecycleSteps,
): Promise<string | undefined> {
  steps.resetting();
  try {
    await withSignal(client.query(sql), signal);
  } catch (error) {
    return (error as Error).message;
  }
  const status = client.getTransactionStatus();
  return status === 'I' ? undefined : `it left a transaction open (status ${String(status)})`;
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

/**
 * Has the server cancel what it does for this connection, and waits a second for it to be done. A request that overtakes
 * its statement on the way is passed over by the server, so it is made again.
 *
 * @returns whether every request is known to have arrived: one that may still come would meet the next statement
 */
export async function cancelPolitely(client: PooledClient, clock: Clock): Promise<boolean> {
  const deadline = new Deadline(TOLD_MILLIS, () => new Error('cancelled too late'), clock);
  let isConfirmed = true;
  for (let pause = FIRST_PAUSE_MILLIS; isBusy(client) && !deadline.signal.aborted; pause *= 2) {
    await client.cancelRunning().catch((error: unknown) => deadline.abort(error as Error));
    isConfirmed = !deadline.signal.aborted;
    const again = new Deadline(pause, () => new Error('not yet'), clock, deadline.signal);
    await untilReady(client, again.signal);
    again.clear();
  }
  deadline.clear();
  return isConfirmed;
}

function isBusy(client: PooledClient): boolean {
  return !client.isReady && !client.isClosed;
}

/**
 * Cuts a connection off in the midst of something, and has the server stop what nobody waits for any more. A request that
 * overtakes its statement on the way is passed over by the server: where the statement may just have been sent, some more
 * follow.
 */
export async function cutOff(client: PooledClient, clock: Clock, isJustSent: boolean): Promise<void> {
  client.destroy();
  try {
    await client.cancelRunning();
    for (const pause of isJustSent ? FURTHER_PAUSES_MILLIS : []) {
      await new Promise<void>((resolve) => clock.setTimeout(resolve, pause));
      await client.cancelRunning();
    }
  } catch {
    // Who cannot be reached cannot be asked.
  }
  await client.close();
}
