import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Bag } from '../../../lib/util/bag.js';

const ITEMS = 12;

it('behaves like a Set, but for the order', () => {
  const step = fc.record({ kind: fc.constantFrom('add', 'delete'), index: fc.nat(ITEMS - 1) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const items = Array.from({ length: ITEMS }, (_, name) => ({ name, place: -1 }));
      const bag = new Bag<(typeof items)[number]>();
      const model = new Set<(typeof items)[number]>();
      for (const { kind, index } of steps) {
        const item = items[index]!;
        if (kind === 'delete') expect(bag.delete(item)).toBe(model.delete(item));
        else if (!model.has(item)) {
          bag.add(item);
          model.add(item);
        }
        expect(bag.size).toBe(model.size);
        expect(new Set(bag)).toEqual(model);
        for (const each of items) expect(bag.has(each)).toBe(model.has(each));
      }
    }),
  );
});

it('lets go of what is in another bag', () => {
  const [one, other] = [new Bag<{ place: number }>(), new Bag<{ place: number }>()];
  const item = { place: -1 };
  one.add(item);
  one.delete(item);
  other.add(item);
  expect([one.has(item), one.delete(item), one.size]).toEqual([false, false, 0]);
  expect([other.has(item), [...other]]).toEqual([true, [item]]);
});

it('goes through those that are there when it begins', () => {
  const items = Array.from({ length: 5 }, () => ({ place: -1 }));
  const bag = new Bag<{ place: number }>();
  for (const item of items) bag.add(item);
  let seen = 0;
  for (const item of bag) {
    bag.delete(item);
    seen++;
  }
  expect([seen, bag.size]).toEqual([5, 0]);
});
