import { configError } from '../config/config-error.js';
import { kindOf } from '../config/unknown-option.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import { resolveInnerOptions } from './inner-options.js';
import type { TransactionWork } from './run-transaction.js';
import { ended } from './transaction-errors.js';
import { resolveTransactionOptions, type TransactionOptions } from './transaction-options.js';
import type { PgTransaction } from './transaction.js';

const PROPAGATIONS = ['Required', 'RequiresNew', 'Nested', 'Supports', 'Mandatory', 'NotSupported', 'Never'] as const;

/**
 * What work does with the transaction around it, and without one:
 *
 * - `Required`: takes part in it; begins one.
 * - `RequiresNew`: begins one of its own, on a second connection; begins one.
 * - `Nested`: a savepoint in it; begins one.
 * - `Supports`: takes part in it; runs without.
 * - `Mandatory`: takes part in it; `PG_TRANSACTION_REQUIRED`.
 * - `NotSupported`: leaves it for the time; runs without.
 * - `Never`: `PG_TRANSACTION_FORBIDDEN`; runs without.
 */
export type TransactionPropagation = (typeof PROPAGATIONS)[number];

/** What there is to say about a transaction where it is declared. */
export interface PropagationOptions extends TransactionOptions {
  /** Default `Required`. */
  propagation?: TransactionPropagation;
}

/** What propagation needs of a pool. */
export interface PropagatingPool {
  readonly name: string;
  readonly currentTransaction: PgTransaction | undefined;
  transaction<T>(work: TransactionWork<T>, options?: TransactionOptions): Promise<T>;
  outside<T>(work: () => T): T;
}

/** How a piece of work takes part, here and now. */
export interface Participation {
  /** The work has an end of its own, at which it is completed or undone; otherwise its fate is another's, or none. */
  readonly isOwn: boolean;
  run<T>(work: () => T | Promise<T>): Promise<T>;
}

/** These begin nothing, so there is nothing that options could be about. */
const WITHOUT_OPTIONS: ReadonlySet<TransactionPropagation> = new Set(['Supports', 'NotSupported', 'Never']);

/** What is declared once and done often. */
export class Propagation {
  readonly #kind: TransactionPropagation;
  readonly #options: TransactionOptions;

  /** @throws PgModuleError `PG_CONFIG_INVALID` */
  constructor({ propagation = 'Required', ...options }: PropagationOptions) {
    if (!PROPAGATIONS.includes(propagation)) {
      const given = typeof propagation === 'string' ? JSON.stringify(propagation) : kindOf(propagation);
      throw configError(`propagation is ${given}; it must be one of ${PROPAGATIONS.join(', ')}.`);
    }
    resolveTransactionOptions(options);
    const [key] = Object.keys(options);
    if (key !== undefined && WITHOUT_OPTIONS.has(propagation)) {
      throw configError(`${key} has no effect with propagation '${propagation}', which begins no transaction.`);
    }
    this.#kind = propagation;
    this.#options = options;
  }

  /**
   * @param what how messages call the work
   * @throws PgModuleError `PG_TRANSACTION_REQUIRED`, `PG_TRANSACTION_FORBIDDEN`; `PG_TRANSACTION_ENDED` in what has
   *   outlived its transaction; `PG_CONFIG_INVALID` for options that cannot be had any more
   */
  in(pool: PropagatingPool, what: string): Participation {
    const kind = this.#kind;
    if (kind === 'RequiresNew') return own((work) => pool.outside(() => pool.transaction(work, this.#options)));
    if (kind === 'NotSupported') return others((work) => pool.outside(work));
    const around = pool.currentTransaction;
    if (around && !around.isOpen) throw ended(pool.name, `before ${what} was called in its context`);
    if (kind === 'Never') {
      if (around) throw forbidden(pool.name, what);
      return others(call);
    }
    if (kind === 'Mandatory' && !around) throw required(pool.name, what);
    if (kind === 'Nested' || (kind === 'Required' && !around)) {
      return own((work) => pool.transaction(work, this.#options));
    }
    if (around) resolveInnerOptions(around.options, this.#options);
    return others(call);
  }
}

const own = (run: Participation['run']): Participation => ({ isOwn: true, run });
const others = (run: <T>(work: () => T) => T): Participation => ({
  isOwn: false,
  run: async (work) => run(work),
});

function call<T>(work: () => T): T {
  return work();
}

function required(pool: string, what: string): PgModuleError {
  return new PgModuleError(
    'PG_TRANSACTION_REQUIRED',
    `Pool "${pool}": ${what} has propagation 'Mandatory', and there is no transaction around this call. Call it inside ` +
      'of one.',
  );
}

function forbidden(pool: string, what: string): PgModuleError {
  return new PgModuleError(
    'PG_TRANSACTION_FORBIDDEN',
    `Pool "${pool}": ${what} has propagation 'Never', and there is a transaction around this call. Call it outside of ` +
      'that, or in pool.outside().',
  );
}
