import { expect, it } from 'vitest';
import { Opening } from '../../../lib/pool/opening.js';

it('keeps nothing before the pool is used, and min from then on', () => {
  const opening = new Opening();
  expect(opening.floor(3)).toBe(0);
  opening.use();
  expect(opening.floor(3)).toBe(3);
  expect(opening.floor(0)).toBe(0);
});

it('is over when max(1, min) are open; after that min is enough', async () => {
  const opening = new Opening();
  const { over } = opening;
  opening.begin();
  expect(opening.floor(0)).toBe(1);
  opening.settle(0, 0);
  expect(opening.isAwaited).toBe(true);
  opening.settle(1, 0);
  await over;
  expect(opening).toMatchObject({ isAwaited: false });
  expect(opening.floor(0)).toBe(0);
});

it('is one for all who ask while it lasts, and fails for all of them', async () => {
  const opening = new Opening();
  const both = [opening.over, opening.over];
  opening.begin();
  const failure = new Error('refused');
  opening.fail(failure);
  expect(await Promise.allSettled(both)).toEqual(both.map(() => ({ status: 'rejected', reason: failure })));
  expect(opening.isAwaited).toBe(false);
  expect(opening.floor(0)).toBe(0);
  expect(opening.floor(2)).toBe(2);
});
