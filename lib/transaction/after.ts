import { innermost } from './ambient.js';
import { PgTransaction } from './transaction.js';

type Hook = () => unknown;

/**
 * Runs `hook` once the transaction around this call has been committed and its connection is back: the mail is sent only
 * when it is true. Without a transaction there is nothing to wait for: it runs at once, after the present code. What it
 * throws becomes a warning.
 *
 * @throws PgModuleError `PG_TRANSACTION_ENDED` in what has outlived its transaction
 */
export function afterCommit(hook: Hook): void {
  const transaction = innermost();
  if (transaction instanceof PgTransaction) transaction.afterCommit(hook);
  else void Promise.resolve().then(hook).catch(warn);
}

/** Runs `hook` once the transaction around this call has been rolled back; without a transaction, never. */
export function afterRollback(hook: Hook): void {
  const transaction = innermost();
  if (transaction instanceof PgTransaction) transaction.afterRollback(hook);
}

function warn(error: unknown): void {
  process.emitWarning(`A hook of afterCommit() threw: ${String(error)}`, { type: 'PgPoolWarning' });
}
