import type { Duplex } from 'node:stream';
import type { PgClient } from '../client/pg-client.js';
import type { ScramKeys } from '../client/scram-keys.js';
import type { StatementCatalog } from '../client/statement-catalog.js';
import type { ResolvedConfig } from '../config/resolved-config.js';
import type { TlsMaterial } from '../tls/tls-material.js';
import type { Clock } from '../util/clock.js';

/** What one call asks for. */
export interface OpenOptions {
  readonly signal: AbortSignal;
  readonly applicationName: string | undefined;
  readonly stream: (() => Duplex | Promise<Duplex>) | undefined;
}

/** What every connection of a factory is opened with. */
export interface Opener {
  readonly config: ResolvedConfig;
  readonly tlsMaterial: TlsMaterial;
  /** Deadline of one address, from the look-up to the end of `onConnect`; 0 = none. */
  readonly connectTimeoutMillis: number;
  readonly onConnect: ((client: PgClient) => void | Promise<void>) | undefined;
  /** What is known of the texts that its connections run; `undefined` = none is prepared by name. */
  readonly statements?: StatementCatalog;
  /** Shared by its connections, which all are the same role's; `undefined` = derived for each. */
  readonly scramKeys?: ScramKeys;
  readonly warn: (message: string) => void;
  readonly clock: Clock;
}
