import { describe, expect, it } from 'vitest';
import { resolvePoolOptions, type PoolOptions } from '../../../lib/pool/pool-options.js';

describe('resolvePoolOptions', () => {
  it('fills in the documented defaults, frozen', () => {
    const resolved = resolvePoolOptions({}, undefined);
    expect(resolved).toEqual({
      min: 0,
      max: 10,
      acquireTimeoutMillis: 30_000,
      connectTimeoutMillis: 10_000,
      maxWaiting: Infinity,
      idleTimeoutMillis: 300_000,
      maxLifetimeSeconds: 3_600,
      lifetimeJitter: 0.1,
      maxUses: 0,
      validateAfterIdleMillis: 30_000,
      validateTimeoutMillis: 2_000,
      keepaliveMillis: 0,
      leakThresholdMillis: 0,
      drainTimeoutMillis: 10_000,
      statementCache: 100,
      pipeline: 'auto',
      reset: 'rollback',
      allowExitOnIdle: true,
    });
    expect(Object.isFrozen(resolved)).toBe(true);
  });

  it("takes connect_timeout of the settings unless the pool's own is given", () => {
    expect(resolvePoolOptions({}, 3_000).connectTimeoutMillis).toBe(3_000);
    expect(resolvePoolOptions({}, 0).connectTimeoutMillis).toBe(0);
    expect(resolvePoolOptions({ connectTimeoutMillis: 5 }, 3_000).connectTimeoutMillis).toBe(5);
  });

  it.each<[PoolOptions | Record<string, unknown>, RegExp]>([
    [{ max: 0 }, /pool\.max must be a whole number from 1 to 100000; it is 0\./],
    [{ max: 1.5 }, /pool\.max .* it is 1\.5/],
    [{ max: '10' }, /pool\.max .* it is "10"/],
    [{ max: NaN }, /pool\.max .* it is NaN/],
    [{ min: -1 }, /pool\.min .* from 0/],
    [{ min: 11 }, /pool\.min \(11\) is greater than pool\.max \(10\)/],
    [{ idleTimeoutMillis: 2 ** 31 }, /pool\.idleTimeoutMillis .* to 2147483647/],
    [{ lifetimeJitter: 1.1 }, /pool\.lifetimeJitter must be a number from 0 to 1; it is 1\.1/],
    [{ maxUses: -1 }, /pool\.maxUses must be a whole number at least 0/],
    [{ onConnect: 'SET x' }, /pool\.onConnect must be a function; it is "SET x"/],
    [{ reset: 'discard' }, /pool\.reset must be 'rollback', 'clean', 'discard-all' or \{ sql \}; it is "discard"/],
    [{ reset: null as unknown as string }, /pool\.reset must be .* it is null/],
    [{ reset: { sql: ' ' } }, /pool\.reset\.sql must be one or more statements; it is " "/],
    [{ reset: { query: 'RESET ALL' } }, /"query".*pool\.reset/],
    [{ allowExitOnIdle: 1 }, /pool\.allowExitOnIdle must be true or false; it is 1/],
    [{ maxx: 3 }, /"maxx" .*did you mean "max"/],
    [{ maxconn: 3 }, /"maxconn" .*write max/],
    [{ connectionTimeoutMillis: 3 }, /acquireTimeoutMillis .* connectTimeoutMillis/],
  ])('refuses %o', (options, message) => {
    expect(() => resolvePoolOptions(options, undefined)).toThrow(message);
    expect(() => resolvePoolOptions(options, undefined)).toThrow(
      expect.objectContaining({ code: 'PG_CONFIG_INVALID' }),
    );
  });
});
