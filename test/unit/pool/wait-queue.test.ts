import { expect, it } from 'vitest';
import { Waiter, WaitQueue } from '../../../lib/pool/wait-queue.js';
import { ManualClock } from '../../support/manual-clock.js';

class Impatient extends Waiter<never> {
  readonly joinMillis = undefined;
  readonly serve = (): void => undefined;
  readonly refuse: (error: Error) => void;

  constructor(refused: Error[]) {
    super();
    this.refuse = (error) => refused.push(error);
  }
}

it('refuses whose time is up, whatever the fractions of their times', async () => {
  // 64471.8 + 5000 is what the sum gives, and the difference to it is a little less than 5000.
  const clock = new ManualClock();
  for (const millis of [0.1, 0.7, 64_471.8 - 0.8, 1e-9]) {
    await clock.advance(millis);
    const queue = new WaitQueue<never>(5_000, () => new Error('timed out'), clock);
    const refused: Error[] = [];
    queue.push(new Impatient(refused));
    let turns = 0;
    const count = clock.setTimeout.bind(clock);
    clock.setTimeout = (...args) => {
      turns++;
      return count(...args);
    };
    await clock.advance(5_001);
    clock.setTimeout = count;
    expect(refused).toHaveLength(1);
    expect(turns).toBeLessThanOrEqual(1);
    expect(queue.length).toBe(0);
  }
});
