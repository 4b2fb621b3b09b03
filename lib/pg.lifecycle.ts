import { Inject, Injectable, Logger, Scope, type InjectionToken } from '@nestjs/common';
import type { BeforeApplicationShutdown, OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { isIP } from 'node:net';
import type { PgClient } from './client/pg-client.js';
import { isSocketDirectory } from './config/config-context.js';
import { PgConnectError } from './connect/connect.error.js';
import type { Connector } from './connect/connection-factory.js';
import { PgModuleError } from './errors/pg-module.error.js';
import type { ResolvedModuleOptions } from './pg.options.js';
import { PgRegistry } from './pg.registry.js';
import { getConnectionFactoryToken, getNotificationsToken, getPoolToken } from './pg.tokens.js';
import type { Holder } from './pool/pool-errors.js';
import type { DialFailure } from './pool/dialler.js';
import { PgPool } from './pg.pool.js';
import { PgNotifications } from './stream/notifications.js';
import { formatMillis } from './util/duration.js';

/** Internal tokens of one PgModule. */
export const POOL_NAME = Symbol('nestjs-pg:name');
export const RESOLVED_OPTIONS = Symbol('nestjs-pg:resolved-options');
export const CONNECTOR = Symbol('nestjs-pg:connector');

/**
 * Opens the pool at bootstrap and drains it at shutdown, and tells Nest's logger.
 *
 * The pool is closed in onApplicationShutdown: onModuleDestroy runs while HTTP requests are still being answered. The
 * module is global, which makes Nest initialise it first and close it last.
 */
@Injectable()
export class PgLifecycle implements OnModuleInit, BeforeApplicationShutdown, OnApplicationShutdown {
  readonly #name: string;
  readonly #moduleRef: ModuleRef;
  readonly #registry: PgRegistry;
  readonly #logger = new Logger('PgModule');
  #closing: Promise<void> | undefined;
  /** The application starts, and waits for the pool. */
  #starting = false;
  #toldOfConnection = false;
  #failures = 0;

  // Named tokens, and not types: the package then needs no decorator metadata.
  constructor(
    @Inject(POOL_NAME) name: string,
    @Inject(ModuleRef) moduleRef: ModuleRef,
    @Inject(PgRegistry) registry: PgRegistry,
  ) {
    this.#name = name;
    this.#moduleRef = moduleRef;
    this.#registry = registry;
    registry.register(name, this);
  }

  async onModuleInit(): Promise<void> {
    try {
      await this.#open();
    } catch (error) {
      await this.#registry.closeAll();
      throw error;
    }
  }

  /** Server-sent events end with what they are fed from, and an HTTP server that closes waits for them. */
  async beforeApplicationShutdown(): Promise<void> {
    await this.#closeNotifications();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.close();
  }

  /** Drains the pool, and closes what was opened through the connection factory and left open. Once. */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #open(): Promise<void> {
    this.#refuseRequestScope();
    const pool = this.#find(getPoolToken(this.#name));
    // A test has put a stand-in in its place: there is nothing to open.
    if (!(pool instanceof PgPool)) return;
    pool.on('warning', (message) => this.#logger.warn(message));
    pool.on('dialFailed', (failure) => this.#onDialFailed(failure));
    pool.on('connect', (client) => this.#onConnect(client as unknown as PgClient));
    pool.on('error', (error) =>
      this.#logger.warn(`Pool "${this.#name}": an idle connection was lost: ${error.message}`),
    );
    const { connect, retryTimeoutMillis } = this.#find(RESOLVED_OPTIONS) as ResolvedModuleOptions;
    if (connect === 'background') pool.openInBackground();
    if (connect === 'eager') await this.#openEagerly(pool, retryTimeoutMillis);
  }

  async #openEagerly(pool: PgPool, timeoutMillis: number): Promise<void> {
    const abort = new AbortController();
    let last: DialFailure | undefined;
    const give = (): void => abort.abort(this.#gaveUp(last, timeoutMillis));
    const onFailure = (failure: DialFailure): void => {
      last = failure;
      // It is the bootstrap's own error, and no line of its own.
      if (failure.permanent) return;
      if (timeoutMillis === 0) abort.abort(failure.error);
      else if (!abort.signal.aborted) this.#warnOfFailure(failure);
    };
    pool.on('dialFailed', onFailure);
    this.#starting = true;
    const timer = timeoutMillis > 0 ? setTimeout(give, timeoutMillis) : undefined;
    try {
      await pool.open(abort.signal);
    } finally {
      clearTimeout(timer);
      this.#starting = false;
      pool.removeListener('dialFailed', onFailure);
    }
  }

  #gaveUp(last: DialFailure | undefined, timeoutMillis: number): Error {
    const message =
      `Pool "${this.#name}": not open within ${formatMillis(timeoutMillis)} (retry.timeoutMillis). ` +
      (last
        ? `The last of ${last.failures} attempts: ${last.error.message}`
        : 'The server has not answered the first attempt yet.');
    const attempts = last?.error instanceof PgConnectError ? last.error.attempts : [];
    return new PgConnectError(message, attempts, false);
  }

  async #closeNotifications(): Promise<void> {
    const notifications = this.#find(getNotificationsToken(this.#name));
    if (notifications instanceof PgNotifications) await notifications.close();
  }

  async #close(): Promise<void> {
    await this.#closeNotifications();
    // Also one that was used before, or without, the initialisation of the application.
    const pool = this.#find(getPoolToken(this.#name));
    if (pool instanceof PgPool) {
      const { holders } = await pool.drain();
      for (const holder of holders) this.#logger.warn(`Pool "${this.#name}": ${describeHolder(holder)}`);
    }
    const connector = this.#find(CONNECTOR) as Connector | undefined;
    for (const { since, callSite } of (await connector?.close()) ?? []) {
      const age = formatMillis(Date.now() - since);
      this.#logger.warn(
        `Pool "${this.#name}": closed a connection that was opened through the connection factory ${age} ago at ` +
          `${callSite.toString()} and never closed.`,
      );
    }
  }

  /** This module's own; none when it is request-scoped, or when the bootstrap failed before it was made. */
  #find(token: InjectionToken): unknown {
    try {
      return this.#moduleRef.get<unknown>(token, { strict: true });
    } catch {
      return undefined;
    }
  }

  /** Transient providers are welcome: the one pool has its own instance of them. */
  #refuseRequestScope(): void {
    // These tokens are this module's alone: introspect() does not say which module it looks at.
    for (const token of [getPoolToken(this.#name), getConnectionFactoryToken(this.#name)]) {
      if (this.#moduleRef.introspect(token).scope !== Scope.REQUEST) continue;
      throw new PgModuleError(
        'PG_CONFIG_INVALID',
        `PgModule "${this.#name}": its options depend on a request-scoped provider, which would open a new pool for ` +
          'every request. Inject no such provider into the factory of PgModule.forRootAsync; what differs by request ' +
          '(tenant, role) is best set inside a transaction.',
      );
    }
  }

  #onConnect(client: PgClient): void {
    if (this.#failures > 0) {
      const attempts = this.#failures === 1 ? 'one failed attempt' : `${this.#failures} failed attempts`;
      this.#logger.log(`Pool "${this.#name}": connected after ${attempts}.`);
      this.#failures = 0;
    }
    if (this.#toldOfConnection) return;
    this.#toldOfConnection = true;
    const { encrypted, tlsVersion, verified } = client.security;
    const identity = { none: 'identity not verified', ca: 'certificate verified', full: 'identity verified' }[verified];
    this.#logger.log(
      `Pool "${this.#name}": connected to ${client.host}:${client.port} as "${client.user}", database ` +
        `"${client.database}", ${encrypted ? `${tlsVersion}, ${identity}` : 'unencrypted'}.`,
    );
    if (isLocal(client.host) || (encrypted && verified === 'full')) return;
    const risk = encrypted ? 'the server’s identity is not verified' : 'the connection is not encrypted';
    this.#logger.warn(`Pool "${this.#name}": ${risk}. Set ssl: 'verify-full' (see the guide on TLS).`);
  }

  /** The first of a row, and then ever fewer: the second, the fourth, the eighth. While starting, see #openEagerly. */
  #onDialFailed(failure: DialFailure): void {
    const { failures } = failure;
    this.#failures = failures;
    if (!this.#starting && (failures & (failures - 1)) === 0) this.#warnOfFailure(failure);
  }

  #warnOfFailure({ error, failures, retryInMillis }: DialFailure): void {
    const next = retryInMillis === undefined ? 'the next when it is needed' : `next in ${formatMillis(retryInMillis)}`;
    this.#logger.warn(`Pool "${this.#name}": attempt ${failures} failed, ${next}: ${error.message}`);
  }
}

function isLocal(host: string): boolean {
  return isSocketDirectory(host) || host === 'localhost' || host === '::1' || isLoopback(host);
}

function isLoopback(host: string): boolean {
  return isIP(host) === 4 && host.startsWith('127.');
}

function describeHolder({ heldMillis, callSite }: Holder): string {
  const where = callSite ? `taken at ${callSite.toString()}` : 'taken by a pool.query(), or at an unrecorded line,';
  return `a connection ${where} was not given back within the drain's deadline (held ${formatMillis(heldMillis)}): closed.`;
}
