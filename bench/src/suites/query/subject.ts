import type { Bench } from '../../harness/bench.js';
import type { Values } from '../../harness/suite.js';

export type Row = Readonly<Record<string, unknown>>;

/** A client of the process that measures. */
export interface QueryClient {
  /** One statement with `$1`, `$2`, ... through whatever of the client takes such a text. */
  run(text: string, values: readonly unknown[]): Promise<readonly Row[]>;
  /** The client's own way to {@link POINT}, where that is another: a template, a builder, a repository. */
  point?(id: number): Promise<readonly Row[]>;
  /** The client's own way to {@link ROWS}. */
  rows?(first: number, behind: number): Promise<readonly Row[]>;
  close(): Promise<void>;
}

/** What a cell asks of a program that brings its own callers. */
export interface Script {
  /** SQL with `:name` for what `variables` names. */
  readonly text: string;
  /** Expressions in the language of pgbench. */
  readonly variables: Readonly<Record<string, string>>;
}

/** How the workloads see a subject. */
export type QuerySubject =
  | { readonly open: (connectionString: string, connections: number) => Promise<QueryClient> }
  | { readonly measure: (script: Script, concurrency: number, bench: Bench) => Promise<Values> };

/** The same for all. */
export const CONNECTIONS = 10;

/** A client for the time of a cell, with all of its connections open. */
export async function withClient<T>(
  subject: QuerySubject,
  bench: Bench,
  connectionString: string,
  work: (client: QueryClient) => Promise<T>,
): Promise<T> {
  if (!('open' in subject)) throw new Error('a program cannot do this');
  const client = await subject.open(connectionString, CONNECTIONS);
  try {
    if (bench.profile.warmUpMillis > 0) {
      await Promise.all(Array.from({ length: CONNECTIONS }, () => client.run('SELECT pg_sleep(0.02)', [])));
    }
    return await work(client);
  } finally {
    await client.close();
  }
}
