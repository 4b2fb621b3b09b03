import fc from 'fast-check';
import type { PoolOptions, PoolReset } from 'nestjs-pg';

/** What statements do: answer at once, later or by an error, or run until they are cancelled. */
export type Doing = 'fast' | 'slow' | 'fail' | 'hang';

/** What may become of the server. */
export type Fault = 'stop server' | 'mute server' | 'lock server' | 'fail a set-up' | 'start server';

/** One thing that happens to the pool. Where a step says `which`, it means that one of those there are, counted around. */
export type Step =
  | { readonly kind: 'acquire'; readonly count: number; readonly signal: boolean }
  | { readonly kind: 'query'; readonly count: number; readonly doing: Doing; readonly signal: boolean }
  | { readonly kind: 'run'; readonly which: number; readonly doing: Doing | 'BEGIN' | 'COMMIT' | 'ROLLBACK' }
  | { readonly kind: 'release'; readonly which: number; readonly how: 'plain' | 'true' | 'error' }
  | { readonly kind: 'release again' | 'use released' | 'abort' | 'kill'; readonly which: number }
  | { readonly kind: 'resize'; readonly min: number; readonly max: number }
  | { readonly kind: 'evict' | 'suspend' | 'resume' | 'open' | Fault }
  | { readonly kind: 'pass'; readonly millis: number };

type Weighted = fc.WeightedArbitrary<Step>;

const which = fc.nat({ max: 20 });
const doing = fc.constantFrom<Doing>(
  ...(['fast', 'fast', 'fast', 'fast', 'fast', 'fast'] as const),
  'slow',
  'fail',
  'hang',
);

const often = (weight: number, kind: Step['kind'], more: object = {}): Weighted => ({
  weight,
  arbitrary: fc.record({ kind: fc.constant(kind), ...more }) as unknown as fc.Arbitrary<Step>,
});

const work: readonly Weighted[] = [
  often(20, 'acquire', { count: fc.constantFrom(1, 1, 1, 1, 2, 5), signal: fc.boolean() }),
  often(24, 'query', { count: fc.constantFrom(1, 1, 2, 4, 8), doing, signal: fc.constantFrom(false, false, true) }),
  often(16, 'run', { which, doing: fc.oneof(doing, fc.constantFrom('BEGIN', 'BEGIN', 'COMMIT', 'ROLLBACK')) }),
  often(60, 'release', { which, how: fc.constantFrom('plain', 'plain', 'plain', 'plain', 'true', 'error') }),
  often(2, 'release again', { which }),
  often(2, 'use released', { which }),
  often(6, 'abort', { which }),
  often(3, 'evict'),
  often(1, 'suspend'),
  often(4, 'resume'),
  often(3, 'open'),
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 1, max: 6 }))
      .map(([min, max]) => ({ kind: 'resize', min: Math.min(min, max), max })),
  },
];

/** Steps with time from less than an answer takes to more than a connection's life; in eighths, which add up exactly. */
export const simulatedStep: fc.Arbitrary<Step> = fc.oneof(
  ...work,
  often(4, 'kill', { which }),
  often(1, 'stop server'),
  often(1, 'mute server'),
  often(1, 'lock server'),
  often(1, 'fail a set-up'),
  often(24, 'start server'),
  often(40, 'pass', { millis: fc.constantFrom(0, 0.125, 0.375, 1, 1, 5, 5, 30, 30, 200) }),
  often(6, 'pass', { millis: fc.constantFrom(900, 1_500, 1_500, 3_500, 5_100) }),
  often(1, 'pass', { millis: fc.constantFrom(11_000, 31_000, 65_000) }),
);

/** Steps in real time: short ones. */
export const realStep: fc.Arbitrary<Step> = fc.oneof(
  ...work,
  often(3, 'kill', { which }),
  often(40, 'pass', { millis: fc.constantFrom(0, 0, 0, 1, 2, 5) }),
);

/** What a pool of the model is made with. Short times, so that steps reach them. */
export const poolOptions: fc.Arbitrary<PoolOptions> = fc.record({
  min: fc.nat({ max: 2 }),
  max: fc.integer({ min: 2, max: 5 }),
  acquireTimeoutMillis: fc.constant(5_000),
  maxWaiting: fc.constantFrom(2, 20),
  idleTimeoutMillis: fc.constantFrom(3_000, 30_000),
  maxLifetimeSeconds: fc.constantFrom(10, 60),
  lifetimeJitter: fc.constantFrom(0, 0.5),
  maxUses: fc.constantFrom(0, 20),
  validateAfterIdleMillis: fc.constantFrom(0, 1_000),
  validateTimeoutMillis: fc.constant(500),
  keepaliveMillis: fc.constantFrom(0, 2_500),
  leakThresholdMillis: fc.constantFrom(0, 1_000),
  pipeline: fc.constantFrom<'auto' | 'off'>('auto', 'auto', 'off'),
  reset: fc.constantFrom<PoolReset>('rollback', 'rollback', 'clean', { sql: 'RESET ALL' }),
  allowExitOnIdle: fc.boolean(),
});
