import { createServer, connect, type Server, type Socket } from 'node:net';
import { freePort } from '../../lib/testing/free-port.js';

export type ProxyTarget = { host: string; port: number } | { path: string };

/** Whose bytes they are. */
export type Side = 'client' | 'server';

/** One proxied connection, for a hook that answers by hand. */
export interface ProxyConnection {
  /** Order of acceptance, from 1. */
  readonly id: number;
  send(to: Side, bytes: Buffer | string): void;
  /** RST to both sides. */
  reset(): void;
  /** FIN to both sides, after what has been sent. */
  end(): void;
}

/** Sees each chunk before it is forwarded; what it returns is forwarded instead, undefined swallows the chunk. */
export type DataHook = (chunk: Buffer, from: Side, connection: ProxyConnection) => Buffer | undefined;

/** Starts a TCP proxy in front of `target`, on a port that stays its own over {@link FaultProxy.refuse}. */
export async function startProxy(
  target: ProxyTarget,
  { host = '127.0.0.1' }: { host?: string } = {},
): Promise<FaultProxy> {
  const proxy = new FaultProxy(target, host, await freePort([host]));
  await proxy.accept();
  return proxy;
}

/** A network that fails on command. */
export class FaultProxy implements AsyncDisposable {
  readonly host: string;
  readonly port: number;
  readonly #target: ProxyTarget;
  readonly #pairs = new Set<Pair>();
  #server: Server | undefined;
  #accepted = 0;
  #latency = 0;
  #isBlackHole = false;
  #limit: number | undefined;
  #hook: DataHook | undefined;

  constructor(target: ProxyTarget, host: string, port: number) {
    this.#target = target;
    this.host = host;
    this.port = port;
  }

  /** Connections open now. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** Connections ever accepted. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Delays everything by `ms` in each direction; what is underway keeps its order. */
  latency(ms: number): void {
    this.#latency = ms;
  }

  /** RST to both sides of every connection. */
  cut(): void {
    for (const pair of this.#pairs) pair.reset();
  }

  /**
   * A network that loses every packet: nothing passes, neither bytes nor the end of a connection; new connections are
   * accepted (by this proxy) and hear nothing. As with TCP, what was sent meanwhile arrives after {@link heal}.
   */
  blackHole(): void {
    this.#isBlackHole = true;
    for (const pair of this.#pairs) pair.hold(true);
  }

  heal(): void {
    this.#isBlackHole = false;
    for (const pair of this.#pairs) pair.hold(false);
  }

  /** Stops listening: new connections get ECONNREFUSED, open ones go on. */
  async refuse(): Promise<void> {
    this.#server?.close();
    this.#server = undefined;
  }

  /** Listens (again), on the same port. */
  async accept(): Promise<void> {
    if (this.#server) return;
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#open(socket));
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.port, this.host, resolve);
    });
  }

  /**
   * Ends each connection, open or to come, once `count` more bytes of the server's have passed: FIN to the client (a
   * reset right behind bytes may overtake them), RST to the server. Undefined lifts it.
   */
  limitBytes(count: number | undefined): void {
    this.#limit = count;
    for (const pair of this.#pairs) pair.limit(count);
  }

  onData(hook: DataHook | undefined): void {
    this.#hook = hook;
  }

  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    const closed = new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
    this.cut();
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #open(client: Socket): void {
    const pair = new Pair(++this.#accepted, client, this.#target, {
      latency: () => this.#latency,
      hook: (chunk, from, connection) => (this.#hook ? this.#hook(chunk, from, connection) : chunk),
      closed: () => this.#pairs.delete(pair),
    });
    this.#pairs.add(pair);
    pair.limit(this.#limit);
    pair.hold(this.#isBlackHole);
  }
}

interface PairOptions {
  latency(): number;
  hook: DataHook;
  closed(): void;
}

class Pair implements ProxyConnection {
  readonly id: number;
  readonly #client: Socket;
  readonly #target: ProxyTarget;
  readonly #options: PairOptions;
  readonly #toClient: Lane;
  readonly #toServer: Lane;
  #server: Socket | undefined;
  #left: number | undefined;

  constructor(id: number, client: Socket, target: ProxyTarget, options: PairOptions) {
    this.id = id;
    this.#client = client;
    this.#target = target;
    this.#options = options;
    this.#toClient = new Lane((item) => this.#deliver(client, item));
    this.#toServer = new Lane((item) => this.#deliver(this.#upstream(), item));
    this.#watch(client, 'client', this.#toServer);
  }

  /** The server's side is connected only when the network lets us: a black hole swallows the first packet too. */
  hold(on: boolean): void {
    this.#toClient.hold(on);
    this.#toServer.hold(on);
    if (!on) this.#upstream();
  }

  limit(count: number | undefined): void {
    this.#left = count;
  }

  send(to: Side, bytes: Buffer | string): void {
    (to === 'client' ? this.#toClient : this.#toServer).push(Buffer.from(bytes), this.#options.latency());
  }

  reset(): void {
    this.#toClient.stop();
    this.#toServer.stop();
    this.#client.resetAndDestroy();
    this.#server?.resetAndDestroy();
    this.#options.closed();
  }

  end(): void {
    for (const lane of [this.#toClient, this.#toServer]) lane.push('end', this.#options.latency());
  }

  #upstream(): Socket {
    if (!this.#server) {
      this.#server = connect({ ...this.#target, allowHalfOpen: true, noDelay: true });
      this.#watch(this.#server, 'server', this.#toClient);
    }
    return this.#server;
  }

  #watch(socket: Socket, from: Side, lane: Lane): void {
    socket.on('data', (chunk: Buffer) => {
      const passed = this.#options.hook(chunk, from, this);
      if (passed) lane.push(passed, this.#options.latency());
    });
    socket.on('end', () => lane.push('end', this.#options.latency()));
    socket.on('error', () => undefined);
    socket.on('close', (failed) => {
      lane.push(failed ? 'reset' : 'end', this.#options.latency());
      if (this.#client.destroyed && (this.#server?.destroyed ?? true)) this.#options.closed();
    });
  }

  #deliver(socket: Socket, item: Item): void {
    if (socket.destroyed) return;
    if (item === 'reset') socket.resetAndDestroy();
    else if (item === 'end') socket.end();
    else if (socket !== this.#client || this.#left === undefined) socket.write(item);
    else {
      const part = item.subarray(0, this.#left);
      this.#left -= part.length;
      socket.write(part);
      if (this.#left === 0) {
        socket.end();
        this.#server?.resetAndDestroy();
        this.#toClient.stop();
      }
    }
  }
}

type Item = Buffer | 'end' | 'reset';

/** One direction: what goes in comes out in the same order, not before its time and not while held. */
class Lane {
  readonly #deliver: (item: Item) => void;
  readonly #queue: { item: Item; due: number }[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isHeld = false;

  constructor(deliver: (item: Item) => void) {
    this.#deliver = deliver;
  }

  push(item: Item, latency: number): void {
    this.#queue.push({ item, due: performance.now() + latency });
    this.#flush();
  }

  hold(on: boolean): void {
    this.#isHeld = on;
    this.#flush();
  }

  stop(): void {
    this.#queue.length = 0;
    clearTimeout(this.#timer);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    while (!this.#isHeld) {
      const next = this.#queue[0];
      if (!next) return;
      const wait = next.due - performance.now();
      if (wait > 0) {
        this.#timer = setTimeout(() => this.#flush(), Math.ceil(wait));
        return;
      }
      this.#queue.shift();
      this.#deliver(next.item);
    }
  }
}
