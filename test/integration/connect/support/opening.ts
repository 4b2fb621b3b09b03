import type { Duplex } from 'node:stream';
import type { PgClient } from '../../../../lib/client/pg-client.js';
import { resolveConfig } from '../../../../lib/config/resolve-config.js';
import type { ConnectionSettings } from '../../../../lib/config/settings.js';
import { openConnection } from '../../../../lib/connect/open-connection.js';
import { TlsMaterial } from '../../../../lib/tls/tls-material.js';
import { ManualClock } from '../../../support/manual-clock.js';

export const DEADLINE_MILLIS = 1_000;

export interface OpeningOptions {
  readonly settings: ConnectionSettings;
  readonly onConnect?: (client: PgClient) => void | Promise<void>;
  readonly stream?: () => Duplex | Promise<Duplex>;
  readonly deadlineMillis?: number;
  readonly abort?: AbortController;
}

/** A connection being opened, with its time and its signal in the test's hands. */
export class Opening {
  readonly clock = new ManualClock();
  readonly abort: AbortController;
  readonly warnings: string[] = [];
  readonly result: Promise<PgClient>;
  /** What came of it; undefined while it is under way. */
  outcome: PgClient | Error | undefined;

  constructor({ settings, onConnect, stream, deadlineMillis = DEADLINE_MILLIS, abort }: OpeningOptions) {
    this.abort = abort ?? new AbortController();
    const warn = (message: string): void => void this.warnings.push(message);
    const config = resolveConfig(settings, { env: {}, homeDir: () => undefined, osUser: () => 'nobody', warn });
    this.result = openConnection(
      {
        config,
        tlsMaterial: new TlsMaterial(config.tls, { warn }),
        connectTimeoutMillis: deadlineMillis,
        onConnect,
        warn,
        clock: this.clock,
      },
      { signal: this.abort.signal, applicationName: undefined, stream },
    );
    this.result.then(
      (client) => (this.outcome = client),
      (error: Error) => (this.outcome = error),
    );
  }

  /** The failure. */
  async failure<E extends Error>(): Promise<E> {
    const outcome = await this.result.catch((error: unknown) => error as E);
    if (outcome instanceof Error) return outcome;
    await outcome.close();
    throw new Error('expected a failure, and got a connection');
  }
}

/** What this process has open, by kind: sockets, look-ups, timers that keep it alive. */
export function census(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

/** Sockets that are open, and that are being connected. */
export function socketCount(): number {
  return process.getActiveResourcesInfo().filter((kind) => /^(TCP|Pipe|TLS).*Wrap$/.test(kind)).length;
}
