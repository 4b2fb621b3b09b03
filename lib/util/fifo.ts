/** What can be in a {@link Fifo}, in one at a time. Its neighbours there are the queue's business. */
export interface Linked<T> {
  previous: T | undefined;
  next: T | undefined;
}

/** First in, first out; every operation is O(1), leaving from the middle included, and none makes garbage. */
export class Fifo<T extends Linked<T>> {
  #head: T | undefined;
  #tail: T | undefined;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  get head(): T | undefined {
    return this.#head;
  }

  /** It must be in no queue. */
  push(item: T): void {
    item.previous = this.#tail;
    if (this.#tail) this.#tail.next = item;
    else this.#head = item;
    this.#tail = item;
    this.#length++;
  }

  shift(): T | undefined {
    const item = this.#head;
    if (item) this.remove(item);
    return item;
  }

  /** It must be in this queue. */
  remove(item: T): void {
    if (item.previous) item.previous.next = item.next;
    else this.#head = item.next;
    if (item.next) item.next.previous = item.previous;
    else this.#tail = item.previous;
    item.previous = item.next = undefined;
    this.#length--;
  }
}
