import type { DynamicModule } from '@nestjs/common';
import type pg from 'pg';
import { describe, expectTypeOf, it } from 'vitest';
import {
  PgModule,
  type ConnectionFactory,
  type createConnectionFactory,
  type createPool,
  type DialFailure,
  type PgClient,
  type PgLease,
  type PgModuleOptions,
  type PgOptions,
  type PgOptionsFactory,
  type PgPool,
} from 'nestjs-pg';

// The compiler judges these; running them is only a matter of form.

describe('in the place of pg', () => {
  it('a pool is a pg.Pool, a lease a pg.PoolClient, and a connection a pg.Client', () => {
    expectTypeOf<PgPool>().toExtend<pg.Pool>();
    expectTypeOf<PgLease>().toExtend<pg.PoolClient>();
    expectTypeOf<PgLease>().toExtend<PgClient>();
    expectTypeOf<PgClient>().toExtend<pg.Client>();
    const take = (pool: PgPool) => pool.connect();
    expectTypeOf(take).returns.resolves.toEqualTypeOf<PgLease>();
    expectTypeOf<ReturnType<ConnectionFactory>>().toEqualTypeOf<Promise<PgClient>>();
  });

  it('queries are typed as those of pg', () => {
    interface Row {
      id: number;
    }
    const typed = (pool: PgPool): Promise<pg.QueryResult<Row>> => pool.query<Row>('SELECT 1 AS id');
    const array = (pool: PgPool): Promise<pg.QueryArrayResult<[number]>> =>
      pool.query<[number]>({ text: 'SELECT 1', rowMode: 'array' });
    const values = (pool: PgPool): Promise<pg.QueryResult> => pool.query('SELECT $1::int', [1]);
    const callback = (pool: PgPool, told: (error: Error, result: pg.QueryResult) => void): void =>
      pool.query('SELECT 1', told);
    for (const query of [typed, array, values, callback]) expectTypeOf(query).toBeFunction();
  });

  it('events are typed, pg’s and ours', () => {
    const listen = (pool: PgPool): PgPool =>
      pool
        .on('dialFailed', (failure) => expectTypeOf(failure).toEqualTypeOf<DialFailure>())
        .on('warning', (message) => expectTypeOf(message).toEqualTypeOf<string>());
    expectTypeOf(listen).toBeFunction();
  });

  it('leases, pools and connections can be taken with `await using`', () => {
    expectTypeOf<PgPool>().toExtend<AsyncDisposable>();
    expectTypeOf<PgClient>().toExtend<AsyncDisposable>();
    expectTypeOf<PgLease>().toExtend<AsyncDisposable & Disposable>();
  });
});

describe('options', () => {
  it('of the module are those of a pool, and how to start', () => {
    expectTypeOf<PgModuleOptions>().toExtend<PgOptions>();
    expectTypeOf<Exclude<keyof PgModuleOptions, keyof PgOptions>>().toEqualTypeOf<'connect' | 'retry'>();
    expectTypeOf<PgModuleOptions['connect']>().toEqualTypeOf<'eager' | 'background' | 'lazy' | undefined>();
    expectTypeOf<Parameters<typeof createPool>>().toEqualTypeOf<[options?: PgOptions, name?: string]>();
    expectTypeOf<Parameters<typeof createConnectionFactory>>().toEqualTypeOf<[options?: PgOptions]>();
  });

  it('that are misplaced or misspelled do not compile', () => {
    // @ts-expect-error it is an option of the pool
    ({ max: 10 }) satisfies PgOptions;
    // @ts-expect-error for the module only
    ({ connect: 'lazy' }) satisfies PgOptions;
    // @ts-expect-error no such mode
    ({ connect: 'soon' }) satisfies PgModuleOptions;
    // @ts-expect-error milliseconds are a number
    ({ pool: { idleTimeoutMillis: '1s' } }) satisfies PgOptions;
    // @ts-expect-error the name stands beside the factory
    ({ name: 'reports' }) satisfies PgModuleOptions;
  });

  it('reach the module in each of Nest’s ways', () => {
    class Factory implements PgOptionsFactory {
      createPgOptions(): PgModuleOptions {
        return { connect: 'lazy' };
      }
    }
    expectTypeOf(PgModule.forRoot({ name: 'reports', host: 'db' })).toEqualTypeOf<DynamicModule>();
    expectTypeOf(PgModule.forRootAsync({ name: 'reports', useClass: Factory })).toEqualTypeOf<DynamicModule>();
    expectTypeOf(PgModule.forRootAsync({ useFactory: () => ({ host: 'db' }) })).toEqualTypeOf<DynamicModule>();
    // @ts-expect-error no options, but a number
    PgModule.forRootAsync({ useFactory: () => 5 });
    // @ts-expect-error it is an option of the pool
    PgModule.forRoot({ max: 5 });
  });
});
