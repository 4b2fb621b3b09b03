import type { Clock } from '../util/clock.js';
import { Deadline } from '../util/deadline.js';
import { signalled, timedOut } from './transaction-errors.js';

/** What may end a transaction before its function does: `timeoutMillis`, `signal`, and the end of the one around it. */
export class TransactionLimits {
  readonly #deadline: Deadline | undefined;
  readonly #release: (() => void) | undefined;

  constructor(
    name: string,
    { timeoutMillis, signal }: { readonly timeoutMillis: number; readonly signal: AbortSignal | undefined },
    clock: Clock,
    around?: AbortSignal,
  ) {
    if (timeoutMillis === 0 && !signal && !around) return;
    const deadline = new Deadline(timeoutMillis, () => timedOut(name, timeoutMillis), clock, around);
    this.#deadline = deadline;
    if (!signal) return;
    const abort = (): void => deadline.abort(signalled(name, signal.reason));
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    this.#release = () => signal.removeEventListener('abort', abort);
  }

  /** Fires with the error that the transaction rejects with. */
  get signal(): AbortSignal | undefined {
    return this.#deadline?.signal;
  }

  clear(): void {
    this.#deadline?.clear();
    this.#release?.();
  }
}
