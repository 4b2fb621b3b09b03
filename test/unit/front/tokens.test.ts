import { getConnectionFactoryToken, getPoolToken, PG_CONNECTION_FACTORY, PG_POOL } from 'nestjs-pg';
import { expect, it } from 'vitest';

it('a name has one token each for its pool and its connection factory', () => {
  const tokens = ['reports', 'audit'].flatMap((name) => [getPoolToken(name), getConnectionFactoryToken(name)]);

  expect(new Set([...tokens, PG_POOL, PG_CONNECTION_FACTORY]).size).toBe(6);
  expect(getPoolToken('reports')).toBe(getPoolToken('reports'));
});

it.each([[], [undefined], ['default']])('the default pool has the default tokens: %j', (...names) => {
  expect(getPoolToken(...names)).toBe(PG_POOL);
  expect(getConnectionFactoryToken(...names)).toBe(PG_CONNECTION_FACTORY);
});

it('tokens are the same in every copy of the package that an application may have', () => {
  for (const token of [PG_POOL, PG_CONNECTION_FACTORY, getPoolToken('reports')]) {
    expect(Symbol.keyFor(token)).toMatch(/^nestjs-pg:/);
  }
});
