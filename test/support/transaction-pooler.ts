import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { PostgresServer } from 'nestjs-pg/testing';
import { CANCEL_REQUEST, GSS_REQUEST, SSL_REQUEST, message } from './scripted-server.js';

export interface PoolerOptions {
  /** Sessions that all clients share. Default 2. */
  sessions?: number;
  /** When a client gives its session back. In `statement` mode, one that opens a transaction is thrown out. */
  mode?: 'transaction' | 'statement';
  /**
   * As PgBouncer since 1.21 with max_prepared_statements: a client's statement is parsed on each session that it comes to,
   * once for all that have the same text. Default: nothing is known of prepared statements, as before 1.21.
   */
  keepsStatements?: boolean;
}

/** A pooler in which each transaction gets the session that has rested longest, so two in a row meet different ones. */
export async function startTransactionPooler(
  server: PostgresServer,
  { sessions = 2, mode = 'transaction', keepsStatements = false }: PoolerOptions = {},
): Promise<TransactionPooler> {
  const path = join(server.socketDir, `.s.PGSQL.${server.port}`);
  const opened = Array.from({ length: sessions }, () => new Session(connect(path), server.user, server.database));
  const pooler = new TransactionPooler(opened, mode === 'statement', keepsStatements);
  await pooler.listen();
  return pooler;
}

export class TransactionPooler implements AsyncDisposable {
  readonly host = '127.0.0.1';
  /** Transactions served so far. */
  served = 0;
  readonly #isStatementMode: boolean;
  readonly #keepsStatements: boolean;
  readonly #sessions: readonly Session[];
  readonly #idle: Session[];
  readonly #waiting: ((session: Session) => void)[] = [];
  readonly #clients = new Set<Socket>();
  readonly #server: Server;

  constructor(sessions: readonly Session[], isStatementMode: boolean, keepsStatements: boolean) {
    this.#keepsStatements = keepsStatements;
    this.#sessions = sessions;
    this.#idle = [...sessions];
    this.#isStatementMode = isStatementMode;
    this.#server = createServer({ noDelay: true }, (socket) => this.#accept(socket));
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
    return address.port;
  }

  async listen(): Promise<void> {
    await Promise.all(this.#sessions.map(({ opened }) => opened));
    await new Promise<void>((resolve) => this.#server.listen(0, this.host, resolve));
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const client of this.#clients) client.destroy();
    for (const session of this.#sessions) session.end();
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #accept(socket: Socket): void {
    this.#clients.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.#clients.delete(socket));
    let unread = Buffer.alloc(0);
    let client: Client | undefined;
    socket.on('data', (chunk: Buffer) => {
      unread = Buffer.concat([unread, chunk]);
      for (;;) {
        const head = client ? 1 : 0;
        if (unread.length < head + 4) return;
        const end = head + unread.readInt32BE(head);
        if (unread.length < end) return;
        const packet = unread.subarray(0, end);
        unread = unread.subarray(end);
        if (client) client.hear(packet);
        else if (this.#isStartup(packet, socket)) client = this.#greet(socket);
      }
    });
    socket.on('close', () => client?.leave());
  }

  #isStartup(packet: Buffer, socket: Socket): boolean {
    const code = packet.readInt32BE(4);
    if (code === SSL_REQUEST || code === GSS_REQUEST) socket.write('N');
    else if (code === CANCEL_REQUEST) socket.end();
    else return true;
    return false;
  }

  #greet(socket: Socket): Client {
    const { greeting } = this.#sessions[0]!;
    socket.write(
      Buffer.concat([message('R', Buffer.alloc(4)), greeting, message('K', Buffer.alloc(8)), message('Z', 'I')]),
    );
    const kept = this.#keepsStatements ? new KeptStatements() : undefined;
    return new Client(socket, this.#isStatementMode, kept, {
      take: (taker) => {
        const session = this.#idle.shift();
        if (session) taker(session);
        else this.#waiting.push(taker);
      },
      giveBack: (session) => {
        this.served++;
        const next = this.#waiting.shift();
        if (next) next(session);
        else this.#idle.push(session);
      },
    });
  }
}

interface Sessions {
  take(taker: (session: Session) => void): void;
  giveBack(session: Session): void;
}

class Client {
  readonly #socket: Socket;
  readonly #isStatementMode: boolean;
  readonly #kept: KeptStatements | undefined;
  readonly #sessions: Sessions;
  #session: Session | undefined;
  #isWaiting = false;
  #unsent: Buffer[] = [];
  /** ReadyForQuery messages that are still to come. */
  #due = 0;
  #isGone = false;

  constructor(socket: Socket, isStatementMode: boolean, kept: KeptStatements | undefined, sessions: Sessions) {
    this.#socket = socket;
    this.#kept = kept;
    this.#isStatementMode = isStatementMode;
    this.#sessions = sessions;
  }

  hear(packet: Buffer): void {
    const type = packet.toString('latin1', 0, 1);
    if (type === 'X') {
      this.#socket.end();
      return;
    }
    if (type === 'Q' || type === 'S') this.#due++;
    this.#unsent.push(packet);
    if (this.#session) this.#flush(this.#session);
    else if (!this.#isWaiting) {
      this.#isWaiting = true;
      this.#sessions.take((session) => this.#begin(session));
    }
  }

  /** Whoever leaves in the midst of a transaction has it rolled back. */
  leave(): void {
    this.#isGone = true;
    const session = this.#session;
    if (!session) return;
    this.#session = undefined;
    session.rollBack(() => this.#sessions.giveBack(session));
  }

  #begin(session: Session): void {
    this.#isWaiting = false;
    if (this.#isGone) {
      this.#sessions.giveBack(session);
      return;
    }
    this.#session = session;
    session.onMessage = (packet) => this.#tell(packet, session);
    this.#flush(session);
  }

  #flush(session: Session): void {
    const packets = this.#unsent;
    this.#unsent = [];
    session.send(
      Buffer.concat(this.#kept ? packets.flatMap((packet) => this.#kept!.forward(packet, session)) : packets),
    );
  }

  #tell(packet: Buffer, session: Session): void {
    const type = packet.toString('latin1', 0, 1);
    const isOver = type === 'Z' && --this.#due === 0;
    const isIdle = packet[5] === 'I'.charCodeAt(0);
    if (this.#kept && !session.statements.isForClient(type)) return;
    if (isOver && isIdle) {
      this.#session = undefined;
      this.#sessions.giveBack(session);
    } else if (isOver && this.#isStatementMode) {
      this.#socket.end(message('E', 'SFATAL\0VFATAL\0C08P01\0Mlong transactions not allowed\0\0'));
      return;
    }
    this.#socket.write(packet);
  }
}

/** The statements of a session, by what was parsed, and what is to become of the ParseCompletes that are due. */
class SessionStatements {
  readonly names = new Map<string, string>();
  /** For each request up to its Sync: whether the client has asked, and what is new. */
  readonly #batches: { isAsked: boolean; key: string }[][] = [[]];

  parse(key: string, isAsked: boolean): void {
    this.#batches.at(-1)?.push({ isAsked, key });
  }

  sync(): void {
    this.#batches.push([]);
  }

  isForClient(type: string): boolean {
    const [batch = []] = this.#batches;
    if (type === '1') return batch.shift()?.isAsked ?? true;
    // What was not parsed before an error is not parsed at all.
    if (type === 'E') for (const { key } of batch) this.names.delete(key);
    if (type === 'Z') this.#batches.shift();
    return true;
  }
}

let names = 0;

/** The named statements of a client, wherever it is. */
class KeptStatements {
  /** What was parsed: the text and the types of the parameters. */
  readonly #keys = new Map<string, string>();

  /** The messages for the session instead of the client's. */
  forward(packet: Buffer, { statements }: Session): Buffer[] {
    const type = packet.toString('latin1', 0, 1);
    const body = packet.subarray(5);
    if (type === 'S' || type === 'Q') statements.sync();
    if (type === 'P') return this.#parse(packet, cut(body), statements);
    if (type === 'B') return this.#bind(packet, body, statements);
    if (type === 'C' && body.toString('latin1', 0, 1) === 'S') {
      this.#keys.delete(cut(body.subarray(1))[0]);
      return [message('C', 'Snobody\0')];
    }
    return [packet];
  }

  #parse(packet: Buffer, [name, rest]: [string, string], statements: SessionStatements): Buffer[] {
    if (name === '') {
      statements.parse('', true);
      return [packet];
    }
    this.#keys.set(name, rest);
    const known = statements.names.has(rest);
    statements.parse(known ? '' : rest, true);
    // One that is there already is answered for all the same.
    return known ? [message('P', '\0\0\0\0')] : [this.#prepare(rest, statements)];
  }

  #bind(packet: Buffer, body: Buffer, statements: SessionStatements): Buffer[] {
    const [portal, behind] = cut(body);
    const [name, rest] = cut(Buffer.from(behind, 'latin1'));
    const key = this.#keys.get(name);
    if (key === undefined) return [packet];
    const first: Buffer[] = [];
    if (!statements.names.has(key)) {
      statements.parse(key, false);
      first.push(this.#prepare(key, statements));
    }
    const bound = Buffer.from(`${portal}\0${statements.names.get(key) ?? ''}\0${rest}`, 'latin1');
    return [...first, message('B', bound)];
  }

  #prepare(key: string, statements: SessionStatements): Buffer {
    const name = `POOLER_${++names}`;
    statements.names.set(key, name);
    return message('P', Buffer.from(`${name}\0${key}`, 'latin1'));
  }
}

/** A text that ends with NUL, and what stands behind it, byte for byte. */
function cut(bytes: Buffer): [string, string] {
  const end = bytes.indexOf(0);
  return [bytes.toString('latin1', 0, end), bytes.toString('latin1', end + 1)];
}

/** A session of the server's, with its messages cut. */
class Session {
  readonly opened: Promise<void>;
  /** What the server says of its settings when a session begins. */
  greeting = Buffer.alloc(0);
  onMessage: ((packet: Buffer) => void) | undefined;
  readonly statements = new SessionStatements();
  readonly #socket: Socket;

  constructor(socket: Socket, user: string, database: string) {
    this.#socket = socket;
    const body = Buffer.from(`\0\x03\0\0user\0${user}\0database\0${database}\0application_name\0pooled\0\0`);
    const length = Buffer.alloc(4);
    length.writeInt32BE(body.length + 4);
    socket.write(Buffer.concat([length, body]));
    this.opened = new Promise((resolve, reject) => {
      socket.on('error', reject);
      this.onMessage = (packet) => {
        const type = packet.toString('latin1', 0, 1);
        if (type === 'S') this.greeting = Buffer.concat([this.greeting, packet]);
        if (type === 'E') reject(new Error(packet.toString('utf8', 5)));
        if (type === 'Z') resolve();
      };
    });
    let unread = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      unread = Buffer.concat([unread, chunk]);
      while (unread.length >= 5 && unread.length > unread.readInt32BE(1)) {
        const end = unread.readInt32BE(1) + 1;
        const packet = unread.subarray(0, end);
        unread = unread.subarray(end);
        this.onMessage?.(packet);
      }
    });
  }

  send(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  rollBack(done: () => void): void {
    // An answer that is still on its way comes before that of the ROLLBACK.
    this.onMessage = (packet) => {
      if (packet.toString('latin1', 0, 1) === 'C' && packet.toString('latin1', 5).startsWith('ROLLBACK')) {
        this.onMessage = () => done();
      }
    };
    this.send(message('Q', 'ROLLBACK\0'));
  }

  end(): void {
    this.#socket.end(message('X'));
  }
}
