import { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';
import pg from 'pg';
import { describe, expect, it, vi } from 'vitest';
import { PgClient } from '../../../lib/client/pg-client.js';
import { StatementCatalog } from '../../../lib/client/statement-catalog.js';
import { PgLease } from '../../../lib/pool/lease.js';
import { PooledConnection } from '../../../lib/pool/pooled-connection.js';
import { CallSite } from '../../../lib/util/call-site.js';

function client(): PgClient {
  return new PgClient({
    stream: new PassThrough(),
    security: { encrypted: false, tlsVersion: undefined, verified: 'none' },
    host: 'db',
    port: 5432,
    user: 'me',
    database: 'mine',
    password: () => 'hush',
    authentication: { requireAuth: undefined, channelBinding: 'prefer', encrypted: false, certificateMissing: false },
    session: {},
    queryTimeoutMillis: 0,
    wantsWrites: false,
    statements: new StatementCatalog(0, () => undefined),
    types: undefined,
    dialAgain: () => Promise.reject(new Error('not here')),
  });
}

function lend(): { lease: PgLease; connection: PgClient; returned: [boolean, Error | undefined][] } {
  const returned: [boolean, Error | undefined][] = [];
  const leased = PooledConnection.opened(client(), Infinity, 0).lend(undefined, 0);
  const lease = new PgLease(leased, (connection, retire, error) => {
    expect(connection).toBe(leased);
    returned.push([retire, error]);
  });
  return { lease, connection: leased.client, returned };
}

describe('a lease', () => {
  it('is a pg.Client', () => {
    expect(lend().lease).toBeInstanceOf(pg.Client);
    expect(lend().lease).toBeInstanceOf(EventEmitter);
  });

  it('has every member of a client, and leaves none to work on the lease itself', () => {
    const own = new Set(Object.getOwnPropertyNames(PgLease.prototype));
    const expected = new Set([
      ...Object.getOwnPropertyNames(client()),
      ...Object.getOwnPropertyNames(PgClient.prototype),
      ...Object.getOwnPropertyNames(pg.Client.prototype),
      ...Object.getOwnPropertyNames(EventEmitter.prototype),
    ]);
    const missing = [...expected].filter((name) => !name.startsWith('_') && name !== 'domain' && !own.has(name));
    expect(missing).toEqual([]);
  });

  it('shows the data of its connection', () => {
    const { lease, connection } = lend();
    expect(lease).toMatchObject({ host: 'db', port: 5432, user: 'me', database: 'mine' });
    expect(lease.connection).toBe(connection.connection);
  });

  it('is dead after its release: every member refuses', async () => {
    const { lease, returned } = lend();
    lease.release();
    expect(returned).toEqual([[false, undefined]]);
    await expect(lease.query('select 1')).rejects.toMatchObject({ code: 'PG_LEASE_RELEASED' });
    const dead = expect.objectContaining({ code: 'PG_LEASE_RELEASED' }) as Error;
    expect(() => lease.release()).toThrow(dead);
    expect(() => lease.on('notice', () => undefined)).toThrow(dead);
    expect(() => lease.connection).toThrow(dead);
    expect(() => lease.end()).toThrow(dead);
    expect(returned).toHaveLength(1);
  });

  it('tells where it was taken and where it was released, with both stacks', () => {
    const taken = (() => new CallSite())();
    const lease = new PgLease(PooledConnection.opened(client(), Infinity, 0).lend(taken, 0), () => undefined);
    const giveBackEarly = (): void => lease.release();
    giveBackEarly();
    let error: Error | undefined;
    try {
      lease.release();
    } catch (reason) {
      error = reason as Error;
    }
    expect(error?.message).toMatch(
      /\nTaken:\n {4}at .*lease\.test\.ts[^]*\nReleased:\n {4}at .*giveBackEarly .*lease\.test\.ts/,
    );
  });

  it('tells of it in the form in which it was asked: callback, submittable, promise', async () => {
    const { lease } = lend();
    lease.release();
    const byCallback = await new Promise<Error>((resolve) => lease.query('select 1', resolve));
    const withValues = await new Promise<Error>((resolve) => lease.query('select $1', [1], resolve));
    const submitted = new Promise<Error>((handleError) =>
      lease.query({ submit: () => undefined, handleError } as unknown as pg.Submittable),
    );
    for (const error of [byCallback, withValues, await submitted]) {
      expect(error).toMatchObject({ code: 'PG_LEASE_RELEASED' });
    }
  });

  it('takes its listeners with it, and no others', () => {
    const { lease, connection } = lend();
    const mine = vi.fn();
    const foreign = vi.fn();
    connection.on('notice', foreign);
    expect(lease.on('notice', mine)).toBe(lease);
    lease.once('notice', mine);
    lease.removeAllListeners('notification');
    connection.emit('notice', 1);
    expect(mine).toHaveBeenCalledTimes(2);
    lease.release();
    connection.emit('notice', 2);
    expect(mine).toHaveBeenCalledTimes(2);
    expect(foreign).toHaveBeenCalledTimes(2);
  });

  it('takes single listeners back', () => {
    const { lease, connection } = lend();
    const listener = vi.fn();
    lease.on('notice', listener);
    lease.off('notice', listener);
    lease.on('notice', listener);
    lease.removeAllListeners();
    expect(connection.listenerCount('notice')).toBe(0);
  });

  it('keeps no account of listeners that have gone by themselves', () => {
    const { lease, connection } = lend();
    for (let round = 0; round < 1_000; round++) {
      lease.once('notice', () => undefined);
      connection.emit('notice');
    }
    const late = vi.fn();
    lease.on('notice', late);
    connection.emit('notice');
    expect(late).toHaveBeenCalledTimes(1);
    expect(connection.listenerCount('notice')).toBe(1);
  });

  it('has its connection closed when it is asked to, given an error, or was changed for good', () => {
    for (const reason of [true, new Error('broken')]) {
      const { lease, returned } = lend();
      lease.release(reason);
      expect(returned).toEqual([[true, reason instanceof Error ? reason : undefined]]);
    }
    const { lease, returned } = lend();
    lease.setTypeParser(pg.types.builtins.INT8, Number);
    lease.release();
    expect(returned).toEqual([[true, undefined]]);
  });

  it('is released by `using` and `await using`, once', async () => {
    const first = lend();
    const second = lend();
    {
      using lease = first.lease;
      lease.release();
    }
    {
      await using lease = second.lease;
      expect(lease.isReleased).toBe(false);
    }
    expect(first.returned).toHaveLength(1);
    expect(second.returned).toHaveLength(1);
  });
});
