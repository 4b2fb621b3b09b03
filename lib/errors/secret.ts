import { inspect } from 'node:util';

const MASK = '[secret]';

/**
 * A value that must never be printed. It shows as `[secret]` in string conversion, JSON and `util.inspect`, at any
 * depth; only {@link Secret.reveal} gives it away, so a search for that word finds every place where a secret is used.
 */
export class Secret<T> {
  readonly #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  reveal(): T {
    return this.#value;
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [inspect.custom](): string {
    return MASK;
  }
}
