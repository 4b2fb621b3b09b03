import type { JournalRecord } from './protocol.js';

/** Which transactions must be found in the database, in a few numbers: the program must not grow by what it remembers. */
export class Journal {
  readonly #unknown: number[] = [];
  #acknowledged = 0;
  #sum = 0;

  /** The server has said that it is committed. */
  acknowledge(entry: number): void {
    this.#acknowledged++;
    this.#sum += entry;
  }

  /** The answer to COMMIT got lost: it may be there or not. */
  loseSight(entry: number): void {
    this.#unknown.push(entry);
  }

  get record(): JournalRecord {
    return { acknowledged: this.#acknowledged, sum: this.#sum, unknown: this.#unknown };
  }
}
