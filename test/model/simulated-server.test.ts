import fc from 'fast-check';
import { expect, it } from 'vitest';
import { resolvePoolOptions } from '../../lib/pool/pool-options.js';
import { PoolModel } from './pool-model.js';
import { SimulatedServer } from './simulated-server.js';
import { poolOptions, simulatedStep } from './steps.js';

const STEPS = Number(process.env['MODEL_STEPS'] ?? 100_000);
const SEED = Number(process.env['MODEL_SEED'] ?? Date.now() % 2 ** 31);
/** Of a run: long enough for a pool to be brought into disorder, short enough to be read when it is made shorter. */
const LENGTH = 250;

/**
 * Random steps on a pool over a simulated server, each followed by a comparison with the model. What fails is made as short
 * as possible and printed with its seed, by which it is found again: `MODEL_SEED=... npx vitest run test/model`.
 */
it('keeps its promises at every one of many random steps', { timeout: 600_000 }, async () => {
  console.log(`MODEL_SEED=${SEED} MODEL_STEPS=${STEPS}`);
  let steps = 0;
  const runs = fc.array(simulatedStep, { maxLength: LENGTH, size: 'max' });
  const property = fc.asyncProperty(poolOptions, runs, fc.boolean(), async (options, run, isCalm) => {
    const limits = resolvePoolOptions(options, undefined);
    const server = new SimulatedServer(limits);
    const model = new PoolModel(server, limits);
    const drainAt = isCalm ? run.length : Math.floor(run.length * 0.9);
    for (const [place, step] of run.entries()) {
      if (place === drainAt) model.drain(2_000);
      await model.take(step);
      steps++;
    }
    if (isCalm) await model.calm();
    if (isCalm || drainAt === run.length) model.drain(2_000);
    await model.end();
    expect(server.clock.timers).toBe(0);
  });
  for (let round = 0; steps < STEPS; round++) await fc.assert(property, { seed: SEED + round, numRuns: 100 });
  console.log(`${steps} steps on a simulated server`);
  expect(steps).toBeGreaterThanOrEqual(STEPS);
});
