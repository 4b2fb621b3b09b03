import { createConnectionFactory, createPool, PgPool, type PgOptions } from 'nestjs-pg';
import pg from 'pg';
import { expect, it } from 'vitest';

const at: PgOptions = { host: 'db.example', port: 5433, user: 'app', database: 'shop', password: 'wisteria-17' };

it('a pool outside of Nest opens nothing until it is used', async () => {
  await using pool = createPool({ ...at, pool: { min: 2, max: 7 } });

  expect(pool).toBeInstanceOf(PgPool);
  expect(pool).toBeInstanceOf(pg.Pool);
  expect(pool.totalCount).toBe(0);
  expect(pool.name).toBe('default');
  expect(createPool(at, 'reports').name).toBe('reports');
});

it('it shows the settings that libraries look for, and no password', async () => {
  await using pool = createPool({ ...at, application_name: 'tests', pool: { max: 7 } });

  expect(pool.options).toMatchObject({ host: 'db.example', port: 5433, user: 'app', database: 'shop', max: 7 });
  expect(pool.options).toMatchObject({ application_name: 'tests' });
  expect(JSON.stringify(pool.options)).not.toContain('wisteria');
});

it.each<[unknown, string | RegExp]>([
  [{ max: 5 }, /"max" in the options: .*write pool: \{ max: \.\.\. \}/],
  [{ connect: 'lazy' }, 'it is for PgModule; here, await pool.open() to connect ahead, or just query.'],
  [{ retry: false }, 'it is for PgModule; here, give pool.open() a signal.'],
  [{ pool: { min: 2, max: 1 } }, 'pool.min (2) is greater than pool.max (1)'],
  [5, 'The options must be an object with named values, not a number'],
])('it refuses %j', (options, message) => {
  for (const create of [createPool, createConnectionFactory]) {
    expect(() => create(options as PgOptions)).toThrow(
      expect.objectContaining({ code: 'PG_CONFIG_INVALID', message: expect.toSatisfy(contains(message)) }),
    );
  }
});

const contains =
  (wanted: string | RegExp) =>
  (text: string): boolean =>
    typeof wanted === 'string' ? text.includes(wanted) : wanted.test(text);
