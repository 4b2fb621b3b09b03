import 'reflect-metadata';
import { Inject } from '@nestjs/common';
import { isObservable, type Observable } from 'rxjs';
import { configError } from './config/config-error.js';
import { getPoolToken } from './pg.tokens.js';
import { observed, propagationOf, settled, type TransactionalOptions } from './pg.transaction-work.js';
import { PgPool } from './pg.pool.js';
import type { Propagation, PropagatingPool } from './transaction/propagation.js';

/** For methods that return a promise or an Observable, and for classes. */
export interface TransactionalDecorator {
  <M extends (...args: never[]) => Promise<unknown> | Observable<unknown>>(
    prototype: object,
    name: string | symbol,
    descriptor: TypedPropertyDescriptor<M>,
  ): void;
  (type: abstract new (...args: never) => object): void;
}

type Method = (this: unknown, ...args: unknown[]) => unknown;

/** On a method: it is transactional by its own declaration. */
const DECLARED = 'nestjs-pg:transactional';
/** Nest calls these, and not the users of a service. */
const LIFECYCLE: ReadonlySet<PropertyKey> = new Set([
  ...['constructor', 'onModuleInit', 'onApplicationBootstrap', 'onModuleDestroy'],
  ...['beforeApplicationShutdown', 'onApplicationShutdown'],
]);

/**
 * Runs a method in a transaction: committed when its promise resolves, rolled back when it rejects, with the very error.
 * Inside of another transaction of the pool it takes part in that one, unless `propagation` says otherwise.
 *
 * A method that is declared to return an Observable has a transaction for each subscription; its values are delivered
 * after the COMMIT.
 *
 * On a class: all `async` methods, its own and those that it inherits, but for Nest's lifecycle hooks. Methods that are
 * decorated themselves keep their own options. A method that is not `async` and returns a promise or an Observable is
 * refused when it is called: decorate it itself.
 *
 * The pool comes with Nest's injection of properties. An instance that something else has made is given one by
 * `Object.assign(instance, { [getPoolToken(name)]: pool })`.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID` for options that are wrong, and for generators, accessors and static methods
 */
export function Transactional(options: TransactionalOptions = {}): TransactionalDecorator {
  const propagation = propagationOf(options, '@Transactional()');
  const token = getPoolToken(options.pool);
  const decorate = (target: object, name?: string | symbol, descriptor?: TypedPropertyDescriptor<unknown>): void => {
    if (name === undefined) decorateClass(target as Class, propagation, token);
    else decorateMethod(target, name, descriptor, propagation, token);
  };
  return decorate;
}

type Class = abstract new (...args: never) => object;

function decorateMethod(
  target: object,
  name: string | symbol,
  descriptor: TypedPropertyDescriptor<unknown> | undefined,
  propagation: Propagation,
  token: symbol,
): void {
  const type = typeof target === 'function' ? target : target.constructor;
  const what = `${type.name}.${String(name)}()`;
  const method = descriptor?.value;
  if (typeof target === 'function') throw refused(what, 'a static method, and has no instance that could have a pool');
  if (!descriptor || typeof method !== 'function') throw refused(what, 'no method, which is what can be decorated');
  assertNoGenerator(method, what);
  const returned: unknown = Reflect.getMetadata('design:returntype', target, name);
  descriptor.value = isObservableType(returned)
    ? replaced(method as Method, (self, run) =>
        observed(() => poolOf(self, token, what), { propagation, what }, run as () => Observable<unknown>),
      )
    : promising(method as Method, propagation, token, what);
  injectPool(target, token);
}

function decorateClass(type: Class, propagation: Propagation, token: symbol): void {
  const prototype = type.prototype as object;
  let count = 0;
  for (const [name, method] of methodsOf(prototype)) {
    const what = `${type.name}.${String(name)}()`;
    assertNoGenerator(method, what);
    if (Reflect.hasMetadata(DECLARED, method)) {
      count++;
      continue;
    }
    const isAsync = tagOf(method) === 'AsyncFunction';
    if (isAsync) count++;
    const value = isAsync ? promising(method, propagation, token, what) : guarded(method, what);
    Object.defineProperty(prototype, name, { value, writable: true, configurable: true, enumerable: false });
  }
  if (count === 0) {
    throw configError(
      `@Transactional() on the class ${type.name}: it has no method that is async. Decorate its methods themselves, or ` +
        'compile for ES2017 or later, where async functions can be told from others.',
    );
  }
  injectPool(prototype, token);
}

/** A class's methods and those that it inherits, each name once. */
function methodsOf(prototype: object): Map<string | symbol, Method> {
  const methods = new Map<string | symbol, Method>();
  const seen = new Set<PropertyKey>(LIFECYCLE);
  for (
    let at: object | null = prototype;
    at && at !== Object.prototype;
    at = Object.getPrototypeOf(at) as object | null
  ) {
    for (const name of Reflect.ownKeys(at)) {
      if (seen.has(name)) continue;
      seen.add(name);
      const value: unknown = Object.getOwnPropertyDescriptor(at, name)?.value;
      if (typeof value === 'function') methods.set(name, value as Method);
    }
  }
  return methods;
}

function promising(method: Method, propagation: Propagation, token: symbol, what: string): Method {
  // async: also what stands in the way is told by the promise.
  return replaced(method, async (self, run) => settled(poolOf(self, token, what), { propagation, what }, run));
}

/** A method of a transactional class that nobody has said to be asynchronous. */
function guarded(method: Method, what: string): Method {
  const apply = (_: Method, self: unknown, args: unknown[]): unknown => {
    const result: unknown = Reflect.apply(method, self, args);
    if (!(result instanceof Promise) && !isObservable(result)) return result;
    if (result instanceof Promise) result.catch(() => undefined);
    throw configError(
      `${what} returned ${isObservable(result) ? 'an Observable' : 'a promise'}, and has run without a transaction: ` +
        '@Transactional() on its class is for async methods. Declare it async, or decorate it itself.',
    );
  };
  return metadataKept(method, new Proxy(method, { apply }));
}

/** Another function in the method's place, with its name, its length, and what other decorators have noted on it. */
function replaced(method: Method, call: (self: unknown, run: () => unknown) => unknown): Method {
  const apply = (_: Method, self: unknown, args: unknown[]): unknown =>
    call(self, () => Reflect.apply<unknown, unknown[], unknown>(method, self, args));
  const replacement = metadataKept(method, new Proxy(method, { apply }));
  Reflect.defineMetadata(DECLARED, true, replacement);
  return replacement;
}

function metadataKept(method: Method, replacement: Method): Method {
  for (const key of Reflect.getOwnMetadataKeys(method) as unknown[]) {
    Reflect.defineMetadata(key, Reflect.getOwnMetadata(key, method), replacement);
  }
  return replacement;
}

/** Has Nest set the pool on each instance, where nobody sees it. */
function injectPool(prototype: object, token: symbol): void {
  Inject(token)(prototype, token);
  if (token in prototype) return;
  Object.defineProperty(prototype, token, {
    configurable: true,
    get: () => undefined,
    set(this: object, value: unknown) {
      Object.defineProperty(this, token, { value, writable: true, configurable: true });
    },
  });
}

function poolOf(self: unknown, token: symbol, what: string): PropagatingPool {
  const pool = (self as Partial<Record<symbol, unknown>> | undefined)?.[token];
  if (pool instanceof PgPool || isStandIn(pool)) return pool;
  throw configError(
    pool
      ? `${what} is transactional, and the pool that it was given is a stand-in without transaction() and outside().`
      : `${what} is transactional, and its instance has no pool: Nest gives one to the classes that it instantiates ` +
          'itself, and not to what a factory returns, nor to a method that was taken off its instance. Otherwise: ' +
          'Object.assign(instance, { [getPoolToken(name)]: pool }).',
  );
}

function isStandIn(pool: unknown): pool is PropagatingPool {
  const { transaction, outside } = (pool ?? {}) as Partial<PropagatingPool>;
  return typeof transaction === 'function' && typeof outside === 'function';
}

function isObservableType(type: unknown): boolean {
  return typeof type === 'function' && isObservable(type.prototype);
}

function assertNoGenerator(method: object, what: string): void {
  if (!/Generator/.test(tagOf(method))) return;
  throw refused(
    what,
    'a generator: between two of its values its caller runs, and a transaction would stay open for as long as that likes',
  );
}

function tagOf(method: object): string {
  return Object.prototype.toString.call(method).slice(8, -1);
}

function refused(what: string, why: string): Error {
  return configError(`@Transactional(): ${what} is ${why}.`);
}
