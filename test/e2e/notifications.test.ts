import { Controller, Injectable, Module, Scope, Sse, type DynamicModule } from '@nestjs/common';
import { APP_GUARD, ModuleRef } from '@nestjs/core';
import type { Server } from 'node:http';
import {
  getNotificationsToken,
  getPoolToken,
  InjectNotifications,
  InjectPool,
  OnNotification,
  PgModule,
  PgNotifications,
  Transactional,
  type PgModuleOptions,
  type PgNotification,
  type PgNotificationEvent,
  type PgPool,
} from 'nestjs-pg';
import { map, type Observable } from 'rxjs';
import { afterEach, describe, expect, it } from 'vitest';
import { deferred } from '../../lib/util/deferred.js';
import { adminQuery, sessionsOf, terminateBackends, useServer, waitFor } from '../support/postgres.js';
import { usePrograms } from './support/program.js';
import { compileApp, rejection, startApp, type TestApp } from './support/test-app.js';

const server = useServer();

function pg(options: PgModuleOptions & { name?: string } = {}): DynamicModule {
  return PgModule.forRoot({ connectionString: server().connectionString, application_name: 'app', ...options });
}

const notify = (channel: string, payload: string): Promise<unknown> =>
  adminQuery(server(), 'SELECT pg_notify($1, $2)', [channel, payload]);

/** The session says LISTEN last, so it is in force. */
async function listening(count = 1, name?: string): Promise<void> {
  const areListening = async (): Promise<boolean> =>
    (await sessionsOf(server(), name)).filter(({ query, state }) => query.startsWith('LISTEN') && state === 'idle')
      .length === count;
  await waitFor(areListening, { message: 'LISTEN' });
}

function until(condition: () => boolean): Promise<boolean> {
  return waitFor(condition, { message: 'the calls', deadline: 10_000 });
}

afterEach(async () => {
  await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'the sessions to end' });
});

describe('PgNotifications', () => {
  it('is injected by its type, or by the name of the pool', async () => {
    @Injectable()
    class Service {
      constructor(
        readonly byType: PgNotifications,
        @InjectNotifications() readonly byDefault: PgNotifications,
        @InjectNotifications('reports') readonly named: PgNotifications,
      ) {}
    }
    await using app = await startApp({
      imports: [pg(), pg({ name: 'reports', application_name: 'reports', connect: 'lazy' })],
      providers: [Service],
    });
    const { byType, byDefault, named } = app.module.get(Service);
    expect(byType).toBeInstanceOf(PgNotifications);
    expect(byDefault).toBe(byType);
    expect(named).not.toBe(byType);
    expect(app.module.get(getNotificationsToken('reports'))).toBe(named);
    const seen: PgNotificationEvent[] = [];
    named.listen('orders').subscribe((event) => seen.push(event));
    await until(() => seen.length === 1);
    await listening(1, 'reports');
    await byType.notify('orders', 'from the other pool');
    await until(() => seen.length === 2);
  });

  it('opens nothing until somebody listens', async () => {
    await using app = await startApp({ imports: [pg()] });
    expect(await sessionsOf(server())).toHaveLength(1);
    expect(app.log.lines('warn')).toEqual([]);
  });

  it('tells the logger of the module what happens to its connection', async () => {
    await using app = await startApp({ imports: [pg({ connect: 'lazy' })] });
    const kinds: string[] = [];
    app.module
      .get(PgNotifications)
      .listen('orders')
      .subscribe(({ kind }) => kinds.push(kind));
    await until(() => kinds.length === 1);
    await terminateBackends(server(), 'app');
    await until(() => kinds.length === 2);
    expect(kinds).toEqual(['listening', 'gap']);
    expect(app.log.lines('warn')).toEqual([
      expect.stringMatching(/^Pool "default": the connection for LISTEN was lost, next attempt in \d+ ms: terminating/),
    ]);
    expect(app.log.lines('log')).toContain('Pool "default": listening again.');
  });

  it('is complete before HTTP closes, so that streams of events do not hold up the shutdown', async () => {
    @Controller()
    class EventsController {
      constructor(private readonly notifications: PgNotifications) {}

      @Sse()
      events(): Observable<{ data: string }> {
        return this.notifications.listen('orders').pipe(map(({ kind }) => ({ data: kind })));
      }
    }
    await using compiled = await compileApp({ imports: [pg()], controllers: [EventsController] });
    const app = compiled.module.createNestApplication();
    await app.listen(0, '127.0.0.1');
    const response = await fetch(await app.getUrl());
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    while (!text.includes('data: listening')) text += (await reader.read()).value ?? '';

    await app.close();

    expect((app.getHttpServer() as Server).listening).toBe(false);
    expect((await reader.read()).done).toBe(true);
    expect(await sessionsOf(server())).toEqual([]);
    expect(compiled.log.lines('warn')).toEqual([]);
  });

  it('may be replaced by a stand-in', async () => {
    const stand = { what: 'a stand-in' };
    @Injectable()
    class Handlers {
      @OnNotification('orders')
      onOrder(): void {
        throw new Error('not called');
      }
    }
    await using app = await startApp({ imports: [pg()], providers: [Handlers] }, (builder) =>
      builder.overrideProvider(PgNotifications).useValue(stand),
    );
    expect(app.module.get<unknown>(PgNotifications)).toBe(stand);
    expect(await sessionsOf(server())).toHaveLength(1);
  });
});

describe('@OnNotification', () => {
  it('calls methods of providers and controllers, by channel and by pool, from the bootstrap to the shutdown', async () => {
    const calls: unknown[] = [];
    @Injectable()
    class Handlers {
      readonly name = 'handlers';

      @OnNotification('orders')
      @OnNotification('invoices')
      onBoth({ channel, payload, pid }: PgNotification): void {
        calls.push([this.name, channel, payload, typeof pid]);
      }

      @OnNotification('orders', { pool: 'reports' })
      onReports({ payload }: { payload: string }): void {
        calls.push(['reports', payload]);
      }

      @OnNotification('orders', { markers: true })
      onAll(event: PgNotificationEvent): void {
        calls.push(['all', event.kind]);
      }

      // The compiler knows what a method is called with.
      // @ts-expect-error -- without markers there are none
      @OnNotification('never')
      onGap(_event: { kind: 'gap' }): void {
        calls.push('never');
      }
    }
    @Controller()
    class Orders {
      @OnNotification('orders')
      onOrder(): void {
        calls.push('controller');
      }
    }
    await using app = await startApp({
      imports: [pg(), pg({ name: 'reports' })],
      providers: [Handlers, { provide: 'alias', useExisting: Handlers }],
      controllers: [Orders],
    });
    await listening(2);
    await until(() => calls.length === 1);
    await notify('orders', 'one');
    await until(() => calls.length === 5);
    await notify('invoices', 'two');
    await until(() => calls.length === 6);
    expect(calls).toEqual([['all', 'listening'], ...calls.slice(1, 5), ['handlers', 'invoices', 'two', 'number']]);
    expect(calls.slice(1, 5).sort()).toEqual(
      [['handlers', 'orders', 'one', 'number'], ['reports', 'one'], ['all', 'notification'], 'controller'].sort(),
    );
    await terminateBackends(server(), 'app');
    await until(() => calls.length === 7);
    expect(calls.at(-1)).toEqual(['all', 'gap']);

    await app.close();
    expect(await sessionsOf(server())).toEqual([]);
    await notify('orders', 'three');
    expect(calls).toHaveLength(7);
  });

  it('calls in order, each after the one before has settled; what a call throws is logged and ends nothing', async () => {
    const calls: string[] = [];
    @Injectable()
    class Handlers {
      @OnNotification('orders')
      async onOrder({ payload }: PgNotification): Promise<void> {
        calls.push(`begin ${payload}`);
        await new Promise((resolve) => setImmediate(resolve));
        calls.push(`end ${payload}`);
        if (payload === '2') throw new Error('rejected 2');
      }

      @OnNotification('orders')
      onOrderToo({ payload }: PgNotification): void {
        if (payload === '3') throw new Error('thrown 3');
        calls.push(`too ${payload}`);
      }
    }
    await using app = await startApp({ imports: [pg()], providers: [Handlers] });
    await listening();
    await adminQuery(server(), `SELECT pg_notify('orders', n::text) FROM generate_series(1, 100) AS n`);
    await until(() => calls.includes('end 100') && calls.includes('too 100'));

    const numbers = Array.from({ length: 100 }, (_, index) => String(index + 1));
    expect(calls.filter((call) => !call.startsWith('too'))).toEqual(
      numbers.flatMap((number) => [`begin ${number}`, `end ${number}`]),
    );
    expect(calls.filter((call) => call.startsWith('too'))).toHaveLength(99);
    expect(app.log.lines('error')).toEqual([
      '@OnNotification("orders") Handlers.onOrderToo() failed: thrown 3',
      '@OnNotification("orders") Handlers.onOrder() failed: rejected 2',
    ]);
  });

  it('goes on after what cannot heal, and says so', async () => {
    let isPermitted = true;
    const payloads: string[] = [];
    @Injectable()
    class Handlers {
      @OnNotification('orders')
      onOrder({ payload }: PgNotification): void {
        payloads.push(payload);
      }
    }
    const { user, password } = server();
    await using app = await startApp({
      imports: [
        pg({
          connect: 'lazy',
          connectionFactory: async (connect, options) => {
            if (isPermitted) return connect(options);
            const { createConnectionFactory } = await import('nestjs-pg');
            return createConnectionFactory({
              ...{ host: '127.0.0.1', port: server().port, user, password, database: 'nowhere' },
            })(options);
          },
        }),
      ],
      providers: [Handlers],
    });
    await listening();
    isPermitted = false;
    await terminateBackends(server(), 'app');
    await until(() => app.log.lines('error').length === 1);
    isPermitted = true;
    await listening();
    await notify('orders', 'back');
    await until(() => payloads.length === 1);
    expect(app.log.lines('error')).toEqual([
      expect.stringMatching(
        /^@OnNotification\("orders"\) Handlers\.onOrder\(\) cannot listen, and tries again in .*: Could not connect.*does not exist/,
      ),
    ]);
  });

  it('works with inheritance: a method is inherited with its channel, and overriding it without one takes it back', async () => {
    const calls: string[] = [];
    abstract class Base {
      @OnNotification('orders')
      onOrder(): void {
        calls.push(`${this.constructor.name}.onOrder`);
      }

      @OnNotification('orders')
      onSecond(): void {
        calls.push(`${this.constructor.name}.onSecond`);
      }
    }
    @Injectable()
    class First extends Base {}
    @Injectable()
    class Second extends First {
      override onSecond(): void {
        calls.push('never');
      }
    }
    await using app = await startApp({ imports: [pg()], providers: [First, Second] });
    expect(app.log.lines('error')).toEqual([]);
    await listening();
    await notify('orders', '');
    await until(() => calls.length >= 3);
    await notify('orders', '');
    await until(() => calls.length >= 6);
    expect(calls.sort()).toEqual(
      ['First.onOrder', 'First.onSecond', 'Second.onOrder'].flatMap((call) => [call, call]).sort(),
    );
  });

  it('goes with @Transactional(), in any order, and is called outside of any transaction without it', async () => {
    const seen: unknown[] = [];
    @Injectable()
    class Handlers {
      constructor(@InjectPool() private readonly pool: PgPool) {}

      @OnNotification('a')
      @Transactional()
      async first(): Promise<void> {
        seen.push(['first', this.pool.currentTransaction?.isOpen]);
      }

      @Transactional()
      @OnNotification('a')
      async second(): Promise<void> {
        seen.push(['second', this.pool.currentTransaction?.isOpen]);
      }

      @OnNotification('a')
      async third(): Promise<void> {
        seen.push(['third', this.pool.currentTransaction]);
      }
    }
    await using app = await startApp({ imports: [pg()], providers: [Handlers] });
    await listening();
    await app.module.get(PgNotifications).notify('a');
    await until(() => seen.length === 3);
    expect(seen.sort()).toEqual([
      ['first', true],
      ['second', true],
      ['third', undefined],
    ]);
  });

  it('at shutdown, lets the call under way end with the pool open, and makes no more', async () => {
    const gate = deferred<undefined>();
    const calls: unknown[] = [];
    @Injectable()
    class Handlers {
      constructor(@InjectPool() private readonly pool: PgPool) {}

      @OnNotification('orders')
      async onOrder({ payload }: PgNotification): Promise<void> {
        calls.push(`begin ${payload}`);
        await gate.promise;
        calls.push((await this.pool.query('SELECT 1 AS one')).rows);
      }
    }
    await using app = await startApp({ imports: [pg()], providers: [Handlers] });
    await listening();
    await notify('orders', '1');
    await notify('orders', '2');
    await until(() => calls.length === 1);
    const closing = app.close();
    const hasLeft = async (): Promise<boolean> =>
      (await sessionsOf(server())).some(({ query }) => query.startsWith('UNLISTEN'));
    await waitFor(hasLeft, { message: 'UNLISTEN' });
    gate.resolve(undefined);
    await closing;
    expect(calls).toEqual(['begin 1', [{ one: 1 }]]);
    expect(app.log.lines('error')).toEqual([]);
    expect(app.log.lines('warn')).toEqual([]);
  });

  describe('is refused at the bootstrap, which leaves nothing open,', () => {
    it.each([
      ['request-scoped', Scope.REQUEST],
      ['transient', Scope.TRANSIENT],
    ])('in a %s provider', async (_, scope) => {
      @Injectable({ scope })
      class Handlers {
        @OnNotification('orders')
        onOrder(): void {
          throw new Error('not called');
        }
      }
      const compiled = await compileApp({ imports: [pg()], providers: [Handlers] });
      expect(await rejection(compiled.init())).toMatchObject({
        code: 'PG_CONFIG_INVALID',
        message: expect.stringMatching(
          /^@OnNotification\("orders"\) Handlers\.onOrder\(\): its provider is request-scoped or transient.*Make it a singleton/,
        ) as string,
      });
      expect(await sessionsOf(server())).toEqual([]);
    });

    it('in a provider that injects a request-scoped one', async () => {
      @Injectable({ scope: Scope.REQUEST })
      class PerRequest {}
      @Controller()
      class Orders {
        constructor(readonly perRequest: PerRequest) {}

        @OnNotification('orders')
        onOrder(): void {
          throw new Error('not called');
        }
      }
      const compiled = await compileApp({ imports: [pg()], providers: [PerRequest], controllers: [Orders] });
      expect(await rejection(compiled.init())).toMatchObject({ code: 'PG_CONFIG_INVALID' });
    });

    it('for a pool that there is not', async () => {
      @Injectable()
      class Handlers {
        @OnNotification('orders', { pool: 'rapports' })
        onOrder(): void {
          throw new Error('not called');
        }
      }
      const compiled = await compileApp({ imports: [pg()], providers: [Handlers] });
      expect(await rejection(compiled.init())).toMatchObject({
        code: 'PG_CONFIG_INVALID',
        message: expect.stringContaining(
          '@OnNotification("orders") Handlers.onOrder(): there is no pool "rapports" in this application.',
        ) as string,
      });
    });
  });

  it('is refused where it is written, for what cannot be', () => {
    const declare = (work: () => unknown): (() => unknown) => work;
    expect(declare(() => OnNotification(''))).toThrow('must not be empty');
    expect(declare(() => OnNotification('x'.repeat(64)))).toThrow('64 bytes');
    expect(declare(() => OnNotification('x', { pol: 'y' } as object))).toThrow('did you mean "pool"');
    expect(declare(() => OnNotification('x', { pool: '' }))).toThrow('pool must be the name of a pool');
    expect(declare(() => OnNotification('x', { markers: 1 } as object))).toThrow('markers must be true or false');
    const decorator = OnNotification('x') as (target: object, name: string | symbol, descriptor?: object) => void;
    class Some {
      static on(): void {}
    }
    expect(declare(() => decorator(Some, 'on', { value: Some.on }))).toThrow('is for methods of providers');
    expect(declare(() => decorator(Some.prototype, Symbol('on'), { value: Some.on }))).toThrow('is for methods');
    expect(declare(() => decorator(Some.prototype, 'field'))).toThrow('is for methods');
  });

  it('is looked for once in an application, whatever else is in it', async () => {
    const calls: string[] = [];
    @Injectable()
    class Handlers {
      constructor(readonly moduleRef: ModuleRef) {}

      get costly(): never {
        throw new Error('an accessor was read');
      }

      @OnNotification('orders')
      onOrder(): void {
        calls.push('called');
      }
    }
    @Module({ providers: [Handlers], exports: [Handlers] })
    class Feature {}
    @Module({ imports: [Feature] })
    class Other {}
    await using app: TestApp = await startApp({
      imports: [Feature, Other, pg(), pg({ name: 'second', connect: 'lazy' })],
      providers: [
        { provide: 'nothing', useValue: undefined },
        { provide: 'null', useValue: null },
        { provide: 'bare', useValue: Object.create(null) },
        { provide: 'text', useFactory: () => 'text' },
        { provide: APP_GUARD, useValue: { canActivate: () => true } },
      ],
    });
    await listening();
    await app.module.get<PgPool>(getPoolToken()).query(`SELECT pg_notify('orders', '')`);
    await until(() => calls.length === 1);
    await app.module.get<PgPool>(getPoolToken()).query(`NOTIFY orders, 'again'`);
    await until(() => calls.length === 2);
    expect(calls).toEqual(['called', 'called']);
  });
});

describe('a script that listens', () => {
  const run = usePrograms();

  it('lives as long as somebody is subscribed, and ends by itself when nobody is', async () => {
    await using script = run('listener', { DATABASE_URL: server().connectionString });
    await waitFor(() => script.output === 'listening\n', { message: 'listening', deadline: 30_000 });
    await terminateBackends(server(), 'listener');
    await waitFor(() => script.output.endsWith('gap\n'), { message: 'the gap', deadline: 30_000 });
    await notify('orders', 'go on');
    await notify('orders', 'stop');
    expect(await script.exit).toEqual({ code: 0, signal: null });
    expect(script.output).toBe('listening\ngap\ngo on\nstop\n');
  });
});
