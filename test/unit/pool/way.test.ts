import { expect, it } from 'vitest';
import { Way } from '../../../lib/pool/way.js';
import { ManualClock } from '../../support/manual-clock.js';

async function wayOf(millis: number): Promise<{ way: Way; clock: ManualClock }> {
  const clock = new ManualClock();
  const way = new Way(clock);
  const sentAt = clock.now();
  await clock.advance(millis);
  expect(way.measure(sentAt, 0, clock.now())).toBe(0);
  return { way, clock };
}

it('is unknown, and counts for nothing, until a statement has been answered', () => {
  expect(new Way(new ManualClock()).millis).toBe(0);
});

it('is the shortest run, and what a statement takes longer is the time of the server', async () => {
  const { way, clock } = await wayOf(20);
  expect(way.millis).toBe(20);
  const sentAt = clock.now();
  await clock.advance(23);
  expect(way.measure(sentAt, sentAt - 1, clock.now())).toBeCloseTo(3, 1);
});

it.each([
  // 20 ms after the answer before it, of which the server had 1.
  ['is part of the time of one that was sent shortly before the answer to another came', 1, 20, 1],
  ['is no part of the time of one that waited at the server', 50, 4, 4],
])('%s', async (_, before, behind, expected) => {
  const { way, clock } = await wayOf(20);
  const sentAt = clock.now();
  await clock.advance(before);
  const freeAt = clock.now();
  await clock.advance(behind);
  expect(way.measure(sentAt, freeAt, clock.now())).toBe(expected);
});

it('does not become shorter by an answer whose arrival is only known to have been later', async () => {
  const { way, clock } = await wayOf(20);
  const turn = clock.now();
  await clock.advance(5);
  const sentAt = clock.now();
  await clock.advance(30);
  expect(way.measure(sentAt, 0, turn)).toBe(0);
  expect(way.millis).toBeCloseTo(20, 1);
});

it('becomes longer with statements that waited for nothing, and not with those that did', async () => {
  const { way, clock } = await wayOf(20);
  const run = async (waited: number): Promise<void> => {
    const sentAt = clock.now();
    await clock.advance(40);
    way.measure(sentAt, sentAt + waited, clock.now());
  };
  for (let count = 0; count < 1_000; count++) await run(1);
  expect(way.millis).toBe(20);
  for (let count = 0; count < 1_000; count++) await run(0);
  expect(way.millis).toBe(40);
});
