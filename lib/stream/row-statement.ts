import type { CustomTypesConfig } from 'pg';
import type { PortalRequest } from '../client/portal.js';
import { PgModuleError } from '../errors/pg-module.error.js';

/** A statement to be streamed, as pg's query config. It is prepared for the one run, and so has no `name`. */
export interface StreamConfig {
  readonly text: string;
  readonly values?: readonly unknown[];
  /** `array` = rows are arrays, in the order of the columns. */
  readonly rowMode?: 'array';
  /** In place of the connection's parsers. */
  readonly types?: CustomTypesConfig;
  /** In place of the setting: how long the answer to each request for a batch may take, in milliseconds. */
  readonly query_timeout?: number;
  readonly signal?: AbortSignal;
}

/** {@link StreamConfig} for rows that are arrays. */
export interface StreamArrayConfig extends StreamConfig {
  readonly rowMode: 'array';
}

export interface StreamOptions {
  /** The most rows that are asked for at a time; two batches at most are in memory. Default 1000. */
  readonly batchSize?: number;
  /** Ends the stream with `PG_ABORTED`, and what the server does for it. */
  readonly signal?: AbortSignal;
}

/** What a stream runs. */
export interface RowStatement {
  readonly request: Omit<PortalRequest, 'isShared'>;
  readonly signal: AbortSignal | undefined;
}

export const DEFAULT_BATCH_SIZE = 1_000;
/** The protocol counts rows with 32 bits. */
const MAX_BATCH_SIZE = 2 ** 31 - 1;
const KNOWN: ReadonlySet<string> = new Set(['text', 'values', 'rowMode', 'types', 'query_timeout', 'signal']);
/** It has a protocol of its own. */
const COPY = /^(?:\s|--[^\n\r]*|\/\*[^*/]*\*\/)*copy\b/i;

/** @throws PgModuleError `PG_CONFIG_INVALID` */
export function rowStatement(
  query: string | StreamConfig,
  values: readonly unknown[] | undefined,
  { batchSize = DEFAULT_BATCH_SIZE, signal }: StreamOptions,
): RowStatement {
  const config = configOf(query);
  const { text, rowMode, types, query_timeout: queryTimeoutMillis } = config;
  const parameters = values ?? config.values;
  if (parameters != null && !Array.isArray(parameters)) throw invalid('values has to be an array');
  if (COPY.test(text)) throw invalid('COPY has no rows of columns: use copyTo() or copyFrom()');
  if (!Number.isInteger(batchSize) || batchSize < 1 || batchSize > MAX_BATCH_SIZE) {
    throw invalid(`batchSize is ${String(batchSize)}, and has to be an integer from 1 to ${MAX_BATCH_SIZE}`);
  }
  return {
    request: {
      text,
      values: parameters ?? undefined,
      isArrayMode: rowMode === 'array',
      types: types,
      queryTimeoutMillis,
      batchSize,
    },
    signal: signal ?? config.signal,
  };
}

function configOf(query: unknown): StreamConfig {
  if (typeof query === 'string') return { text: query };
  if (typeof query !== 'object' || query === null) throw invalid('the statement has to be a text or { text, values }');
  const unknown = Object.entries(query).find(([name, value]) => value !== undefined && !KNOWN.has(name));
  if (unknown) throw invalid(`${unknown[0]} is nothing that a stream knows to do with: leave it out`);
  const config = query as StreamConfig;
  if (typeof config.text !== 'string') throw invalid('the text of the statement has to be a string');
  return config;
}

function invalid(what: string): PgModuleError {
  return new PgModuleError('PG_CONFIG_INVALID', `stream(): ${what}.`);
}
