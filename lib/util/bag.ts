/** What can be in a {@link Bag}: in one at a time. */
export interface Baggable {
  /** Where in its bag it is; the bag's business. -1 = in none. */
  place: number;
}

/** A set of objects that know their place in it. Unlike a Set it makes no garbage as they come and go. */
export class Bag<T extends Baggable> implements Iterable<T> {
  readonly #items: T[] = [];

  get size(): number {
    return this.#items.length;
  }

  has(item: T): boolean {
    return this.#items[item.place] === item;
  }

  /** It must be in no bag. */
  add(item: T): void {
    item.place = this.#items.length;
    this.#items.push(item);
  }

  /** Whether it was here. The last one takes its place, so the order is not kept. */
  delete(item: T): boolean {
    if (!this.has(item)) return false;
    const last = this.#items.pop();
    if (last && last !== item) {
      last.place = item.place;
      this.#items[item.place] = last;
    }
    item.place = -1;
    return true;
  }

  /** Of those that are here now, whatever becomes of them on the way. */
  [Symbol.iterator](): IterableIterator<T> {
    return [...this.#items][Symbol.iterator]();
  }
}
