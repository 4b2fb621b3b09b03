import pg from 'pg';
import { createPool, type PgPool } from 'nestjs-pg';
import type { PostgresServer } from 'nestjs-pg/testing';
import { difference } from './difference.js';

/** What a query has come to: pg's result (several for several statements), or its error. */
export type Outcome = { result: unknown } | { error: unknown };

/** Something that is asked in the same words of stock pg and of ours. */
export interface Asker {
  query(config: pg.QueryConfig): Promise<unknown>;
}

export interface Comparison {
  /** Default: objects, then arrays. */
  readonly modes?: readonly ('object' | 'array')[];
  /** The query may fail, alike on both sides. Default false: its failure is a difference. */
  readonly mayFail?: boolean;
}

/** Calls made of a text before it is certain to run by its name: once unnamed, once parsed, once by name alone. */
const USES = 3;

/** Sessions with the same settings on the same server: one of stock pg.Client, one of our pool with its statement cache. */
export class SessionPair implements AsyncDisposable {
  readonly stock: pg.Client;
  readonly ours: PgPool;

  private constructor(server: PostgresServer, options: string, types: pg.CustomTypesConfig | undefined) {
    const { connectionString } = server;
    this.stock = new pg.Client({ connectionString, options, types });
    this.stock.on('error', () => undefined);
    this.ours = createPool({ connectionString, options, types, pool: { min: 1, max: 1, statementCache: 500 } });
  }

  /** `settings` = what the server is told at the start of both sessions; `types` = the parsers of both clients. */
  static async open(
    server: PostgresServer,
    settings: Readonly<Record<string, string>> = {},
    types?: pg.CustomTypesConfig,
  ): Promise<SessionPair> {
    const options = Object.entries(settings).map(([name, value]) => `-c ${name}=${value.replace(/[\\ ]/g, '\\$&')}`);
    const pair = new SessionPair(server, options.join(' '), types);
    await Promise.all([pair.stock.connect(), pair.ours.open()]);
    return pair;
  }

  /**
   * Runs a query through stock pg and, `USES` times, through ours: rows as objects, then as arrays.
   *
   * @param make the query; called anew for each run, since pg may keep or change what it is given
   * @returns what is not the same, each with the number of the use
   */
  async differences(
    make: (() => pg.QueryConfig) | pg.QueryConfig,
    { modes = ['object', 'array'], mayFail = false }: Comparison = {},
  ): Promise<string[]> {
    const { stock, ours } = this;
    const query = typeof make === 'function' ? make : (): pg.QueryConfig => ({ ...make });
    const found: string[] = [];
    for (const mode of modes) {
      const inMode = (): pg.QueryConfig => (mode === 'array' ? Object.assign(query(), { rowMode: 'array' }) : query());
      const expected = await outcomeOf(stock, inMode());
      if ('error' in expected && !mayFail) found.push(`${query().text.slice(0, 300)}: ${String(expected.error)}`);
      for (let use = 1; use <= USES; use++) {
        const where = difference(await outcomeOf(ours, inMode()), expected);
        if (where !== undefined) found.push(`${query().text.slice(0, 300)} [${mode}, use ${use}]${where}`);
      }
    }
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.stock.end(), this.ours.end()]);
  }
}

export async function outcomeOf(asker: Asker, config: pg.QueryConfig): Promise<Outcome> {
  try {
    return { result: await asker.query(config) };
  } catch (error) {
    return { error };
  }
}
