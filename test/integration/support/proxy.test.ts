import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { useServer, waitFor } from '../../support/postgres.js';
import { startProxy, type FaultProxy } from '../../support/proxy.js';
import { startScriptedServer, PROTOCOL_3 } from '../../support/scripted-server.js';

describe('the proxy', () => {
  let echo: Server;
  let echoing: Set<Socket>;
  let proxy: FaultProxy;
  const clients: Socket[] = [];

  beforeEach(async () => {
    echoing = new Set();
    echo = createServer({ allowHalfOpen: true }, (socket) => {
      echoing.add(socket);
      socket.on('close', () => echoing.delete(socket));
      socket.on('error', () => undefined);
      socket.pipe(socket);
    });
    echo.listen(0, '127.0.0.1');
    await once(echo, 'listening');
    proxy = await startProxy({ host: '127.0.0.1', port: (echo.address() as AddressInfo).port });
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.destroy();
    await proxy.close();
    echo.close();
  });

  async function client(): Promise<Socket> {
    const socket = connect({ host: proxy.host, port: proxy.port, allowHalfOpen: true });
    clients.push(socket);
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    return socket;
  }

  async function said(socket: Socket, text: string): Promise<string> {
    socket.write(text);
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    return chunk.toString();
  }

  const errorOf = async (socket: Socket): Promise<unknown> => ((await once(socket, 'error')) as [unknown])[0];

  it('passes bytes and both ends of a connection on', async () => {
    const socket = await client();
    expect(await said(socket, 'hello')).toBe('hello');
    expect([proxy.connections, proxy.accepted]).toEqual([1, 1]);
    socket.end('last words');
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).toString()).toBe('last words');
    await waitFor(() => proxy.connections === 0, { message: 'the connection to be forgotten' });
    expect(proxy.accepted).toBe(1);
  });

  it('delays, and keeps the order when the delay shrinks', async () => {
    const socket = await client();
    await said(socket, 'warm');
    proxy.latency(40);
    const start = performance.now();
    await said(socket, 'there and back');
    expect(performance.now() - start).toBeGreaterThan(78); // a lower bound: no load can break it
    let seen = '';
    proxy.onData((chunk, from) => {
      if (from === 'client') seen += chunk.toString();
      return chunk;
    });
    socket.write('slow');
    await waitFor(() => seen === 'slow', { message: 'the proxy to have it' });
    proxy.latency(0);
    socket.write('!');
    let heard = '';
    socket.on('data', (chunk) => (heard += String(chunk)));
    await waitFor(() => heard.length === 5, { message: 'all words' });
    expect(heard).toBe('slow!');
  });

  it('cuts every connection with a reset, and takes new ones', async () => {
    const [one, two] = [await client(), await client()];
    await Promise.all([said(one, '1'), said(two, '2')]);
    const errors = Promise.all([errorOf(one), errorOf(two)]);
    proxy.cut();
    expect(await errors).toMatchObject([{ code: 'ECONNRESET' }, { code: 'ECONNRESET' }]);
    await waitFor(() => echoing.size === 0, { message: 'the target to see it' });
    expect(proxy.connections).toBe(0);
    expect(await said(await client(), 'again')).toBe('again');
  });

  it('is a black hole for bytes, ends and newcomers, until it heals', async () => {
    const [old, leaver] = [await client(), await client()];
    await Promise.all([said(old, 'a'), said(leaver, 'b')]);
    proxy.blackHole();
    const newcomer = await client();
    let heard = '';
    for (const socket of [old, newcomer]) {
      socket.on('data', (chunk) => (heard += String(chunk)));
      socket.write('x');
    }
    leaver.destroy();
    for (const socket of echoing) socket.write('y');
    await new Promise((resolve) => setTimeout(resolve, 30)); // nothing can be awaited of what must not happen
    expect([heard, echoing.size, proxy.accepted]).toEqual(['', 2, 3]);
    proxy.heal();
    await waitFor(() => [...heard].sort().join('') === 'xxy', { message: 'what was sent meanwhile' });
    await waitFor(() => echoing.size === 2 && proxy.connections === 2, { message: 'the leaver to be gone' });
  });

  it('refuses newcomers and lets the others go on; accepts again on the same port', async () => {
    const old = await client();
    await said(old, 'a');
    await proxy.refuse();
    await expect(client()).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    expect(await said(old, 'b')).toBe('b');
    await proxy.accept();
    expect(await said(await client(), 'c')).toBe('c');
  });

  it('ends after exactly so many bytes of the server', async () => {
    const old = await client();
    await said(old, 'before');
    proxy.limitBytes(5);
    for (const socket of [old, await client()]) {
      socket.write('123456789');
      let heard = '';
      for await (const chunk of socket) heard += String(chunk);
      expect(heard).toBe('12345');
    }
    await waitFor(() => echoing.size === 0, { message: 'the target to see it' });
    proxy.limitBytes(undefined);
    expect(await said(await client(), '123456789')).toBe('123456789');
  });

  it('lets a hook change, swallow and answer', async () => {
    const socket = await client();
    proxy.onData((chunk, from, connection) => {
      const text = chunk.toString();
      if (from === 'server') return Buffer.from(text.toUpperCase());
      if (text === 'ping') connection.send('client', 'pong');
      if (text === 'bye') connection.reset();
      return text === 'ping' ? undefined : chunk;
    });
    expect(await said(socket, 'hello')).toBe('HELLO');
    expect(await said(socket, 'ping')).toBe('pong');
    const error = errorOf(socket);
    socket.write('bye');
    expect(await error).toMatchObject({ code: 'ECONNRESET' });
  });

  it('resets the client when its target is not there', async () => {
    echo.close();
    await once(echo, 'close');
    const socket = await client();
    expect(await errorOf(socket)).toMatchObject({ code: 'ECONNRESET' });
    await waitFor(() => proxy.connections === 0, { message: 'the connection to be forgotten' });
  });
});

describe('the proxy before a real server', () => {
  const server = useServer();

  it('carries sessions over TCP and to a Unix socket', async () => {
    const { host, port, socketDir, password, user } = server();
    for (const target of [{ host, port }, { path: `${socketDir}/.s.PGSQL.${port}` }]) {
      await using proxy = await startProxy(target);
      const client = new pg.Client({ host: proxy.host, port: proxy.port, user, password, database: 'postgres' });
      await client.connect();
      expect((await client.query('SELECT repeat($1, 100000) AS long', ['x'])).rows).toEqual([
        { long: 'x'.repeat(100_000) },
      ]);
      await client.end();
      expect(proxy.accepted).toBe(1);
    }
  });
});

describe('the scripted server', () => {
  const attempt = async (port: number): Promise<pg.Client> => {
    const client = new pg.Client({ host: '127.0.0.1', port, user: 'me', password: 'x', database: 'db' });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  };

  it('reads what the client says and answers by hand', async () => {
    await using server = await startScriptedServer(async (connection) => {
      const { code, parameters } = await connection.startupWithoutEncryption();
      expect(code).toBe(PROTOCOL_3);
      connection.sendReady();
      const { type, body } = await connection.message();
      connection.sendError('XX123', `${type} ${body.toString().replace('\0', '')} of ${parameters.user}`, 'ERROR');
      connection.sendMessage('Z', 'I');
      await connection.message();
      connection.end();
    });
    const client = await attempt(server.port);
    await expect(client.query('SELECT 1')).rejects.toMatchObject({ code: 'XX123', message: 'Q SELECT 1 of me' });
    await client.end();
    expect(server.errors).toEqual([]);
    expect(server.accepted).toBe(1);
  });

  it('says E, garbage or nothing, and keeps what its script throws', async () => {
    await using server = await startScriptedServer(async (connection) => {
      if (server.accepted === 1) {
        await connection.startup();
        return connection.sendError('57P03', 'not yet');
      }
      if (server.accepted === 2) return connection.end();
      if (server.accepted === 3) return connection.reset();
      throw new Error('end of the script');
    });
    await expect(attempt(server.port)).rejects.toMatchObject({ code: '57P03' });
    await expect(attempt(server.port)).rejects.toThrow('Connection terminated unexpectedly');
    await expect(attempt(server.port)).rejects.toThrow();
    await expect(attempt(server.port)).rejects.toThrow();
    expect(server.errors).toEqual([new Error('end of the script')]);
  });
});
