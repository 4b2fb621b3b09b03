import { setImmediate } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Arrival } from '../../../lib/util/arrival.js';
import { ManualClock } from '../../support/manual-clock.js';

it('is the same during one turn of the loop, and another one in the next', async () => {
  const clock = new ManualClock();
  const arrival = new Arrival(clock);
  const first = arrival.now();
  await clock.advance(5);
  expect(clock.now() - first).toBe(5);

  const turn = arrival.now();
  await Promise.resolve();
  expect(arrival.now()).toBe(turn);
  await setImmediate();
  await setImmediate();
  expect(arrival.now()).toBe(clock.now());
});
