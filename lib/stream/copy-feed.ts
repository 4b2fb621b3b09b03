import { from, Subject, takeUntil, type Observable } from 'rxjs';
import { kindOf } from '../config/unknown-option.js';
import { copyOptionError, copySourceError } from './copy-error.js';

/** Where rows or bytes come from: arrays and generators, Readables and other async iterables, Observables. */
export type CopySource<T> = Iterable<T> | AsyncIterable<T> | Observable<T>;

/** A source, one item at a time. */
export interface CopyFeed {
  /** One call at a time. */
  next(): IteratorResult<unknown, unknown> | Promise<IteratorResult<unknown, unknown>>;
  /** Nobody wants more of it, now or ever. Nothing is thrown, and nothing waited for. */
  end(): void;
}

interface Destroyable {
  destroy(): void;
  on(event: 'error', listener: () => void): void;
}

const nothing = (): void => undefined;

/**
 * Begins to listen to an Observable, and to errors of a Readable.
 *
 * @param mostBuffered of an Observable: how many items may wait
 * @throws PgModuleError `PG_CONFIG_INVALID`
 */
export function openFeed(source: unknown, mostBuffered: number): CopyFeed {
  if (typeof source === 'object' && source !== null) {
    if ('subscribe' in source && typeof source.subscribe === 'function') {
      return new ObservableFeed(source as Observable<unknown>, mostBuffered);
    }
    if (Symbol.asyncIterator in source) return new IteratorFeed(source as AsyncIterable<unknown>);
    if (Symbol.iterator in source) return new IteratorFeed(source as Iterable<unknown>);
  }
  throw copyOptionError(
    `the rows or bytes have to be an iterable, an async iterable, an Observable or a Readable; they are ${kindOf(source)}`,
  );
}

class IteratorFeed implements CopyFeed {
  readonly #iterator: Iterator<unknown, unknown> | AsyncIterator<unknown, unknown>;
  readonly #stream: Destroyable | undefined;
  #isEnded = false;

  constructor(source: Iterable<unknown> | AsyncIterable<unknown>) {
    if (isStream(source)) {
      this.#stream = source;
      // It may fail before it is read, and is asked for its error then.
      source.on('error', nothing);
    }
    this.#iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  }

  next(): IteratorResult<unknown, unknown> | Promise<IteratorResult<unknown, unknown>> {
    const result = this.#iterator.next();
    if ('then' in result) return result.then(this.#noted);
    return this.#noted(result);
  }

  readonly #noted = (result: IteratorResult<unknown, unknown>): IteratorResult<unknown, unknown> => {
    if (result.done) this.#isEnded = true;
    return result;
  };

  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#stream?.destroy();
    try {
      // A generator that waits for something does not return before that comes.
      const returned = this.#iterator.return?.();
      if (returned && 'then' in returned) returned.then(nothing, nothing);
    } catch {
      // The reason for the end is worth more than what the source says to it.
    }
  }
}

function isStream(source: object): source is Destroyable {
  const { destroy, on } = source as Partial<Destroyable>;
  return typeof destroy === 'function' && typeof on === 'function';
}

/** An Observable cannot be told to wait, so its items do, as many as there may be. */
class ObservableFeed implements CopyFeed {
  readonly #most: number;
  readonly #stop = new Subject<void>();
  #arrived: unknown[] = [];
  /** Those that have arrived before, of which some have been taken. */
  #waiting: unknown[] = [];
  #at = 0;
  #outcome: { readonly error?: unknown } | undefined;
  #tell: (() => void) | undefined;

  constructor(source: Observable<unknown>, most: number) {
    this.#most = most;
    // One that never ends may emit before subscribe() returns, and hears of the stop then as well.
    from(source)
      .pipe(takeUntil(this.#stop))
      .subscribe({
        next: (value) => this.#take(value),
        error: (error: unknown) => this.#finish({ error }),
        complete: () => this.#finish({}),
      });
  }

  next(): IteratorResult<unknown, unknown> | Promise<IteratorResult<unknown, unknown>> {
    if (this.#at === this.#waiting.length) {
      this.#waiting = this.#arrived;
      this.#arrived = [];
      this.#at = 0;
    }
    if (this.#at < this.#waiting.length) {
      const value = this.#waiting[this.#at];
      this.#waiting[this.#at++] = undefined;
      return { done: false, value };
    }
    if (!this.#outcome) {
      return new Promise<void>((resolve) => (this.#tell = resolve)).then(() => this.next());
    }
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- passed on as it came
    if ('error' in this.#outcome) return Promise.reject(this.#outcome.error);
    return { done: true, value: undefined };
  }

  end(): void {
    this.#stop.next();
    this.#waiting = this.#arrived = [];
    this.#at = 0;
  }

  #take(value: unknown): void {
    if (this.#arrived.length + this.#waiting.length - this.#at < this.#most) {
      this.#arrived.push(value);
      this.#told();
      return;
    }
    this.#finish({
      error: copySourceError(
        `the Observable is faster than the server, and more than ${this.#most} of its items wait (maxBuffered). It cannot be ` +
          'told to wait: an async iterable, a Readable or an array can',
      ),
    });
    this.end();
  }

  #finish(outcome: { readonly error?: unknown }): void {
    this.#outcome ??= outcome;
    this.#told();
  }

  #told(): void {
    const tell = this.#tell;
    this.#tell = undefined;
    tell?.();
  }
}
