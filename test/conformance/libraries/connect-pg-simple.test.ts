import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import connectPgSimple from 'connect-pg-simple';
import session, { type SessionData } from 'express-session';
import { describe, expect, it } from 'vitest';
import type { PgPool } from 'nestjs-pg';
import { adminQuery } from '../../support/postgres.js';
import { kill, openPoolOfOne, pidOf } from './one-connection.js';
import { expectNothingLeft, openPool, server, warningsOf } from './pool-under-test.js';

const PgStore = connectPgSimple(session);
type PgStore = InstanceType<typeof PgStore>;

interface Visits extends SessionData {
  visits?: number;
}

/** A store on a pool, in a schema of its own. */
async function openStore(pool: PgPool, schemaName: string): Promise<PgStore> {
  await adminQuery(server(), `CREATE SCHEMA ${schemaName}`);
  return new PgStore({ pool, schemaName, createTableIfMissing: true, pruneSessionInterval: false });
}

/** What a method with a callback tells. */
function call<T = void>(
  work: (done: (error?: Error | null, result?: T | null) => void) => void,
): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    work((error, result) => {
      if (error) reject(error);
      else resolve(result ?? undefined);
    });
  });
}

function newSession(visits: number, maxAge = 60_000): Visits {
  const cookie = new session.Cookie();
  cookie.maxAge = maxAge;
  return { visits, cookie };
}

const get = (store: PgStore, sid: string): Promise<Visits | undefined> => call<Visits>((done) => store.get(sid, done));
const set = (store: PgStore, sid: string, data: Visits): Promise<unknown> => call((done) => store.set(sid, data, done));
const prune = (store: PgStore): Promise<unknown> => call((done) => store.pruneSessions(done));

describe('the session store', () => {
  it('makes its table, sets, gets, touches, destroys and prunes', async () => {
    const pool = openPool('store');
    const store = await openStore(pool, 'store_methods');
    expect(await get(store, 'nobody')).toBeUndefined();

    await set(store, 'a', newSession(1));
    await set(store, 'a', newSession(2));
    expect(await get(store, 'a')).toMatchObject({ visits: 2 });

    const later = newSession(2, 3_600_000);
    await call((done) => store.touch('a', later, () => done()));
    const [row] = await adminQuery(
      server(),
      "SELECT expire > now() + interval '50 min' AS later FROM store_methods.session",
    );
    expect(row).toEqual({ later: true });

    await set(store, 'expired', newSession(3, -120_000));
    expect(await get(store, 'expired')).toBeUndefined();
    await prune(store);
    expect(await adminQuery(server(), 'SELECT sid FROM store_methods.session')).toEqual([{ sid: 'a' }]);

    await call((done) => store.destroy('a', done));
    expect(await get(store, 'a')).toBeUndefined();
    store.close();
    await expectNothingLeft(pool);
  });

  it('works at once for many, on few connections', async () => {
    const pool = openPool('store-many', { pool: { max: 3 } });
    const store = await openStore(pool, 'store_many');
    const sids = Array.from({ length: 200 }, (_, index) => `sid-${index}`);
    await Promise.all(sids.map((sid, index) => set(store, sid, newSession(index))));
    const found = await Promise.all(sids.map((sid) => get(store, sid)));
    expect(found.map((data) => data?.visits)).toEqual(sids.map((_, index) => index));
    expect(pool.totalCount).toBeLessThanOrEqual(3);
    store.close();
    await expectNothingLeft(pool);
  });

  it('does not end a pool that it was given', async () => {
    const pool = openPool('store-closed');
    const store = await openStore(pool, 'store_closed');
    await set(store, 'a', newSession(1));
    store.close();
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await expectNothingLeft(pool);
  });

  it('tells of errors, and they cost no connection', async () => {
    const { pool, pid } = await openPoolOfOne('store-errors');
    const errors: unknown[] = [];
    const store = new PgStore({
      pool,
      tableName: 'session_nowhere',
      pruneSessionInterval: false,
      errorLog: (...args: unknown[]) => errors.push(args),
    });
    const missing = { code: '42P01' };
    await expect(get(store, 'a')).rejects.toMatchObject(missing);
    await expect(set(store, 'a', newSession(1))).rejects.toMatchObject(missing);
    await expect(call((done) => store.destroy('a', done))).rejects.toMatchObject(missing);
    await expect(prune(store)).rejects.toMatchObject(missing);
    // Without a callback nobody is told, and nobody is hurt.
    store.set('a', newSession(1));
    store.pruneSessions();
    await expect.poll(() => errors).toHaveLength(1);
    expect(await pidOf(pool)).toBe(pid);
    expect(warningsOf(pool)).toEqual([]);
    store.close();
    await expectNothingLeft(pool);
    await expect(get(store, 'a')).rejects.toMatchObject({ code: 'PG_POOL_CLOSED' });
  });

  it('goes on when its connection has been ended by the server', async () => {
    const { pool, pid } = await openPoolOfOne('store-killed');
    const store = await openStore(pool, 'store_killed');
    await set(store, 'a', newSession(1));
    await kill(pid);
    await expect.poll(() => get(store, 'a')).toMatchObject({ visits: 1 });
    expect(await pidOf(pool)).not.toBe(pid);
    store.close();
    await expectNothingLeft(pool);
  });

  it('serves a web server’s sessions through express-session', async () => {
    const pool = openPool('store-http', { pool: { max: 2 } });
    const store = await openStore(pool, 'store_http');
    const middleware = session({ store, secret: 'for the tests', resave: false, saveUninitialized: false });
    const web = createServer((request, response) => {
      type Request = IncomingMessage & { session: { visits?: number; destroy: (done: () => void) => void } };
      const next = (error?: unknown): void => {
        const { session: visitor } = request as Request;
        if (error) response.writeHead(500).end();
        else if (request.url === '/leave') visitor.destroy(() => response.end('left'));
        else response.end(String((visitor.visits = (visitor.visits ?? 0) + 1)));
      };
      type Middleware = (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void) => void;
      (middleware as unknown as Middleware)(request, response, next);
    });
    await once(web.listen(0, '127.0.0.1'), 'listening');
    const origin = `http://127.0.0.1:${(web.address() as AddressInfo).port}`;

    const visit = async (times: number): Promise<string[]> => {
      let cookie = '';
      const answers: string[] = [];
      for (let time = 0; time < times; time++) {
        const response = await fetch(origin, { headers: { cookie } });
        answers.push(await response.text());
        cookie = response.headers.get('set-cookie')?.split(';')[0] ?? cookie;
      }
      answers.push(await (await fetch(`${origin}/leave`, { headers: { cookie } })).text());
      return answers;
    };
    const visitors = Array.from({ length: 10 }, (_, index) => 1 + (index % 4));
    expect(await Promise.all(visitors.map(visit))).toEqual(
      visitors.map((times) => [...Array.from({ length: times }, (_, time) => String(time + 1)), 'left']),
    );
    expect(await adminQuery(server(), 'SELECT sid FROM store_http.session')).toEqual([]);

    web.closeAllConnections();
    await new Promise((resolve) => web.close(resolve));
    store.close();
    await expectNothingLeft(pool);
  });
});
