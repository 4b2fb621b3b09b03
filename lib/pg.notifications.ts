import 'reflect-metadata';
import { Inject, Injectable, Logger, Module } from '@nestjs/common';
import type { BeforeApplicationShutdown, OnApplicationBootstrap } from '@nestjs/common';
import { DiscoveryModule, DiscoveryService, MetadataScanner, ModuleRef } from '@nestjs/core';
import { concatMap, filter, retry, timer, type Subscription } from 'rxjs';
import { configError } from './config/config-error.js';
import { assertKnownKeys, kindOf } from './config/unknown-option.js';
import { PgRegistry, PgRegistryModule } from './pg.registry.js';
import { getNotificationsToken } from './pg.tokens.js';
import { assertChannel, type PgNotification, type PgNotificationEvent } from './stream/notification.js';
import type { PgNotifications } from './stream/notifications.js';
import { backoffMillis } from './util/backoff.js';
import { systemClock } from './util/clock.js';
import { formatMillis } from './util/duration.js';

export interface OnNotificationOptions {
  /** The pool's name; default: the default pool. */
  pool?: string;
  /** The method is called with the markers `listening` and `gap`, too. Default false. */
  markers?: boolean;
}

/** For methods that take what they will be called with. */
export type OnNotificationDecorator<E> = <M extends (event: E) => unknown>(
  prototype: object,
  name: string,
  descriptor: TypedPropertyDescriptor<M>,
) => void;

interface Declaration {
  readonly channel: string;
  readonly pool: string | undefined;
  readonly markers: boolean;
}

type Method = (event: PgNotificationEvent) => unknown;

/** On a method: the channels that it is for. */
const DECLARATIONS = 'nestjs-pg:on-notification';
/** Between subscriptions that fail with what cannot heal by itself. */
const BACKOFF = { baseMillis: 1_000, maxMillis: 30_000 };
/** How long shutdown waits for the calls that are under way. */
const FAREWELL_MILLIS = 10_000;

/**
 * Calls a method of a provider or controller with each notification of a channel, from the application's bootstrap to its
 * shutdown: one call after the other, the next when the promise of the one before has settled. What a call throws is
 * logged. The provider must be a singleton.
 *
 * @throws PgModuleError `PG_NOTIFICATION_INVALID`, `PG_CONFIG_INVALID`
 */
export function OnNotification(
  channel: string,
  options: OnNotificationOptions & { markers: true },
): OnNotificationDecorator<PgNotificationEvent>;
export function OnNotification(
  channel: string,
  options?: OnNotificationOptions & { markers?: false },
): OnNotificationDecorator<PgNotification>;
export function OnNotification(channel: string, options: OnNotificationOptions = {}): OnNotificationDecorator<never> {
  assertChannel(channel);
  assertKnownKeys(options, ['pool', 'markers'], 'options of @OnNotification');
  const { pool, markers = false } = options;
  if (pool !== undefined && (typeof pool !== 'string' || pool === '')) {
    throw configError(`@OnNotification("${channel}"): pool must be the name of a pool; it is ${kindOf(pool)}.`);
  }
  if (typeof markers !== 'boolean') {
    throw configError(`@OnNotification("${channel}"): markers must be true or false; it is ${kindOf(markers)}.`);
  }
  return (target, name, descriptor) => {
    // What decorates a property is given none.
    const method = (descriptor as TypedPropertyDescriptor<unknown> | undefined)?.value;
    if (typeof target === 'function' || typeof name !== 'string' || typeof method !== 'function') {
      throw configError(
        `@OnNotification("${channel}") is for methods of providers, which have a name and no \`static\`.`,
      );
    }
    Reflect.defineMetadata(DECLARATIONS, [...declarationsOf(method), { channel, pool, markers }], method);
  };
}

/** The decorated methods of an application. */
@Injectable()
export class NotificationHandlers implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #discovery: DiscoveryService;
  readonly #moduleRef: ModuleRef;
  readonly #registry: PgRegistry;
  #handlers: readonly NotificationHandler[] = [];

  constructor(
    @Inject(DiscoveryService) discovery: DiscoveryService,
    @Inject(ModuleRef) moduleRef: ModuleRef,
    @Inject(PgRegistry) registry: PgRegistry,
  ) {
    this.#discovery = discovery;
    this.#moduleRef = moduleRef;
    this.#registry = registry;
  }

  async onApplicationBootstrap(): Promise<void> {
    try {
      this.#handlers = this.#find();
    } catch (error) {
      await this.#registry.closeAll();
      throw error;
    }
    for (const handler of this.#handlers) handler.start();
  }

  /** Before the pools are drained: a call that is under way may need them. */
  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#handlers.map((handler) => handler.stop()));
  }

  #find(): NotificationHandler[] {
    const scanner = new MetadataScanner();
    const handlers: NotificationHandler[] = [];
    const seen = new Set<unknown>();
    for (const wrapper of [...this.#discovery.getProviders(), ...this.#discovery.getControllers()]) {
      const isSingleton = wrapper.isDependencyTreeStatic() && !wrapper.isTransient;
      const instance: unknown = wrapper.instance;
      // One and the same under several tokens (useExisting) is called once.
      if (isSingleton && seen.has(instance)) continue;
      seen.add(instance);
      const prototype = (isSingleton ? prototypeOf(instance) : wrapper.metatype?.prototype) as object | undefined;
      for (const name of prototype ? scanner.getAllMethodNames(prototype) : []) {
        for (const declaration of declarationsOf((prototype as Record<string, object>)[name] ?? {})) {
          const what = `@OnNotification("${declaration.channel}") ${prototype?.constructor.name}.${name}()`;
          if (!isSingleton) throw notSingle(what);
          const notifications = this.#notificationsOf(declaration.pool, what);
          // A test has put a stand-in in its place.
          if (typeof (notifications as Partial<PgNotifications>).listen !== 'function') continue;
          const call = (event: PgNotificationEvent): unknown => (instance as Record<string, Method>)[name]?.(event);
          handlers.push(new NotificationHandler(notifications, declaration, call, what));
        }
      }
    }
    return handlers;
  }

  #notificationsOf(pool: string | undefined, what: string): PgNotifications {
    try {
      return this.#moduleRef.get<PgNotifications>(getNotificationsToken(pool), { strict: false });
    } catch (cause) {
      throw configError(
        `${what}: there is no ${pool === undefined ? 'default pool' : `pool "${pool}"`} in this application. ` +
          'Import PgModule.forRoot() with that name, or name another in { pool }.',
        cause,
      );
    }
  }
}

/** A method that is called with what arrives on its channel. */
class NotificationHandler {
  readonly #notifications: PgNotifications;
  readonly #declaration: Declaration;
  readonly #call: (event: PgNotificationEvent) => unknown;
  readonly #what: string;
  readonly #logger = new Logger('PgModule');
  #subscription: Subscription | undefined;
  #running: Promise<void> | undefined;

  constructor(
    notifications: PgNotifications,
    declaration: Declaration,
    call: (event: PgNotificationEvent) => unknown,
    what: string,
  ) {
    this.#notifications = notifications;
    this.#declaration = declaration;
    this.#call = call;
    this.#what = what;
  }

  start(): void {
    const { channel, markers } = this.#declaration;
    this.#subscription = this.#notifications
      .listen(channel)
      .pipe(
        retry({ resetOnSuccess: true, delay: (error: unknown, count) => timer(this.#onFailure(error, count)) }),
        filter((event) => markers || event.kind === 'notification'),
        concatMap((event) => (this.#running = this.#handle(event))),
      )
      .subscribe();
  }

  async stop(): Promise<void> {
    this.#subscription?.unsubscribe();
    let late: NodeJS.Timeout | undefined;
    const deadline = new Promise<true>((resolve) => (late = setTimeout(resolve, FAREWELL_MILLIS, true)));
    const isLate = await Promise.race([this.#running, deadline]);
    clearTimeout(late);
    if (isLate)
      this.#logger.warn(`${this.#what} is still running after ${formatMillis(FAREWELL_MILLIS)}: not waited for.`);
  }

  async #handle(event: PgNotificationEvent): Promise<void> {
    try {
      await this.#call(event);
    } catch (error) {
      this.#log('failed', error);
    }
  }

  #onFailure(error: unknown, count: number): number {
    const millis = backoffMillis(count, BACKOFF, systemClock);
    this.#log(`cannot listen, and tries again in ${formatMillis(millis)}`, error);
    return millis;
  }

  #log(what: string, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.#logger.error(`${this.#what} ${what}: ${message}`, error instanceof Error ? error.stack : undefined);
  }
}

/** One instance per application, whatever number of PgModules import it. */
@Module({ imports: [DiscoveryModule, PgRegistryModule], providers: [NotificationHandlers] })
export class PgNotificationsModule {}

function declarationsOf(method: object): readonly Declaration[] {
  return (Reflect.getMetadata(DECLARATIONS, method) as readonly Declaration[] | undefined) ?? [];
}

function prototypeOf(instance: unknown): object | null {
  return typeof instance === 'object' && instance !== null ? (Object.getPrototypeOf(instance) as object | null) : null;
}

function notSingle(what: string): Error {
  return configError(
    `${what}: its provider is request-scoped or transient, and a notification belongs to no request: there is no instance, ` +
      'or no one of several, that it could be for. Make it a singleton, and what it injects; what differs by event is best ' +
      'resolved in the method, with ModuleRef.',
  );
}
