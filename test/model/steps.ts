import fc from 'fast-check';

/** Where a step says `which`, it means that one of those there are, counted around. */
export type Step =
  | { readonly kind: 'acquire'; readonly signal: boolean }
  | { readonly kind: 'query'; readonly text: string; readonly signal: boolean }
  | { readonly kind: 'run'; readonly which: number; readonly text: string }
  | { readonly kind: 'release'; readonly which: number; readonly how: 'plain' | 'true' | 'error' }
  | { readonly kind: 'release again'; readonly which: number }
  | { readonly kind: 'use released'; readonly which: number }
  | { readonly kind: 'abort'; readonly which: number }
  | { readonly kind: 'kill'; readonly which: number }
  | { readonly kind: 'resize'; readonly min: number; readonly max: number }
  | { readonly kind: 'evict' | 'suspend' | 'resume' | 'stop server' | 'mute server' | 'start server' | 'bad set-up' }
  | { readonly kind: 'pass'; readonly millis: number };

const which = fc.nat({ max: 20 });
const TEXTS = [...Array<string>(8).fill('SELECT fast'), 'SELECT slow', 'SELECT slow', 'SELECT fail', 'SELECT hang'];
/** From less than an answer takes to more than a lifetime. */
const MILLIS = [0, 0.1, 0.5, 0.5, 1, 1, 5, 5, 30, 30, 200, 900, 1_500, 6_000, 31_000, 70_000];

export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 24, arbitrary: fc.record({ kind: fc.constant('acquire' as const), signal: fc.boolean() }) },
  {
    weight: 16,
    arbitrary: fc.record({
      kind: fc.constant('query' as const),
      text: fc.constantFrom(...TEXTS),
      signal: fc.boolean(),
    }),
  },
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant('run' as const),
      which,
      text: fc.constantFrom('BEGIN', 'BEGIN', 'COMMIT', 'ROLLBACK', ...TEXTS),
    }),
  },
  {
    weight: 24,
    arbitrary: fc.record({
      kind: fc.constant('release' as const),
      which,
      how: fc.constantFrom('plain' as const, 'plain' as const, 'plain' as const, 'true' as const, 'error' as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('release again' as const), which }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('use released' as const), which }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('abort' as const), which }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('kill' as const), which }) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 2, max: 6 }))
      .map(([min, max]) => ({ kind: 'resize' as const, min: Math.min(min, max), max })),
  },
  {
    weight: 6,
    arbitrary: fc.constantFrom(
      ...(['evict', 'suspend', 'resume', 'resume', 'stop server', 'mute server', 'bad set-up'] as const),
      ...Array<'start server'>(7).fill('start server'),
    ).map((kind) => ({ kind })),
  },
  { weight: 26, arbitrary: fc.constantFrom(...MILLIS).map((millis) => ({ kind: 'pass' as const, millis })) },
);
