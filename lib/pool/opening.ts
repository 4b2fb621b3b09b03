import { deferred, type Deferred } from '../util/deferred.js';

/** How many connections a pool is to have open whether or not they are asked for, and who waits until it has them. */
export class Opening {
  /** Before it is first used or opened, a pool keeps nothing. */
  #isInUse = false;
  /** An opening is not over before there is a connection, even where `min` is 0. */
  #wantsOne = false;
  #awaited: Deferred<void> | undefined;

  /** Somebody waits for it. */
  get isAwaited(): boolean {
    return this.#awaited !== undefined;
  }

  /** Resolves when it is over. All who ask before that share one opening. */
  get over(): Promise<void> {
    this.#awaited ??= deferred();
    return this.#awaited.promise;
  }

  /** The pool has a borrower. */
  use(): void {
    this.#isInUse = true;
  }

  begin(): void {
    this.#isInUse = this.#wantsOne = true;
  }

  /** Connections to keep. */
  floor(min: number): number {
    return this.#isInUse ? Math.max(this.#wantsOne ? 1 : 0, min) : 0;
  }

  /** It is over if there are as many as are to be kept. */
  settle(established: number, min: number): void {
    if (established < this.floor(min)) return;
    this.#awaited?.resolve();
    this.#end();
  }

  /** It is given up; `min` is kept all the same. */
  fail(error: Error): void {
    this.#awaited?.reject(error);
    this.#end();
  }

  #end(): void {
    this.#awaited = undefined;
    this.#wantsOne = false;
  }
}
