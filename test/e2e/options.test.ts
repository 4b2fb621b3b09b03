import { Injectable, Module, Scope, type DynamicModule } from '@nestjs/common';
import { REQUEST } from '@nestjs/core';
import { PgModule, type PgModuleOptions, type PgOptionsFactory } from 'nestjs-pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startScriptedServer, type ScriptedServer } from '../support/scripted-server.js';
import { rejection, startApp } from './support/test-app.js';

/** Nothing of what is refused here may get as far as to this server. */
let server: ScriptedServer;

beforeEach(async () => {
  server = await startScriptedServer((connection) => connection.reset());
});

afterEach(async () => {
  expect(server.accepted).toBe(0);
  await server.close();
});

const PASSWORD = 'wisteria-17';

/** What a user without the compiler's help may write. */
const untyped = (options: unknown): PgModuleOptions => ({
  host: server.host,
  port: server.port,
  password: PASSWORD,
  ...(options as PgModuleOptions),
});

async function refusal(module: DynamicModule): Promise<string> {
  const error = await rejection(startApp({ imports: [module] }));
  expect(error).toMatchObject({ name: 'PgModuleError', code: 'PG_CONFIG_INVALID' });
  expect(error.message).not.toContain('\n');
  expect(error.stack).not.toContain(PASSWORD);
  return error.message;
}

describe('a mistake in the options is an error of the start-up that says what and where:', () => {
  it.each<[string, unknown, string | RegExp]>([
    ['an option of the pool beside host', { max: 20 }, /"max".*pool: \{ max: \.\.\. \}/],
    ['a slip of the fingers', { databse: 'shop' }, /"databse" in the options: did you mean "database"\?/],
    ['a slip inside of pool', { pool: { mx: 20 } }, /"mx" in the pool: did you mean "max"\?/],
    ['a slip inside of ssl', { ssl: { mod: 'require' } }, /"mod".*ssl.*did you mean "mode"\?/],
    [
      'a slip inside of retry',
      { retry: { timeoutMilis: 1 } },
      /"timeoutMilis" in the retry: did you mean "timeoutMillis"\?/,
    ],
    ['something never heard of', { flavour: 'sweet' }, /Unknown key "flavour" in the options/],
    ['a wrong type', { pool: { max: '20' } }, 'pool.max must be a whole number from 1 to 100000; it is "20"'],
    ['a value out of range', { pool: { max: 0 } }, 'pool.max must be a whole number from 1 to 100000; it is 0'],
    ['a broken number', { pool: { min: Number.NaN } }, 'pool.min must be a whole number from 0 to 100000; it is NaN'],
    ['a contradiction', { pool: { min: 3, max: 2 } }, 'pool.min (3) is greater than pool.max (2)'],
    ['no object', { pool: 20 }, /pool.*object.*number/],
    ['a port out of range', { port: 70_000 }, 'port is 70000; it must be an integer from 1 to 65535'],
    ['a host of a wrong type', { host: 5432 }, 'host must be a string, not a number'],
    ['a mode that does not exist', { connect: 'soon' }, 'connect is "soon"; it must be one of eager, background, lazy'],
    [
      'a time out of range',
      { retry: { timeoutMillis: 0 } },
      'retry.timeoutMillis is 0; it must be a whole number from 1',
    ],
    ['retry: true', { retry: true }, /retry.*object.*boolean/],
    ['a hook that cannot be called', { connectionFactory: {} }, 'connectionFactory must be a function'],
    ['another one', { pool: { onConnect: 'SET x' } }, 'pool.onConnect must be a function; it is "SET x"'],
  ])('%s', async (_, options, message) => {
    const sync = await refusal(PgModule.forRoot(untyped(options)));
    const async = await refusal(PgModule.forRootAsync({ name: 'reports', useFactory: () => untyped(options) }));

    expect(sync).toMatch(/^PgModule "default": /);
    expect(sync).toMatch(message);
    expect(async).toBe(sync.replace('"default"', '"reports"'));
  });

  it.each([[undefined], [null], ['postgres://localhost'], [[]]])('a factory that returns %j', async (returned) => {
    const message = await refusal(PgModule.forRootAsync({ useFactory: () => returned as unknown as PgModuleOptions }));

    expect(message).toMatch(/^PgModule "default": The options must be an object with named values, not /);
  });

  it('a name inside of what the factory returns', async () => {
    const useFactory = (): PgModuleOptions => untyped({ name: 'reports' });

    expect(await refusal(PgModule.forRootAsync({ useFactory }))).toContain(
      'Unknown key "name" in the options: it stands beside useFactory, not in what it returns.',
    );
  });

  it('a broken connection string, of which it quotes nothing', async () => {
    const message = await refusal(
      PgModule.forRoot({ connectionString: `postgresql://app:${PASSWORD}@[::1/shop?sslmode=${PASSWORD}` }),
    );

    expect(message).not.toContain(PASSWORD);
  });
});

describe('forRootAsync', () => {
  const declare = (options: unknown): Error & { code?: string } => {
    try {
      PgModule.forRootAsync(options as Parameters<typeof PgModule.forRootAsync>[0]);
    } catch (error) {
      return error as Error;
    }
    throw new Error('was not refused');
  };

  it('refuses what it does not know, where it is written', () => {
    const useFactory = (): PgModuleOptions => ({});

    expect(declare({ useFactory, pool: { max: 5 } })).toMatchObject({
      code: 'PG_CONFIG_INVALID',
      message: expect.stringMatching(/"pool" in the options of PgModule.forRootAsync: .* that useFactory returns/),
    });
    expect(declare({ useFactory, injects: [] }).message).toContain('did you mean "inject"?');
  });

  it('needs one source of options, and no more', () => {
    class Factory implements PgOptionsFactory {
      createPgOptions(): PgModuleOptions {
        return {};
      }
    }
    expect(declare({}).message).toContain('needs one of useFactory, useClass, useExisting; it was given none.');
    expect(declare({ inject: [Factory] }).message).toContain('it was given none.');
    expect(declare({ useClass: Factory, useFactory: () => ({}) }).message).toContain('given useFactory and useClass.');
  });

  it.each(['', 5, null])('refuses the name %j', (name) => {
    expect(declare({ name, useFactory: () => ({}) })).toMatchObject({
      code: 'PG_CONFIG_INVALID',
      message: 'The name of a PgModule must be a text that is not empty.',
    });
  });
});

describe('request-scoped options are refused with the reason:', () => {
  @Injectable({ scope: Scope.REQUEST })
  class Tenant {}
  @Injectable({ scope: Scope.REQUEST, durable: true })
  class DurableTenant {}
  @Injectable()
  class NeedsTenant {
    constructor(readonly tenant: Tenant) {}
  }
  @Injectable({ scope: Scope.TRANSIENT })
  class TransientNeedsTenant {
    constructor(readonly tenant: Tenant) {}
  }
  const scoped = [Tenant, DurableTenant, NeedsTenant, TransientNeedsTenant];
  @Module({ providers: scoped, exports: scoped })
  class TenantModule {}
  @Injectable({ scope: Scope.REQUEST })
  class ScopedFactory implements PgOptionsFactory {
    createPgOptions(): PgModuleOptions {
      return untyped({});
    }
  }

  it.each<[string, () => DynamicModule]>([
    ...[...scoped, REQUEST].map((token): [string, () => DynamicModule] => [
      `inject: [${typeof token === 'string' ? token : token.name}]`,
      () => PgModule.forRootAsync({ imports: [TenantModule], inject: [token], useFactory: () => untyped({}) }),
    ]),
    ['useClass', () => PgModule.forRootAsync({ useClass: ScopedFactory })],
  ])('%s', async (_, module) => {
    const message = await refusal(module());

    expect(message).toMatch(/^PgModule "default": its options depend on a request-scoped provider/);
    expect(message).toContain('a new pool for every request');
  });

  it('whichever of several pools has them', async () => {
    const wrong = PgModule.forRootAsync({
      name: 'wrong',
      imports: [TenantModule],
      inject: [Tenant],
      useFactory: () => untyped({}),
    });
    const right = PgModule.forRootAsync({ name: 'right', useFactory: () => untyped({ connect: 'lazy' }) });

    for (const imports of [
      [wrong, right],
      [right, wrong],
    ]) {
      const error = await rejection(startApp({ imports }));
      expect(error.message).toMatch(/^PgModule "wrong": its options depend on a request-scoped provider/);
    }
  });
});
