import fc from 'fast-check';
import { expect, it } from 'vitest';
import { PoolModel } from './pool-model.js';
import { step } from './steps.js';

const STEPS = Number(process.env['MODEL_STEPS'] ?? 100_000);
const SEED = Number(process.env['MODEL_SEED'] ?? Date.now() % 2 ** 31);
const LENGTH = 250;

/**
 * Random steps on a pool over a simulated server, each of them followed by a comparison with the model. A run that fails is
 * made as short as possible, and printed with its seed: `MODEL_SEED=... npx vitest run test/model`.
 */
it('keeps its promises', { timeout: 600_000 }, async () => {
  console.log(`MODEL_SEED=${SEED}`);
  let steps = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: LENGTH, maxLength: LENGTH, size: 'max' }), fc.boolean(), async (run, isCalm) => {
      const model = new PoolModel();
      for (const next of run) await model.take(next);
      steps += model.steps;
      if (isCalm) await model.calm();
      else for (const asking of model.asking) asking.abort.abort();
      await model.end();
    }),
    { seed: SEED, numRuns: Math.ceil(STEPS / LENGTH), endOnFailure: process.env["MODEL_NOSHRINK"] !== undefined },
  );
  console.log(`${steps} steps`);
  expect(steps).toBeGreaterThanOrEqual(STEPS);
});
