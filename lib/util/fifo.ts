interface Node<T> {
  value: T;
  previous: Node<T> | undefined;
  next: Node<T> | undefined;
}

/** An entry's place in a {@link Fifo}: lets it leave from the middle in constant time. */
export type Place<T> = Node<T>;

/** First in, first out; every operation is O(1), leaving from the middle included. */
export class Fifo<T> {
  #head: Node<T> | undefined;
  #tail: Node<T> | undefined;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  get head(): T | undefined {
    return this.#head?.value;
  }

  push(value: T): Place<T> {
    const node: Node<T> = { value, previous: this.#tail, next: undefined };
    if (this.#tail) this.#tail.next = node;
    else this.#head = node;
    this.#tail = node;
    this.#length++;
    return node;
  }

  shift(): T | undefined {
    const node = this.#head;
    if (!node) return undefined;
    this.remove(node);
    return node.value;
  }

  /** The place must be one of this queue's, and not have left yet. */
  remove(node: Place<T>): void {
    if (node.previous) node.previous.next = node.next;
    else this.#head = node.next;
    if (node.next) node.next.previous = node.previous;
    else this.#tail = node.previous;
    node.previous = node.next = undefined;
    this.#length--;
  }
}
