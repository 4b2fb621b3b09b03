import { configError } from '../config/config-error.js';
import {
  isAtLeast,
  resolveTransactionOptions,
  type ResolvedTransactionOptions,
  type TransactionOptions,
} from './transaction-options.js';

/**
 * The options of work that is to be done in a transaction that is open already. What cannot be had any more is refused,
 * and not passed over; `retry` is the outermost transaction's, and `readOnly: true` no more than an intention.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID`
 */
export function resolveInnerOptions(
  outer: ResolvedTransactionOptions,
  options: TransactionOptions | undefined,
): ResolvedTransactionOptions {
  const inner = resolveTransactionOptions(options);
  const { isolation, readOnly, deferrable, settings, role, timeoutMillis, signal } = inner;
  if (isolation !== undefined && !isAtLeast(outer.isolation, isolation)) {
    throw late(`isolation: '${isolation}'`, outer.isolation ?? 'the isolation that is the default of the server');
  }
  if (readOnly === false && outer.readOnly === true) throw late('readOnly: false', 'readOnly: true');
  if (deferrable && !outer.deferrable) throw late('deferrable: true', 'deferrable: false');
  if (role !== undefined && role !== outer.role) throw late(`role: ${JSON.stringify(role)}`, outer.role ?? 'no role');
  const missing = settings.find(
    ([name, value]) => !outer.settings.some(([known, set]) => known === name && set === value),
  );
  if (missing) throw late(`settings.${missing[0]}`, 'another value, or none');
  return { ...outer, timeoutMillis, signal };
}

function late(wanted: string, given: string): Error {
  return configError(
    `${wanted} cannot be had inside of a transaction that was begun with ${given}. Begin it so, or begin one of its own: ` +
      'pool.outside(() => pool.transaction(...)).',
  );
}
