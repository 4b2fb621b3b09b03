import 'reflect-metadata';
import { Inject, Injectable, Scope, SetMetadata, type Type } from '@nestjs/common';
import { concat, defer, firstValueFrom, lastValueFrom, mergeMap, Observable, of, throwError, toArray } from 'rxjs';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  afterCommit,
  createPool,
  getPoolToken,
  PG_POOL,
  PgModule,
  PgPool,
  Transactional,
  type TransactionPropagation,
} from 'nestjs-pg';
import { deferred } from '../../lib/util/deferred.js';
import { adminQuery, useServer } from '../support/postgres.js';
import { rejection, startApp, TestApp } from './support/test-app.js';

const server = useServer();
const FAILURE = new Error('the method has failed');

/** What the method's own statement sees of the transaction that it runs in. */
interface Inside {
  readonly pid: number;
  /** The transaction's id on the server; another one outside of it. */
  readonly xid: string;
  readonly isolation: string;
  readonly isOpen: boolean;
}

const INSIDE = `
  SELECT pg_backend_pid() AS pid, pg_current_xact_id()::text AS xid, current_setting('transaction_isolation') AS isolation`;

async function inside(pool: PgPool): Promise<Inside> {
  const { rows } = await pool.query<Omit<Inside, 'isOpen'>>(INSIDE);
  return { ...rows[0]!, isOpen: pool.currentTransaction?.isOpen ?? false };
}

@Injectable()
class Ledger {
  constructor(@Inject(PG_POOL) readonly pool: PgPool) {}

  async add(name: string): Promise<void> {
    await this.pool.query('INSERT INTO entry (name) VALUES ($1)', [name]);
  }
}

@Injectable()
class Books {
  constructor(
    readonly ledger: Ledger,
    @Inject(PG_POOL) readonly pool: PgPool,
  ) {}

  @Transactional()
  async enter(names: string[], failure?: Error): Promise<number> {
    for (const name of names) await this.ledger.add(name);
    if (failure) throw failure;
    return names.length;
  }

  // The decorator sees no difference between these and async methods.
  @Transactional({ isolation: 'serializable' })
  plain(): Promise<Inside> {
    return inside(this.pool);
  }

  @Transactional()
  throwsAtOnce(): Promise<never> {
    throw FAILURE;
  }

  @Transactional()
  async around<T>(work: () => Promise<T>): Promise<[Inside, T]> {
    return [await inside(this.pool), await work()];
  }

  @Transactional({ propagation: 'Required' })
  required(): Promise<Inside> {
    return inside(this.pool);
  }

  @Transactional({ propagation: 'RequiresNew' })
  async requiresNew(name?: string, failure?: Error): Promise<Inside> {
    if (name !== undefined) await this.ledger.add(name);
    if (failure) throw failure;
    return inside(this.pool);
  }

  @Transactional({ propagation: 'Nested' })
  async nested(name?: string, failure?: Error): Promise<Inside> {
    if (name !== undefined) await this.ledger.add(name);
    if (failure) throw failure;
    return inside(this.pool);
  }

  @Transactional({ propagation: 'Supports' })
  supports(): Promise<Inside> {
    return inside(this.pool);
  }

  @Transactional({ propagation: 'Mandatory' })
  mandatory(): Promise<Inside> {
    return inside(this.pool);
  }

  @Transactional({ propagation: 'Mandatory', isolation: 'serializable' })
  mandatorySerializable(): Promise<Inside> {
    return inside(this.pool);
  }

  @Transactional({ propagation: 'NotSupported' })
  notSupported(): Promise<Inside> {
    return inside(this.pool);
  }

  @Transactional({ propagation: 'Never' })
  never(): Promise<Inside> {
    return inside(this.pool);
  }

  runs = 0;

  @Transactional({ retry: { baseMillis: 1 } })
  async flaky(): Promise<number> {
    this.runs++;
    await this.ledger.add(`run ${this.runs}`);
    if (this.runs < 3) await this.pool.query(`DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$`);
    return this.runs;
  }

  @Transactional()
  enter$(names: string[], failure?: Error): Observable<string> {
    const added = of(...names).pipe(mergeMap((name) => defer(() => this.ledger.add(name).then(() => name)), 1));
    return failure
      ? concat(
          added,
          throwError(() => failure),
        )
      : added;
  }

  @Transactional()
  flaky$(): Observable<number> {
    return defer(() => this.flaky());
  }

  @Transactional({ propagation: 'Never' })
  never$(): Observable<Inside> {
    return defer(() => inside(this.pool));
  }

  @Transactional({ propagation: 'RequiresNew' })
  requiresNew$(): Observable<Inside> {
    return defer(() => inside(this.pool));
  }

  @Transactional()
  async promisesObservable(): Promise<Observable<number>> {
    await this.ledger.add('never');
    return of(1);
  }
}

const entries = async (): Promise<string[]> =>
  (await adminQuery<{ name: string }>(server(), 'SELECT name FROM entry ORDER BY id')).map(({ name }) => name);

const options = (): { connectionString: string } => ({ connectionString: server().connectionString });

function appWith(...providers: Type[]): Promise<TestApp> {
  return startApp({ imports: [PgModule.forRoot(options())], providers: [Ledger, Books, ...providers] });
}

let app: TestApp;
let books: Books;

beforeAll(async () => {
  await adminQuery(server(), 'CREATE TABLE entry (id serial PRIMARY KEY, name text NOT NULL UNIQUE)');
  app = await appWith();
  books = app.module.get(Books);
});

beforeEach(async () => {
  await adminQuery(server(), 'TRUNCATE entry');
});

afterAll(async () => {
  await app?.close();
});

describe('@Transactional()', () => {
  it('commits when the method returns, across the services that it calls', async () => {
    expect(await books.enter(['one', 'two'])).toBe(2);
    expect(await entries()).toEqual(['one', 'two']);
  });

  it('rolls back when the method throws, with the very error', async () => {
    expect(await rejection(books.enter(['one', 'two'], FAILURE))).toBe(FAILURE);
    expect(await rejection(books.throwsAtOnce())).toBe(FAILURE);
    expect(await entries()).toEqual([]);
  });

  it('passes the error of the server on as it is', async () => {
    const error = await rejection(books.enter(['same', 'same']));
    expect(error).toMatchObject({ name: 'error', code: '23505' });
    expect(await entries()).toEqual([]);
  });

  it('takes a method that returns a promise without being async, and gives it its options', async () => {
    expect(await books.plain()).toMatchObject({ isolation: 'serializable', isOpen: true });
  });

  it('runs the method again after a serialization failure, in a transaction that knows nothing of the first', async () => {
    books.runs = 0;
    expect(await books.flaky()).toBe(3);
    expect(await entries()).toEqual(['run 3']);
  });

  it('keeps the transactions of calls at the same time apart', async () => {
    const failures = await Promise.allSettled(
      Array.from({ length: 40 }, (_, index) => books.enter([`${index}`], index % 2 ? FAILURE : undefined)),
    );
    expect(failures.filter(({ status }) => status === 'rejected')).toHaveLength(20);
    expect((await entries()).sort()).toEqual(Array.from({ length: 20 }, (_, index) => `${index * 2}`).sort());
  });
});

describe('propagation', () => {
  const around = <T>(work: () => Promise<T>): Promise<[Inside, T]> => books.around(work);

  it.each<[TransactionPropagation, () => Promise<Inside>]>([
    ['Required', () => books.required()],
    ['RequiresNew', () => books.requiresNew()],
    ['Nested', () => books.nested()],
  ])('%s begins a transaction where there is none', async (_, call) => {
    expect(await call()).toMatchObject({ isOpen: true });
  });

  it.each<[TransactionPropagation, () => Promise<Inside>]>([
    ['Supports', () => books.supports()],
    ['NotSupported', () => books.notSupported()],
    ['Never', () => books.never()],
  ])('%s runs without a transaction where there is none', async (_, call) => {
    expect(await call()).toMatchObject({ isOpen: false });
  });

  it.each<[TransactionPropagation, () => Promise<Inside>]>([
    ['Required', () => books.required()],
    ['Supports', () => books.supports()],
    ['Mandatory', () => books.mandatory()],
  ])('%s takes part in the one around it, with no savepoint', async (_, call) => {
    const [outer, inner] = await around(async () => {
      const transaction = app.pool().currentTransaction;
      const seen = await call();
      expect(app.pool().currentTransaction).toBe(transaction);
      return seen;
    });
    expect(inner).toEqual(outer);
  });

  it('Required: an error that the caller catches undoes nothing', async () => {
    await around(() => books.enter(['stays'], FAILURE).catch(() => undefined));
    expect(await entries()).toEqual(['stays']);
  });

  it('Nested: an error that the caller catches undoes what the method did, and no more', async () => {
    await around(async () => {
      await books.ledger.add('stays');
      expect(await rejection(books.nested('goes', FAILURE))).toBe(FAILURE);
      await books.nested('stays, too');
    });
    expect(await entries()).toEqual(['stays', 'stays, too']);
  });

  it('Nested: is undone with the transaction around it', async () => {
    const outer = around(async () => {
      await books.nested('goes');
      throw FAILURE;
    });
    expect(await rejection(outer)).toBe(FAILURE);
    expect(await entries()).toEqual([]);
  });

  it('RequiresNew: has a transaction of its own, that stays when the outer one goes', async () => {
    let seen: [Inside, Inside] | undefined;
    const outer = books.around(async () => {
      seen = [await inside(app.pool()), await books.requiresNew('stays')];
      throw FAILURE;
    });
    expect(await rejection(outer)).toBe(FAILURE);
    expect(seen![0].pid).not.toBe(seen![1].pid);
    expect(seen![1].isOpen).toBe(true);
    expect(await entries()).toEqual(['stays']);
  });

  it('NotSupported: runs outside of the transaction around it, which goes on afterwards', async () => {
    const [outer, [within, after]] = await around(async () => [await books.notSupported(), await inside(app.pool())]);
    expect(within).toMatchObject({ isOpen: false });
    expect(within.pid).not.toBe(outer.pid);
    expect(after).toEqual(outer);
  });

  it('Mandatory: without a transaction it does not run', async () => {
    const error = await rejection(books.mandatory());
    expect(error).toMatchObject({ code: 'PG_TRANSACTION_REQUIRED' });
    expect(error.message).toContain('Books.mandatory()');
  });

  it('Never: inside of a transaction it does not run', async () => {
    const error = await rejection(around(() => books.never()));
    expect(error).toMatchObject({ code: 'PG_TRANSACTION_FORBIDDEN' });
    expect(error.message).toContain('Books.never()');
  });

  it('refuses options that cannot be had any more', async () => {
    expect(await rejection(around(() => books.plain()))).toMatchObject({ code: 'PG_CONFIG_INVALID' });
    expect(await rejection(around(() => books.mandatorySerializable()))).toMatchObject({ code: 'PG_CONFIG_INVALID' });
    const given = app.pool().transaction(() => books.mandatorySerializable(), { isolation: 'serializable' });
    expect(await given).toMatchObject({ isolation: 'serializable' });
  });

  it('what has outlived its transaction gets no other one', async () => {
    let late: Promise<unknown> | undefined;
    let go: (() => void) | undefined;
    const gone = new Promise<void>((resolve) => (go = resolve));
    await around(async () => {
      late = gone.then(() => books.enter([]));
    });
    go!();
    expect(await rejection(late!)).toMatchObject({ code: 'PG_TRANSACTION_ENDED' });
  });

  it.each(['Supports', 'NotSupported', 'Never'] as const)('%s takes no options of a transaction', (propagation) => {
    expect(() => Transactional({ propagation, isolation: 'serializable' })).toThrow(/isolation has no effect/);
  });
});

describe('an Observable', () => {
  it('delivers its values after the COMMIT, and completes', async () => {
    const seen: [string, string[]][] = [];
    await lastValueFrom(
      books.enter$(['one', 'two']).pipe(mergeMap(async (name) => void seen.push([name, await entries()]))),
    );
    const all = ['one', 'two'];
    expect(seen.sort()).toEqual([
      ['one', all],
      ['two', all],
    ]);
  });

  it('does nothing before it is subscribed to, and has a transaction for each subscription', async () => {
    const both = books.requiresNew$();
    const [first, second] = [await lastValueFrom(both), await lastValueFrom(both)];
    expect(first.xid).not.toBe(second.xid);
    expect([first.isOpen, second.isOpen]).toEqual([true, true]);
  });

  it('has committed when the first value is seen, so that whoever leaves then undoes nothing', async () => {
    expect(await firstValueFrom(books.enter$(['one', 'two']))).toBe('one');
    expect(await entries()).toEqual(['one', 'two']);
  });

  it('rolls back on an error, and delivers nothing but that', async () => {
    const next = vi.fn();
    const error = await new Promise((resolve) => books.enter$(['one'], FAILURE).subscribe({ next, error: resolve }));
    expect(error).toBe(FAILURE);
    expect(next).not.toHaveBeenCalled();
    expect(await entries()).toEqual([]);
  });

  it('rolls back when its subscriber leaves before the end', async () => {
    const rolledBack = vi.fn();
    const started = deferred<void>();
    vi.spyOn(books.ledger, 'add').mockImplementationOnce(async (name) => {
      await books.ledger.add(name);
      app.pool().currentTransaction!.afterRollback(rolledBack);
      started.resolve();
      await new Promise(() => undefined);
    });
    const subscription = books.enter$(['one']).subscribe();
    await started.promise;
    subscription.unsubscribe();
    await vi.waitFor(() => expect(rolledBack).toHaveBeenCalledOnce());
    expect(await entries()).toEqual([]);
    await vi.waitFor(() => expect(app.pool().stats()).toMatchObject({ leased: 0 }));
  });

  it('runs again after a serialization failure, and delivers only what the last run gave', async () => {
    books.runs = 0;
    expect(await lastValueFrom(books.flaky$().pipe(toArray()))).toEqual([3]);
    expect(await entries()).toEqual(['run 3']);
  });

  it('takes part in a transaction around its subscription, and is refused by Never there', async () => {
    const [outer, seen] = await books.around(() => lastValueFrom(books.enter$(['goes on']).pipe(toArray())));
    expect(seen).toEqual(['goes on']);
    expect(outer.isOpen).toBe(true);
    expect(await rejection(books.around(() => lastValueFrom(books.never$())))).toMatchObject({
      code: 'PG_TRANSACTION_FORBIDDEN',
    });
    expect(await lastValueFrom(books.never$())).toMatchObject({ isOpen: false });
  });

  it('is refused where a promise brings it: its subscription would come after the transaction', async () => {
    const error = await rejection(books.promisesObservable());
    expect(error).toMatchObject({ code: 'PG_CONFIG_INVALID' });
    expect(error.message).toContain('Books.promisesObservable() returned an Observable');
    expect(await entries()).toEqual([]);
  });
});

describe('a class', () => {
  class Base {
    @Inject(PG_POOL) readonly pool!: PgPool;

    async inherited(): Promise<Inside> {
      return inside(this.pool);
    }

    async overridden(): Promise<Inside> {
      return inside(this.pool);
    }
  }

  @Transactional()
  @Injectable()
  class Whole extends Base {
    initialised: Inside | undefined;

    async onModuleInit(): Promise<void> {
      this.initialised = await inside(this.pool);
    }

    get accessor(): boolean {
      return this.pool.currentTransaction !== undefined;
    }

    async own(): Promise<Inside> {
      return inside(this.pool);
    }

    override async overridden(): Promise<Inside> {
      return super.overridden();
    }

    @Transactional({ isolation: 'serializable' })
    async itself(): Promise<Inside> {
      return inside(this.pool);
    }

    @Transactional({ propagation: 'Never' })
    async never(): Promise<Inside> {
      return inside(this.pool);
    }

    sum(...numbers: number[]): number {
      return numbers.reduce((total, one) => total + one, 0);
    }

    notAsync(): Promise<Inside> {
      return inside(this.pool);
    }

    notAsync$(): Observable<Inside> {
      return defer(() => inside(this.pool));
    }

    static make(): string {
      return 'made';
    }
  }

  @Injectable()
  class Further extends Whole {
    async further(): Promise<Inside> {
      return inside(this.pool);
    }
  }

  let own: TestApp;
  let whole: Whole;
  beforeAll(async () => {
    own = await appWith(Whole, Further);
    whole = own.module.get(Whole);
  });
  afterAll(() => own.close());

  it('has a transaction for its async methods, and for those that it inherits', async () => {
    for (const method of ['own', 'inherited', 'overridden'] as const) {
      expect(await whole[method](), method).toMatchObject({ isOpen: true, isolation: 'read committed' });
    }
  });

  it('leaves the class that it extends alone', async () => {
    const base = Object.assign(new Base(), { pool: own.pool() });
    expect(await base.inherited()).toMatchObject({ isOpen: false });
  });

  it('leaves to methods that are decorated themselves what they say', async () => {
    expect(await whole.itself()).toMatchObject({ isolation: 'serializable' });
    expect(await whole.never()).toMatchObject({ isOpen: false });
  });

  it('leaves lifecycle hooks, accessors, static and other synchronous methods as they are', () => {
    expect(whole.initialised).toMatchObject({ isOpen: false });
    expect(whole.accessor).toBe(false);
    expect(whole.sum(1, 2, 3)).toBe(6);
    expect(Whole.make()).toBe('made');
  });

  it('refuses methods that turn out to be asynchronous, and says what to do', () => {
    expect(() => whole.notAsync()).toThrow(/Whole\.notAsync\(\) returned a promise.* Declare it async/);
    expect(() => whole.notAsync$()).toThrow(/Whole\.notAsync\$\(\) returned an Observable/);
  });

  it('gives its transactions to a subclass, and not to what that adds', async () => {
    const further = own.module.get(Further);
    expect(await further.own()).toMatchObject({ isOpen: true });
    expect(await further.further()).toMatchObject({ isOpen: false });
  });

  it('is refused without an async method', () => {
    const make = (): void => {
      @Transactional()
      class Nothing {
        list(): string[] {
          return [];
        }
      }
      void Nothing;
    };
    expect(make).toThrow(/class Nothing: it has no method that is async/);
  });
});

describe('what cannot be decorated', () => {
  // As a compiler without types lets it through.
  const decorate = (target: object, name: string): void => {
    (Transactional() as unknown as MethodDecorator)(target, name, Object.getOwnPropertyDescriptor(target, name)!);
  };

  class Odd {
    static async made(): Promise<void> {}
    get accessor(): number {
      return 1;
    }
    *generator(): Generator<number> {
      yield 1;
    }
    async *asyncGenerator(): AsyncGenerator<number> {
      yield 1;
    }
    async fine(): Promise<void> {}
  }

  it.each<[string, object, string, RegExp]>([
    ['generators', Odd.prototype, 'generator', /Odd\.generator\(\) is a generator: between two of its values/],
    ['async generators', Odd.prototype, 'asyncGenerator', /Odd\.asyncGenerator\(\) is a generator/],
    ['accessors', Odd.prototype, 'accessor', /Odd\.accessor\(\) is no method/],
    ['static methods', Odd, 'made', /Odd\.made\(\) is a static method/],
    ['properties', Odd.prototype, 'missing', /Odd\.missing\(\) is no method/],
  ])('%s, with the reason', (_, target, name, message) => {
    expect(() => decorate(target, name)).toThrow(expect.objectContaining({ code: 'PG_CONFIG_INVALID' }) as Error);
    expect(() => decorate(target, name)).toThrow(message);
  });

  it('a class with a generator', () => {
    expect(() => Transactional()(Odd)).toThrow(/is a generator/);
  });

  it('options that are wrong, before anything runs', () => {
    expect(() => Transactional({ propagation: 'required' as 'Required' })).toThrow(/propagation is "required"/);
    expect(() => Transactional({ isolation: 'strict' as 'serializable' })).toThrow(/isolation is "strict"/);
    expect(() => Transactional({ pool: '' })).toThrow(/pool must be the name of a pool/);
  });

  it('the compiler refuses methods that return neither a promise nor an Observable', () => {
    // The compiler judges these.
    class Typed {
      // @ts-expect-error it returns a number
      @Transactional()
      sum(): number {
        return 1;
      }

      // @ts-expect-error it returns a promise or not
      @Transactional()
      maybe(): Promise<number> | number {
        return 1;
      }
    }
    void Typed;
  });
});

describe('other decorators', () => {
  const Marked = (value: string): MethodDecorator => SetMetadata('mark', value);

  class Decorated {
    @Marked('above')
    @Transactional()
    async above(_one: string, _two: number): Promise<void> {}

    @Transactional()
    @Marked('below')
    async below(_one: string, _two: number): Promise<void> {}
  }

  @Transactional()
  class InClass {
    @Marked('inside')
    async inside(_one: string, _two: number): Promise<void> {}

    @Marked('plain')
    plain(_one: string): number {
      return 1;
    }
  }

  it.each([
    [Decorated.prototype.above, 'above', 2],
    [Decorated.prototype.below, 'below', 2],
    [InClass.prototype.inside, 'inside', 2],
    [InClass.prototype.plain, 'plain', 1],
  ])('find their metadata, and the method its name and length: %s', (method, name, length) => {
    expect(Reflect.getMetadata('mark', method)).toBe(name);
    expect([method.name, method.length]).toEqual([name, length]);
  });

  it('find the types of parameters', () => {
    expect(Reflect.getMetadata('design:paramtypes', Decorated.prototype, 'above')).toEqual([String, Number]);
  });
});

describe('the pool of an instance', () => {
  @Injectable()
  class Simple {
    @Transactional()
    async pid(): Promise<PgPool> {
      return (this as unknown as Record<symbol, PgPool>)[PG_POOL]!;
    }
  }

  it('is not to be seen on it', async () => {
    expect(Object.keys(books)).toEqual(['ledger', 'pool', 'runs']);
    expect(PG_POOL in Object.assign({}, books)).toBe(false);
  });

  it('is that of its own application, where there are two', async () => {
    await using one = await appWith(Simple);
    await using other = await appWith(Simple);
    expect(await one.module.get(Simple).pid()).toBe(one.pool());
    expect(await other.module.get(Simple).pid()).toBe(other.pool());
    expect(one.pool()).not.toBe(other.pool());
  });

  it('comes to request-scoped and transient providers', async () => {
    @Injectable({ scope: Scope.REQUEST })
    class PerRequest extends Simple {}
    @Injectable({ scope: Scope.TRANSIENT })
    class Transient extends Simple {}
    await using own = await appWith(PerRequest, Transient);
    for (const type of [PerRequest, Transient]) {
      const [first, second] = [await own.module.resolve(type), await own.module.resolve(type)];
      expect(first).not.toBe(second);
      expect(await first.pid()).toBe(own.pool());
      expect(await second.pid()).toBe(own.pool());
    }
  });

  it('has a name where the application has several', async () => {
    @Injectable()
    class Reports {
      constructor(@Inject(getPoolToken('reports')) readonly pool: PgPool) {}

      @Transactional({ pool: 'reports', readOnly: true })
      async read(): Promise<boolean[]> {
        return [this.pool.currentTransaction !== undefined, own.pool().currentTransaction !== undefined];
      }

      @Transactional()
      async both(): Promise<boolean[]> {
        const inner = await this.read();
        return [...inner, this.pool.currentTransaction !== undefined];
      }
    }
    await using own = await startApp({
      imports: [PgModule.forRoot(options()), PgModule.forRoot({ name: 'reports', ...options() })],
      providers: [Reports],
    });
    expect(await own.module.get(Reports).read()).toEqual([true, false]);
    expect(await own.module.get(Reports).both()).toEqual([true, true, false]);
  });

  it('comes with useClass; what a factory has made says that it has none, and takes one', async () => {
    const made = Symbol('made');
    const classed = Symbol('classed');
    await using own = await startApp({
      imports: [PgModule.forRoot(options())],
      providers: [
        { provide: made, useFactory: () => new Simple() },
        { provide: classed, useClass: Simple },
      ],
    });
    expect(await own.module.get<Simple>(classed).pid()).toBe(own.pool());
    const instance = own.module.get<Simple>(made);
    const error = await rejection(instance.pid());
    expect(error).toMatchObject({ code: 'PG_CONFIG_INVALID' });
    expect(error.message).toMatch(/Simple\.pid\(\) is transactional, and its instance has no pool.*Object\.assign/);
    Object.assign(instance, { [getPoolToken()]: own.pool() });
    expect(await instance.pid()).toBe(own.pool());
  });

  it('is asked for where PgModule is missing', async () => {
    await expect(startApp({ providers: [Simple] })).rejects.toThrow(/nestjs-pg:pool/);
  });

  it('may be a stand-in of a test, which has to know what a transaction is', async () => {
    const standIn = { transaction: (work: () => unknown) => work(), outside: (work: () => unknown) => work() };
    const start = (value: object): Promise<TestApp> =>
      startApp({ imports: [PgModule.forRoot(options())], providers: [Simple] }, (builder) =>
        builder.overrideProvider(PG_POOL).useValue(value),
      );
    await using known = await start(standIn);
    expect(await known.module.get(Simple).pid()).toBe(standIn);
    await using unknown = await start({ query: () => undefined });
    const error = await rejection(unknown.module.get(Simple).pid());
    expect(error.message).toContain('a stand-in without transaction()');
  });

  it('works without Nest', async () => {
    await using pool = createPool(options());
    const simple = Object.assign(new Simple(), { [PG_POOL]: pool });
    expect(await simple.pid()).toBe(pool);
  });
});

it('hooks of a transactional method run after its COMMIT', async () => {
  const seen: string[][] = [];
  await books.around(async () => {
    await books.ledger.add('true');
    afterCommit(async () => void seen.push(await entries()));
    expect(seen).toEqual([]);
  });
  expect(seen).toEqual([['true']]);
});
