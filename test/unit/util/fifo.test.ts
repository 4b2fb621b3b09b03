import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Fifo, type Linked } from '../../../lib/util/fifo.js';

interface Item extends Linked<Item> {
  readonly name: number;
}

it('behaves like an array from which anyone may leave', () => {
  const step = fc.oneof(
    fc.constant({ kind: 'push' as const }),
    fc.constant({ kind: 'shift' as const }),
    fc.record({ kind: fc.constant('remove' as const), index: fc.nat(20) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const fifo = new Fifo<Item>();
      const model: Item[] = [];
      let next = 0;
      for (const action of steps) {
        if (action.kind === 'push') {
          const item = { name: next++, previous: undefined, next: undefined };
          model.push(item);
          fifo.push(item);
        } else if (action.kind === 'shift') {
          expect(fifo.shift()).toBe(model.shift());
        } else {
          const [item] = model.splice(action.index, 1);
          if (item) fifo.remove(item);
        }
        expect(fifo.length).toBe(model.length);
        expect(fifo.head).toBe(model[0]);
      }
    }),
  );
});
