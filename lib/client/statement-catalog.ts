import { statementKind, type StatementKind } from './statement-kind.js';

const QUERY = /^[\s(]*(?:select|with|values|table)\b/i;
/** A statement that takes the server longer is not fast. */
const FAST_MILLIS = 2;

/** What is known of a text, whichever connection runs it. */
export class Statement {
  readonly text: string;
  readonly kind: StatementKind;
  /** A rule may make several statements of it: of those that are not queries. */
  readonly mayHaveRules: boolean;
  /** How often it has been asked for. */
  uses = 0;
  /** How often its name has failed a transaction, which cannot be healed. */
  failures = 0;
  #runs = 0;
  #millis = 0;

  constructor(text: string) {
    this.text = text;
    this.kind = statementKind(text);
    this.mayHaveRules = this.kind === 'write' && !QUERY.test(text);
  }

  /** How long the server takes for it, in milliseconds, by the last runs: quick to rise, slow to fall. */
  get millis(): number {
    return this.#millis;
  }

  /** It has run a few times and was fast of late. */
  get isFast(): boolean {
    return this.#runs > 2 && this.#millis <= FAST_MILLIS;
  }

  /** Takes note of a run, which took the server so long. */
  ran(millis: number): void {
    this.#runs++;
    this.#millis += (millis - this.#millis) * (millis > this.#millis ? 0.5 : 0.125);
  }
}

/** Texts remembered in a generation, at least. What has not been asked for during a whole one is forgotten. */
const GENERATION = 1_000;

/** Transactions that a name may fail. */
const MAX_FAILURES = 3;
/** Of a text that is remembered. */
const MAX_LENGTH = 16_384;

/** The texts that a pool's connections run, and whether they are prepared by name. */
export class StatementCatalog {
  /** Named statements that one connection may have; 0 = none are made. */
  readonly limit: number;
  readonly #warn: (message: string) => void;
  #young = new Map<string, Statement>();
  #old = new Map<string, Statement>();
  #isOff: boolean;

  constructor(limit: number, warn: (message: string) => void) {
    this.limit = limit;
    this.#isOff = limit === 0;
    this.#warn = warn;
  }

  /** Counts the use. */
  use(text: string): Statement {
    // Not kept in mind, and so never named.
    if (text.length > MAX_LENGTH) return new Statement(text);
    let statement = this.#young.get(text);
    if (!statement) {
      statement = this.#old.get(text) ?? new Statement(text);
      if (this.#young.size >= Math.max(GENERATION, this.limit)) {
        this.#old = this.#young;
        this.#young = new Map();
      }
      this.#young.set(text, statement);
    }
    statement.uses++;
    return statement;
  }

  /**
   * Whether a name pays: from the second use on, since naming what never comes back costs the server memory and both sides
   * time. Nor does one that has failed transactions: the search_path changes from one to the next, say.
   */
  isWorthAName({ uses, failures, kind }: Statement): boolean {
    return uses > 1 && failures < MAX_FAILURES && kind !== 'other' && !this.#isOff;
  }

  /** Something between us and the server does not keep prepared statements: no more are made. */
  turnOff(reason: string): void {
    if (this.#isOff) return;
    this.#isOff = true;
    this.#warn(
      `Prepared statements are not kept between this application and the server (${reason}): a pooler in transaction or ` +
        'statement mode? The statement cache is off from now on. Set pool.statementCache: false, or have the pooler ' +
        'keep them (PgBouncer 1.21 and later: max_prepared_statements).',
    );
  }
}
