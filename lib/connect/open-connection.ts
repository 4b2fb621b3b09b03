import { PgClient } from '../client/pg-client.js';
import { isSocketDirectory } from '../config/config-context.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import { tlsAttempts } from '../tls/ssl-mode.js';
import { Deadline } from '../util/deadline.js';
import { formatMillis } from '../util/duration.js';
import { attemptsOf, type Attempt } from './attempt.js';
import { PgConnectError, type FailedAttempt } from './connect.error.js';
import type { DialTarget } from './dial.js';
import { asError, Failure } from './failure.js';
import { describeFailures } from './failure-text.js';
import type { Opener, OpenOptions } from './opener.js';
import { openSession } from './session.js';
import { targetsOf } from './targets.js';

/**
 * Opens one connection: the hosts in order, each address of a host, each encryption that sslmode allows, until one
 * serves. What the attempts do after a failure is libpq's rule (fe-connect.c, PQconnectPoll).
 *
 * @throws PgConnectError with every failed attempt; PgModuleError `PG_ABORTED` when the signal fired
 */
export async function openConnection(opener: Opener, options: OpenOptions): Promise<PgClient> {
  throwIfAborted(options.signal);
  const failures: FailedAttempt[] = [];
  let permanent = false;
  for (const attempt of attemptsOf(opener.config, () => opener.clock.random())) {
    const outcome = await tryHost(opener, attempt, options, failures);
    if (outcome instanceof PgClient) return outcome;
    permanent = outcome.permanent;
    if (outcome.next === 'stop') break;
  }
  throw new PgConnectError(describeFailures(opener.config, failures), failures, permanent);
}

async function tryHost(
  opener: Opener,
  attempt: Attempt,
  options: OpenOptions,
  failures: FailedAttempt[],
): Promise<PgClient | Failure> {
  const { entry } = attempt;
  const encryptions = tlsAttempts(opener.config.tls, isSocketDirectory(entry.hostaddr ?? entry.host));
  let deadline = startDeadline(opener, options.signal);
  const record = (failure: Failure, address: string | undefined, tried: 'tls' | 'plain'): void => {
    const encryption = failure.encrypted === undefined ? tried : failure.encrypted ? 'tls' : 'plain';
    failures.push({
      host: entry.host ?? entry.hostaddr ?? '',
      port: entry.port,
      address,
      encryption,
      phase: failure.phase,
      error: failure.error,
    });
  };
  try {
    let targets: DialTarget[];
    try {
      targets = await targetsOf(opener, entry, options, deadline.signal);
    } catch (error) {
      throwIfAborted(options.signal);
      const failure = new Failure('name look-up', 'host', asError(error), false);
      record(failure, undefined, encryptions[0] ?? 'plain');
      return failure;
    }
    let last: Failure | undefined;
    for (const target of targets) {
      if (last) {
        deadline.clear();
        deadline = startDeadline(opener, options.signal);
      }
      for (const encryption of encryptions) {
        try {
          return await openSession(opener, attempt, target, encryption, options, deadline.signal);
        } catch (error) {
          throwIfAborted(options.signal);
          if (!(error instanceof Failure)) throw error;
          last = error;
          record(last, 'address' in target.endpoint ? target.endpoint.address : undefined, encryption);
          if (last.next !== 'encryption') break;
        }
      }
      if (last && (last.next === 'host' || last.next === 'stop')) return last;
    }
    return last ?? new Failure('name look-up', 'host', new Error('the name has no address'), false);
  } finally {
    deadline.clear();
  }
}

function startDeadline(opener: Opener, parent: AbortSignal): Deadline {
  const millis = opener.connectTimeoutMillis;
  const expired = (): Error =>
    new PgModuleError('PG_CONNECT_TIMEOUT', `no connection within ${formatMillis(millis)} (connectTimeoutMillis)`);
  return new Deadline(millis, expired, opener.clock, parent);
}

function throwIfAborted(signal: AbortSignal): void {
  if (!signal.aborted) return;
  if (signal.reason instanceof PgModuleError) throw signal.reason;
  throw new PgModuleError('PG_ABORTED', 'The signal given to the connection factory fired.', { cause: signal.reason });
}
