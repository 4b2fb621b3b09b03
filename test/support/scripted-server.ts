import { createServer, type Socket } from 'node:net';

/** Request codes that a client may send in place of a protocol version (pqcomm.h). */
export const SSL_REQUEST = 80877103;
export const GSS_REQUEST = 80877104;
export const CANCEL_REQUEST = 80877102;
export const PROTOCOL_3 = 196608;

export interface StartupPacket {
  /** {@link SSL_REQUEST}, {@link PROTOCOL_3}, ... */
  readonly code: number;
  readonly parameters: Readonly<Record<string, string>>;
}

export interface Message {
  /** One letter. */
  readonly type: string;
  readonly body: Buffer;
}

export interface ScriptedServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** Connections ever accepted. */
  readonly accepted: number;
  /** Connections open now. */
  readonly connections: number;
  /** What handlers have thrown, but for the peer's going away. */
  readonly errors: readonly unknown[];
  close(): Promise<void>;
}

/** A TCP server that says what `handler` says: for what no real server can be made to do. */
export async function startScriptedServer(
  handler: (connection: ScriptedConnection) => void | Promise<void>,
  { host = '127.0.0.1', port = 0 }: { host?: string; port?: number } = {},
): Promise<ScriptedServer> {
  const sockets = new Set<Socket>();
  const errors: unknown[] = [];
  let accepted = 0;
  const server = createServer({ noDelay: true }, (socket) => {
    accepted++;
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
    Promise.resolve(handler(new ScriptedConnection(socket))).catch((error: unknown) => {
      if (!(error instanceof PeerGoneError)) errors.push(error);
      socket.destroy();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of sockets) socket.destroy();
    });
  return {
    host,
    port: address.port,
    get accepted() {
      return accepted;
    },
    get connections() {
      return sockets.size;
    },
    errors,
    close,
    [Symbol.asyncDispose]: close,
  };
}

class PeerGoneError extends Error {}

/** One client of a scripted server: read what it says, byte for byte or message for message, and answer anything. */
export class ScriptedConnection {
  readonly socket: Socket;
  #buffer = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  #isGone = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#buffer = Buffer.concat([this.#buffer, chunk]);
      this.#wake?.();
    });
    for (const event of ['end', 'close']) {
      socket.on(event, () => {
        this.#isGone = true;
        this.#wake?.();
      });
    }
  }

  /** Exactly `count` bytes. */
  async read(count: number): Promise<Buffer> {
    while (this.#buffer.length < count) {
      if (this.#isGone) throw new PeerGoneError('the client has gone');
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const bytes = this.#buffer.subarray(0, count);
    this.#buffer = this.#buffer.subarray(count);
    return bytes;
  }

  /** The first packet of a connection, which has no type. */
  async startup(): Promise<StartupPacket> {
    const body = await this.read((await this.read(4)).readInt32BE() - 4);
    const words = body.subarray(4).toString('utf8').split('\0');
    const parameters: Record<string, string> = {};
    for (let i = 0; words[i]; i += 2) parameters[words[i] ?? ''] = words[i + 1] ?? '';
    return { code: body.readInt32BE(), parameters };
  }

  /** The startup packet, after every request for encryption has been declined with `N`. */
  async startupWithoutEncryption(): Promise<StartupPacket> {
    for (;;) {
      const packet = await this.startup();
      if (packet.code !== SSL_REQUEST && packet.code !== GSS_REQUEST) return packet;
      this.send('N');
    }
  }

  async message(): Promise<Message> {
    const head = await this.read(5);
    return { type: head.toString('latin1', 0, 1), body: await this.read(head.readInt32BE(1) - 4) };
  }

  send(bytes: Buffer | string): void {
    this.socket.write(bytes);
  }

  sendMessage(type: string, body: Buffer | string = ''): void {
    this.send(message(type, body));
  }

  /** AuthenticationOk, a backend key, ReadyForQuery. */
  sendReady(): void {
    const ok = Buffer.alloc(4);
    const key = Buffer.from([0, 0, 0x30, 0x39, 0, 0, 0, 1]);
    this.send(Buffer.concat([message('R', ok), message('K', key), message('Z', 'I')]));
  }

  sendError(code: string, text: string, severity = 'FATAL'): void {
    this.sendMessage('E', `S${severity}\0V${severity}\0C${code}\0M${text}\0\0`);
  }

  end(): void {
    this.socket.end();
  }

  reset(): void {
    this.socket.resetAndDestroy();
  }
}

/** A message of protocol 3: type, length, body. */
export function message(type: string, body: Buffer | string = ''): Buffer {
  const content = Buffer.from(body);
  const head = Buffer.alloc(5);
  head.write(type, 0, 'latin1');
  head.writeInt32BE(content.length + 4, 1);
  return Buffer.concat([head, content]);
}
