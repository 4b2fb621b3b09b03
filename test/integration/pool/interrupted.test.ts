import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { createConnectionFactory, createPool, type PgOptions, type PgPool } from 'nestjs-pg';
import { expect, it } from 'vitest';
import { sessionsOf, terminateBackends, useServer, waitFor } from '../../support/postgres.js';
import { startProxy } from '../../support/proxy.js';

const server = useServer();

function openPool(name: string, options: PgOptions = {}): PgPool {
  return createPool({ connectionString: server().connectionString, application_name: name, ...options }, name);
}

const isActive = (name: string, part: string): Promise<unknown> =>
  waitFor(
    async () =>
      (await sessionsOf(server(), name)).some(({ state, query }) => state === 'active' && query.includes(part)),
    { message: 'the statement to run' },
  );

/** A network that keeps what one connection sends until {@link deliver}, the end of that connection included. */
async function startRelay(late: number): Promise<AsyncDisposable & { port: number; deliver: () => void }> {
  const kept: (() => void)[] = [];
  const sockets = new Set<Socket>();
  let accepted = 0;
  const relay = createServer({ allowHalfOpen: true }, (client) => {
    const isLate = ++accepted === late;
    const upstream = connect({ host: server().host, port: server().port, allowHalfOpen: true });
    const pass = (send: () => void): void => {
      if (isLate) kept.push(send);
      else send();
    };
    client.on('data', (chunk) => pass(() => upstream.write(chunk)));
    client.on('close', () => pass(() => upstream.end()));
    upstream.on('data', (chunk) => client.write(chunk)).on('end', () => client.end());
    for (const socket of [client, upstream]) sockets.add(socket.on('error', () => undefined));
  });
  relay.listen(0, '127.0.0.1');
  await once(relay, 'listening');
  return {
    port: (relay.address() as AddressInfo).port,
    deliver: () => kept.splice(0).forEach((send) => send()),
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => relay.close(resolve));
    },
  };
}

// The statement ends by itself while nobody confirms the request for its cancellation: what the network delivers late
// must not end the statement of the next borrower.
it('lends no connection to which a CancelRequest may still be on its way', async () => {
  await using relay = await startRelay(2);
  await using pool = openPool('late', { port: relay.port, ssl: false, pool: { max: 1 } });
  const controller = new AbortController();
  const statement = pool.query({ text: 'SELECT pg_sleep(0.3)', signal: controller.signal });
  await isActive('late', 'pg_sleep(0.3)');
  controller.abort();
  await expect(statement).rejects.toMatchObject({ code: 'PG_ABORTED' });
  const next = pool.query('SELECT 1 AS one FROM pg_sleep(1)');
  const outcome = next.then(
    ({ rows }) => rows,
    (error: unknown) => error,
  );
  await isActive('late', 'AS one');
  relay.deliver();

  expect(await outcome).toEqual([{ one: 1 }]);
});

// The signal's event is over before anybody who runs the statement could listen to it.
it('settles a query whose signal fires after it was served and before it was sent', async () => {
  await using pool = openPool('between', { pool: { max: 1, drainTimeoutMillis: 1 } });
  const lease = await pool.connect();
  const controller = new AbortController();
  const query = pool.query({ text: 'SELECT 1', signal: controller.signal });
  lease.release();
  controller.abort();
  const settled = query.then(
    () => 'settled',
    () => 'settled',
  );
  expect(await Promise.race([settled, delay(2_000, 'never')])).toBe('settled');
});

// Its end is told by the server's ReadyForQuery, which never comes.
it('closes the connection of a Submittable whose answer did not come in time', async () => {
  await using proxy = await startProxy({ host: server().host, port: server().port });
  const pooled = { max: 1, acquireTimeoutMillis: 2_000, drainTimeoutMillis: 1 };
  await using pool = openPool('silent', { port: proxy.port, ssl: false, query_timeout: 200, pool: pooled });
  await pool.query('SELECT 1');
  // This connection is silent from now on, and no other.
  proxy.onData((chunk, _, { id }) => (id === 1 ? undefined : chunk));
  const error = await new Promise((resolve) => pool.query(new pg.Query('SELECT 1', resolve)));
  expect(error).toMatchObject({ message: 'Query read timeout' });

  expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
});

// When its time is over and the connection is cut, and again when pg sees the connection end.
it('tells a Submittable once that its answer did not come in time', async () => {
  await using pool = openPool('once', { query_timeout: 100, pool: { max: 1 } });
  const errors: string[] = [];
  await new Promise<void>((resolve) => {
    const tell = (error: Error | undefined): void => {
      errors.push(String(error?.message));
      resolve();
    };
    pool.query(new pg.Query('SELECT pg_sleep(10)', tell));
  });
  await waitFor(() => pool.totalCount === 0, { message: 'the connection to be closed' });
  expect(errors).toEqual(['Query read timeout']);
});

// `end` is over, so nothing stops the clock: the callback hears of a time-out after it has heard of the end.
it('tells a Submittable once that its session has ended', async () => {
  const connect = createConnectionFactory({ connectionString: server().connectionString, query_timeout: 100 });
  await using client = await connect();
  const ended = new Promise<void>((resolve) => client.once('end', resolve));
  client.query('SELECT pg_terminate_backend(pg_backend_pid())').catch(() => undefined);
  await ended;
  const errors: string[] = [];
  client.query(new pg.Query('SELECT 1', (error) => errors.push(String(error?.message))));
  await delay(300);
  expect(errors).toEqual([expect.stringMatching(/not queryable/)]);
});

// `drain` comes when nothing is queued any more: not between a statement and the one that its callback begins.
it('stops the clock of a Submittable when that is done, and not when the connection has nothing to do', async () => {
  await using pool = openPool('chain', { query_timeout: 400, pool: { max: 1 } });
  await using lease = await pool.connect();
  const text = 'SELECT 1 AS one FROM pg_sleep(0.25)';
  const second = new Promise((resolve, reject) => {
    const tell = (): void => void lease.query(text).then(({ rows }) => resolve(rows), reject);
    lease.query(new pg.Query(text, tell));
  });
  expect(await second).toEqual([{ one: 1 }]);
});

// The pool has taken it back before its borrower does.
it('tells of the release of a lease whose connection was lost', async () => {
  await using pool = openPool('lost');
  const events: string[] = [];
  pool.on('acquire', () => events.push('acquire'));
  pool.on('release', () => events.push('release'));
  const lease = await pool.connect();
  const statement = lease.query('SELECT pg_sleep(10)');
  await isActive('lost', 'pg_sleep');
  await Promise.all([terminateBackends(server(), 'lost'), expect(statement).rejects.toThrow()]);
  await waitFor(() => pool.totalCount === 0, { message: 'the pool to see the end' });
  lease.release();
  expect(events).toEqual(['acquire', 'release']);
});
