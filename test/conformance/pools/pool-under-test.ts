import { afterEach } from 'vitest';
import { createPool, PgConnectError, PgPool, type DialFailure, type PgOptions } from 'nestjs-pg';
import { connectorOf } from '../../../lib/create-pool.js';
import { resolveOptions } from '../../../lib/pg.options.js';
import type { ManualClock } from '../../support/manual-clock.js';
import { sessionsOf, useServer, waitFor, type Session } from '../../support/postgres.js';
import { startProxy, type FaultProxy } from '../../support/proxy.js';

/** The server of the file that imports this. */
export const server = useServer();

/** For what hangs: a slow machine is no failure. */
const PATIENCE = 30_000;

interface Opened {
  readonly clock: ManualClock | undefined;
  readonly warnings: string[];
  readonly failures: DialFailure[];
}

const opened = new Map<PgPool, Opened>();
let count = 0;

/**
 * A pool whose `application_name`, which is `pool.name`, no other pool has. With a clock, the pool's own time is that
 * clock's; the network and the server's time stay real. It is ended after the test, whose sessions must then be gone.
 */
export function openPool(name: string, options: PgOptions = {}, clock?: ManualClock): PgPool {
  const unique = `${name}-${++count}`;
  const settings = { connectionString: server().connectionString, application_name: unique, ...options };
  const pool = clock ? poolOnClock(unique, settings, clock) : createPool(settings, unique);
  const state: Opened = { clock, warnings: [], failures: [] };
  pool.on('warning', (message) => state.warnings.push(message));
  pool.on('dialFailed', (failure) => state.failures.push(failure));
  opened.set(pool, state);
  return pool;
}

function poolOnClock(name: string, settings: PgOptions, clock: ManualClock): PgPool {
  const resolved = resolveOptions(settings, () => undefined);
  const connector = connectorOf(resolved, () => undefined);
  return new PgPool({
    name,
    limits: resolved.limits,
    shown: {},
    connect: async (signal) => {
      const client = await connector.connect({ signal });
      connector.adopt(client);
      return client;
    },
    isPermanent: (error) => error instanceof PgConnectError && error.permanent,
    clock,
  });
}

afterEach(async () => {
  const ends = [...opened].map(([pool, state]) => endOf(pool, state));
  opened.clear();
  await Promise.all(ends);
});

async function endOf(pool: PgPool, { clock }: Opened): Promise<void> {
  let ended = false;
  void pool.drain(1).then(() => (ended = true));
  const isOver = async (): Promise<boolean> => {
    await clock?.advance(1_000);
    return ended;
  };
  await eventually(isOver, `${pool.name} to end`);
  await eventually(async () => (await sessions(pool)).length === 0, `the sessions of ${pool.name} to end`);
}

/** What the pool has warned of. */
export function warningsOf(pool: PgPool): readonly string[] {
  return opened.get(pool)?.warnings ?? [];
}

/** The attempts to connect that have failed. */
export function failuresOf(pool: PgPool): readonly DialFailure[] {
  return opened.get(pool)?.failures ?? [];
}

/** A network that fails on command, in front of the server. */
export function startNetwork(): Promise<FaultProxy> {
  const { host, port } = server();
  return startProxy({ host, port });
}

/** The connection string of the server behind a proxy. */
export function through(proxy: FaultProxy): string {
  const { host, port, connectionString } = server();
  return `${connectionString.replace(`@${host}:${port}/`, `@${proxy.host}:${proxy.port}/`)}?sslmode=disable`;
}

/** What the server has of a pool, oldest first; connections may be named `<pool>:<something>`. */
export async function sessions(pool: PgPool): Promise<Session[]> {
  const all = await sessionsOf(server());
  return all.filter(({ application_name: name }) => name === pool.name || name.startsWith(`${pool.name}:`));
}

/** The backends that the server has for a pool, oldest first. */
export async function pidsOf(pool: PgPool): Promise<number[]> {
  return (await sessions(pool)).map(({ pid }) => pid);
}

/** The backend that answers, as it says itself. */
export async function pidOf(queryable: Pick<PgPool, 'query'>): Promise<number> {
  const { rows } = await queryable.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return rows[0]?.pid ?? 0;
}

/** The server has so many sessions of the pool, or will soon have. */
export function expectSessions(pool: PgPool, wanted: number): Promise<true> {
  return eventually(async () => (await sessions(pool)).length === wanted, `${pool.name} to have ${wanted} sessions`);
}

export function eventually(condition: () => boolean | Promise<boolean>, message: string): Promise<true> {
  return waitFor(condition, { message, deadline: PATIENCE }) as Promise<true>;
}

/** The backend hears nothing and says nothing until the end of the block; its socket stays open. */
export async function stall(pid: number): Promise<AsyncDisposable> {
  await server().pauseBackend(pid);
  return { [Symbol.asyncDispose]: () => server().resumeBackend(pid) };
}

export function sleep(clock: ManualClock, millis: number): Promise<void> {
  return new Promise((resolve) => {
    clock.setTimeout(() => resolve(), millis);
  });
}

/** What happens in real time. A clock that waits for it does not run ahead of the server. */
export class RealTime {
  #underway = 0;

  async track<T>(work: Promise<T>): Promise<T> {
    this.#underway++;
    try {
      return await work;
    } finally {
      this.#underway--;
    }
  }

  /** Lets `clock` run in steps for as long as `work` takes, and stand whenever something is under way. */
  async drive<T>(clock: ManualClock, stepMillis: number, work: Promise<T>): Promise<T> {
    let done = false;
    const end = work.finally(() => (done = true));
    end.catch(() => undefined);
    while (!done) {
      await eventually(() => this.#underway === 0, 'the server to answer');
      await clock.advance(stepMillis);
    }
    return end;
  }
}
