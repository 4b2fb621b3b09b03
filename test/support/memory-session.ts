import { Duplex } from 'node:stream';
import { PgClient, type PgClientOptions } from '../../lib/client/pg-client.js';
import { StatementCatalog } from '../../lib/client/statement-catalog.js';
import { settle } from './manual-clock.js';
import { message, type Message } from './scripted-server.js';

/** A connected client whose server is the test. */
export interface MemorySession {
  readonly client: PgClient;
  readonly catalog: StatementCatalog;
  /** What the catalog has warned of. */
  readonly warnings: readonly string[];
  /** What the client has sent since the last call, as `Parse Bind Describe Execute Sync`. */
  sent(): string;
  /** The same, whole. */
  messages(): Message[];
  /** How often the client has written to its socket since the last call. */
  writes(): number;
  /** Answers in one packet, and lets what follows from it happen. */
  answer(...messages: Buffer[]): Promise<void>;
  readonly stream: Duplex;
}

export interface MemorySessionOptions extends Partial<PgClientOptions> {
  /** Named statements that the session may have. Default 100. */
  limit?: number;
}

const NAMES: Readonly<Record<string, string>> = {
  Q: 'Query',
  P: 'Parse',
  B: 'Bind',
  D: 'Describe',
  E: 'Execute',
  S: 'Sync',
  C: 'Close',
  H: 'Flush',
  X: 'Terminate',
};

class ClientStream extends Duplex {
  written = Buffer.alloc(0);
  writes = 0;

  override _read(): void {
    return undefined;
  }

  override _write(chunk: Buffer, _: unknown, done: () => void): void {
    this.#take([chunk], done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.#take(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  #take(chunks: readonly Buffer[], done: () => void): void {
    this.writes++;
    this.written = Buffer.concat([this.written, ...chunks]);
    done();
  }
}

/** Opens a session in memory: nothing is answered but what the test answers. */
export async function openSession({ limit = 100, ...options }: MemorySessionOptions = {}): Promise<MemorySession> {
  const stream = new ClientStream();
  const warnings: string[] = [];
  const catalog = options.statements ?? new StatementCatalog(limit, (text) => warnings.push(text));
  const client = new PgClient({
    stream,
    security: { encrypted: false, tlsVersion: undefined, verified: 'none' },
    host: 'localhost',
    port: 5432,
    user: 'me',
    database: 'mine',
    password: () => 'secret',
    authentication: { requireAuth: undefined, channelBinding: 'prefer', encrypted: false, certificateMissing: false },
    session: {},
    queryTimeoutMillis: 0,
    types: undefined,
    wantsWrites: false,
    statements: catalog,
    dialAgain: () => Promise.reject(new Error('there is no second stream')),
    ...options,
  });
  const connected = client.connect();
  await settle();
  stream.push(Buffer.concat([message('R', Buffer.alloc(4)), message('K', Buffer.alloc(8)), ready('I')]));
  await connected;
  stream.written = Buffer.alloc(0);
  stream.writes = 0;
  const messages = (): Message[] => {
    const found: Message[] = [];
    const bytes = stream.written;
    for (let at = 0; at < bytes.length;) {
      const end = at + bytes.readInt32BE(at + 1) + 1;
      found.push({ type: bytes.toString('latin1', at, at + 1), body: bytes.subarray(at + 5, end) });
      at = end;
    }
    stream.written = Buffer.alloc(0);
    return found;
  };
  return {
    client,
    catalog,
    warnings,
    stream,
    messages,
    sent: () =>
      messages()
        .map(({ type }) => NAMES[type] ?? type)
        .join(' '),
    writes: () => {
      const { writes } = stream;
      stream.writes = 0;
      return writes;
    },
    answer: async (...answers) => {
      stream.push(Buffer.concat(answers));
      await settle();
      await settle();
    },
  };
}

export const parsed = message('1');
export const bound = message('2');
export const closed = message('3');
export const noData = message('n');

export function ready(status: 'I' | 'T' | 'E'): Buffer {
  return message('Z', status);
}

export function complete(tag: string): Buffer {
  return message('C', `${tag}\0`);
}

/** RowDescription, for columns of text unless an oid is given. */
export function described(...columns: (string | [name: string, oid: number])[]): Buffer {
  const fields = columns.map((column) => {
    const [name, oid] = typeof column === 'string' ? [column, 25] : column;
    const rest = Buffer.alloc(18);
    rest.writeUInt32BE(oid, 6);
    rest.writeInt16BE(-1, 10);
    rest.writeInt32BE(-1, 12);
    return Buffer.concat([Buffer.from(`${name}\0`), rest]);
  });
  return message('T', Buffer.concat([int16(columns.length), ...fields]));
}

/** DataRow. */
export function row(...values: (string | null)[]): Buffer {
  const columns = values.map((value) => {
    const length = Buffer.alloc(4);
    length.writeInt32BE(value === null ? -1 : Buffer.byteLength(value));
    return Buffer.concat([length, Buffer.from(value ?? '')]);
  });
  return message('D', Buffer.concat([int16(values.length), ...columns]));
}

export function failed(code: string, text = 'failed', routine = 'somewhere'): Buffer {
  return message('E', `SERROR\0VERROR\0C${code}\0M${text}\0R${routine}\0\0`);
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
