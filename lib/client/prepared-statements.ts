import { randomBytes } from 'node:crypto';
import type { RequestWriter } from './request-writer.js';
import type { RowDecoder } from './row-decoder.js';
import type { Statement, StatementCatalog } from './statement-catalog.js';

/** Something that is described each time it runs. */
export interface Described {
  /** How its rows were read when it ran last. */
  decoder: RowDecoder | undefined;
}

/** A named statement of one session. */
export class PreparedStatement implements Described {
  /** Never used twice, so that what is left of one by a failure cannot be met under another. */
  readonly name: string;
  /** The server has confirmed it. */
  isParsed = false;
  decoder: RowDecoder | undefined = undefined;
  /** By the session's own count. */
  lastUse = 0;
  /** It has taken values: if it does not take others, it may be out of date. */
  hasRun = false;

  constructor(name: string) {
    this.name = name;
  }
}

/** No other process makes the same names: a pooler may let two meet in one session. */
const PREFIX = `nestjs_pg_${randomBytes(6).toString('hex')}_`;
let names = 0;
const NONE: readonly string[] = [];

/** The named statements of one session, the least recently used of which make room for others. */
export class PreparedStatements {
  /** Statements without a name: texts that are made for one use are often alike, and so are their rows. */
  readonly unnamed: Described = { decoder: undefined };
  readonly #catalog: StatementCatalog;
  readonly #statements = new Map<Statement, PreparedStatement>();
  #uses = 0;
  /** Names that the server may forget: with the next request, for nothing of their own. */
  #evicted: string[] = [];
  /** Portals that nobody reads any more: likewise. */
  #dropped: string[] = [];

  constructor(catalog: StatementCatalog) {
    this.#catalog = catalog;
  }

  /** The named form of a statement, if a name pays; a new one has no decoder and must be parsed first. */
  use(statement: Statement): { prepared: PreparedStatement; isNew: boolean } | undefined {
    if (!this.#catalog.isWorthAName(statement)) return undefined;
    let prepared = this.#statements.get(statement);
    const isNew = prepared === undefined;
    if (!prepared) {
      if (this.#statements.size >= this.#catalog.limit) this.#evict();
      prepared = new PreparedStatement(`${PREFIX}${++names}`);
      this.#statements.set(statement, prepared);
    }
    prepared.lastUse = ++this.#uses;
    return { prepared, isNew };
  }

  /** Names to be closed with the request that is being written. */
  takeEvicted(): readonly string[] {
    return this.#evicted.length === 0 ? NONE : this.#evicted.splice(0);
  }

  /** Closes a portal of the transaction that is open. */
  dropPortal(name: string): void {
    this.#dropped.push(name);
  }

  /**
   * Writes what the server may forget.
   *
   * @returns the statements among it
   */
  writeCloses(writer: RequestWriter): readonly string[] {
    const names = this.takeEvicted();
    for (const name of names) writer.closeStatement(name);
    // It is no error either if the portal has ended with its transaction.
    if (this.#dropped.length > 0) for (const name of this.#dropped.splice(0)) writer.closePortal(name);
    return names;
  }

  /** Has names closed with the next request. It is no error if the server does not know them. */
  closeLater(names: readonly string[]): void {
    this.#evicted.push(...names);
  }

  /** The server does not know it, or what it knows is out of date: the next use parses anew. */
  forget(statement: Statement, prepared: PreparedStatement): void {
    if (this.#statements.get(statement) !== prepared) return;
    this.#statements.delete(statement);
    this.closeLater([prepared.name]);
  }

  /** The session has none any more. */
  clear(): void {
    this.#statements.clear();
    this.#evicted = [];
  }

  /** Something stands between us and the server that does not keep prepared statements. */
  distrust(reason: string): void {
    this.clear();
    this.#catalog.turnOff(reason);
  }

  #evict(): void {
    let [oldest] = this.#statements;
    for (const entry of this.#statements) if (oldest && entry[1].lastUse < oldest[1].lastUse) oldest = entry;
    if (!oldest) return;
    this.#statements.delete(oldest[0]);
    this.closeLater([oldest[1].name]);
  }
}
