import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Fifo } from '../../../lib/util/fifo.js';

it('behaves like an array from which anyone may leave', () => {
  const step = fc.oneof(
    fc.constant({ kind: 'push' as const }),
    fc.constant({ kind: 'shift' as const }),
    fc.record({ kind: fc.constant('remove' as const), index: fc.nat(20) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const fifo = new Fifo<number>();
      const model: number[] = [];
      const places = new Map<number, ReturnType<typeof fifo.push>>();
      let next = 0;
      for (const action of steps) {
        if (action.kind === 'push') {
          model.push(next);
          places.set(next, fifo.push(next++));
        } else if (action.kind === 'shift') {
          expect(fifo.shift()).toBe(model.shift());
        } else {
          const [value] = model.splice(action.index, 1);
          const place = value === undefined ? undefined : places.get(value);
          if (place) fifo.remove(place);
        }
        expect(fifo.length).toBe(model.length);
        expect(fifo.head).toBe(model[0]);
      }
    }),
  );
});
