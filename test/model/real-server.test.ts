import fc from 'fast-check';
import { expect, it } from 'vitest';
import { resolvePoolOptions } from '../../lib/pool/pool-options.js';
import { useServer } from '../support/postgres.js';
import { PoolModel } from './pool-model.js';
import { RealServer } from './real-server.js';
import { poolOptions, realStep } from './steps.js';

const STEPS = Number(process.env['MODEL_REAL_STEPS'] ?? 3_000);
const SEED = Number(process.env['MODEL_SEED'] ?? Date.now() % 2 ** 31);
const LENGTH = 100;
/** So many runs without one in whose midst the server is restarted. */
const RESTART_EVERY = 10;

const server = useServer();

/** The same steps for the same `MODEL_SEED`; what the server and the network make of them is another thing each time. */
it('keeps its promises on a real server, through kills and restarts', { timeout: 300_000 }, async () => {
  console.log(`MODEL_SEED=${SEED} MODEL_REAL_STEPS=${STEPS}`);
  const run = fc.tuple(poolOptions, fc.array(realStep, { minLength: LENGTH, maxLength: LENGTH, size: 'max' }));
  const runs = fc.sample(run, { seed: SEED, numRuns: Math.ceil(STEPS / LENGTH) });
  let steps = 0;
  for (const [number, [options, list]] of runs.entries()) {
    const model = new PoolModel(new RealServer(server(), options), resolvePoolOptions(options, undefined));
    const restart = number % RESTART_EVERY === RESTART_EVERY - 1 ? list.length / 2 : undefined;
    for (const [place, step] of list.entries()) {
      if (place === restart) await server().restart('immediate');
      await model.take(step);
      steps++;
    }
    await model.calm();
    model.drain(2_000);
    await model.end();
  }
  console.log(`${steps} steps on a real server`);
  expect(steps).toBeGreaterThanOrEqual(STEPS);
});
