import { TLSSocket } from 'node:tls';
import { message, SSL_REQUEST, ScriptedConnection } from '../../support/scripted-server.js';

/** Answers one client in a way that no PostgreSQL server does. */
export type Script = (connection: ScriptedConnection) => void | Promise<void>;

const TLS_HANDSHAKE = 0x16;

export interface ServerKey {
  readonly cert: string;
  readonly key: string;
}

/** What the client opens with; a ClientHello is put back for {@link secure}. */
async function opening(connection: ScriptedConnection): Promise<'ClientHello' | 'SSLRequest' | 'Startup'> {
  const head = await connection.read(4);
  if (head[0] === TLS_HANDSHAKE) {
    const rest = await connection.read(1);
    const body = await connection.read(Buffer.concat([head, rest]).readUInt16BE(3));
    connection.socket.removeAllListeners('data').pause();
    connection.socket.unshift(Buffer.concat([head, rest, body]));
    return 'ClientHello';
  }
  const body = await connection.read(head.readInt32BE() - 4);
  return body.readInt32BE() === SSL_REQUEST ? 'SSLRequest' : 'Startup';
}

function secure({ socket }: ScriptedConnection, key: ServerKey, ALPNProtocols?: string[]): ScriptedConnection {
  socket.removeAllListeners('data');
  const tls = new TLSSocket(socket, { isServer: true, ...key, ...(ALPNProtocols && { ALPNProtocols }) });
  tls.on('error', () => undefined);
  return new ScriptedConnection(tls);
}

/** `answer` to whatever the client opens with. */
const atOnce =
  (answer: Script): Script =>
  async (connection) => {
    await opening(connection);
    await answer(connection);
  };

/** `answer` to a client that asks for encryption, and silence to every other. */
const toRequest =
  (answer: Script): Script =>
  async (connection) => {
    if ((await opening(connection)) === 'SSLRequest') await answer(connection);
    else connection.end();
  };

/** `answer` to the startup packet of a client that goes on without encryption. */
const plain =
  (answer: Script): Script =>
  async (connection) => {
    let asked = await opening(connection);
    if (asked === 'SSLRequest') {
      connection.send('N');
      asked = await opening(connection);
    }
    if (asked === 'Startup') await answer(connection);
    else connection.end();
  };

/** `answer` to the startup packet of an encrypted client; without encryption a FATAL of pg_hba.conf's kind. */
const encrypted =
  (key: ServerKey, answer: Script, alpn: string[] | undefined = ['postgresql']): Script =>
  async (connection) => {
    const asked = await opening(connection);
    if (asked === 'Startup') {
      connection.sendError('28000', 'no entry for unencrypted clients');
      connection.end();
      return;
    }
    if (asked === 'SSLRequest') connection.send('S');
    const inside = secure(connection, key, alpn);
    await inside.startup();
    await answer(inside);
  };

const say =
  (bytes: string | Buffer): Script =>
  (connection) => {
    connection.send(bytes);
    connection.end();
  };

const refuse =
  (code: string): Script =>
  (connection) => {
    connection.sendError(code, `scripted ${code}`);
    connection.end();
  };

const hangUp: Script = (connection) => connection.end();
const reset: Script = (connection) => connection.reset();

/** An authentication request, and then whatever follows the client's answer. */
const ask =
  (code: number, body: Buffer | string, then: Script): Script =>
  async (connection) => {
    connection.send(authentication(code, body));
    await connection.message();
    await then(connection);
  };

/** A server of this version lets the client in; from 14 on it tells by itself that it is a primary. */
const letInBy =
  (version: number): Script =>
  async (connection) => {
    connection.send(authentication(0));
    await welcome(connection, version);
  };

async function welcome(connection: ScriptedConnection, version: number): Promise<void> {
  connection.sendMessage('S', `server_version\0${version}.1\0`);
  if (version >= 14) {
    connection.sendMessage('S', 'in_hot_standby\0off\0');
    connection.sendMessage('S', 'default_transaction_read_only\0off\0');
  }
  connection.sendMessage('Z', 'I');
  const { type } = await connection.message();
  if (type === 'Q') {
    connection.sendError('XX000', 'no such question', 'ERROR');
    connection.sendMessage('Z', 'I');
    await connection.message();
  }
  connection.end();
}

const letIn = letInBy(18);

function authentication(code: number, body: Buffer | string = ''): Buffer {
  const head = Buffer.alloc(4);
  head.writeInt32BE(code);
  return message('R', Buffer.concat([head, Buffer.from(body)]));
}

const [CLEARTEXT, MD5, SASL, SASL_CONTINUE, SASL_FINAL] = [3, 5, 10, 11, 12] as const;
const SALT = Buffer.from([1, 2, 3, 4]);
const mechanisms = (...names: string[]): string => `${names.join('\0')}\0\0`;
const [SCRAM, PLUS] = ['SCRAM-SHA-256', 'SCRAM-SHA-256-PLUS'];
const SERVER_FIRST = `r=wrong,s=${Buffer.from('salt').toString('base64')},i=4096`;

export const letInPlainly = plain(letIn);

export const plainScripts: Readonly<Record<string, Script>> = {
  'E to the first packet': atOnce(refuse('0A000')),
  '57P03 to the first packet': atOnce(refuse('57P03')),
  'a pre-7.4 error to the first packet': atOnce(say('Esorry, too old\0')),
  'garbage to the first packet': atOnce(say('HTTP/1.1 400 Bad Request\r\n\r\n')),
  'one garbage byte': atOnce(say('x')),
  'EOF to the first packet': atOnce(hangUp),
  'reset at the first packet': atOnce(reset),
  'EOF before the first packet': hangUp,
  'S and EOF': toRequest(say('S')),
  'S and garbage': toRequest(async (connection) => {
    connection.send('S');
    await connection.read(1);
    connection.send('no TLS here, whatever the S has said');
    connection.end();
  }),
  'S with more bytes': toRequest(say('Sneaky')),
  'S and reset': toRequest(async (connection) => {
    connection.send('S');
    await connection.read(1);
    connection.reset();
  }),
  'N with more bytes': toRequest(async (connection) => {
    connection.send(Buffer.concat([Buffer.from('N'), authentication(0)]));
    await connection.startup();
    await welcome(connection, 18);
  }),
  'N and EOF': plain(hangUp),
  'N and reset': plain(reset),
  'N and garbage': plain(say('HTTP/1.1 400 Bad Request\r\n\r\n')),
  'N and a refusal': plain(refuse('28000')),
  'N and 57P03': plain(refuse('57P03')),
  'N and too many clients': plain(refuse('53300')),
  'N and let in': letInPlainly,
  'N and let in by a server that cannot be checked': plain(letInBy(13)),
  'let in, then refused': plain((connection) => {
    connection.send(authentication(0));
    return refuse('3D000')(connection);
  }),
  'let in, then EOF': plain(say(authentication(0))),
  'EOF in the middle of a message': plain(say(authentication(0).subarray(0, 6))),
  'a password asked for, then let in': plain(ask(CLEARTEXT, '', letIn)),
  'MD5 asked for, then let in': plain(ask(MD5, SALT, letIn)),
  'a password asked for twice': plain(ask(CLEARTEXT, '', ask(CLEARTEXT, '', letIn))),
  'MD5 and then a password asked for': plain(ask(MD5, SALT, ask(CLEARTEXT, '', letIn))),
  'SCRAM ended early': plain(ask(SASL, mechanisms(SCRAM), letIn)),
  'SCRAM ended before the final proof': plain(
    ask(SASL, mechanisms(SCRAM), (connection) => {
      connection.send(authentication(SASL_CONTINUE, SERVER_FIRST));
      return letIn(connection);
    }),
  ),
  'SCRAM with a false final proof': plain(
    ask(SASL, mechanisms(SCRAM), (connection) => {
      connection.send(authentication(SASL_FINAL, 'v=AAAA'));
      return letIn(connection);
    }),
  ),
  'SCRAM, then a password asked for': plain(ask(SASL, mechanisms(SCRAM), ask(CLEARTEXT, '', letIn))),
  'SCRAM-PLUS without encryption': plain(ask(SASL, mechanisms(PLUS, SCRAM), letIn)),
  'an unknown mechanism': plain(ask(SASL, mechanisms('SCRAM-SHA-512'), letIn)),
  'no mechanism': plain(ask(SASL, '\0', letIn)),
  'Kerberos 5 asked for': plain(ask(2, '', letIn)),
  'GSSAPI asked for': plain(ask(7, '', letIn)),
  'SSPI asked for': plain(ask(9, '', letIn)),
  'an unknown authentication': plain(ask(99, '', letIn)),
  'a lower protocol version': plain((connection) => {
    connection.sendMessage('v', Buffer.from([0, 3, 0, 0, 0, 0, 0, 0]));
    return letIn(connection);
  }),
  'a notice before anything': plain((connection) => {
    connection.sendMessage('N', 'SNOTICE\0VNOTICE\0C00000\0Mhello\0\0');
    return letIn(connection);
  }),
};

/** Servers that do speak TLS. */
export const encryptedScripts = (key: ServerKey): Readonly<Record<string, Script>> => ({
  'TLS and EOF': encrypted(key, hangUp),
  'TLS and a refusal': encrypted(key, refuse('28000')),
  'TLS and garbage': encrypted(key, say('HTTP/1.1 400 Bad Request\r\n\r\n')),
  'TLS, SCRAM asked for and refused at once': encrypted(key, (connection) => {
    connection.send(authentication(SASL, mechanisms(SCRAM)));
    return refuse('28000')(connection);
  }),
  'TLS, a password asked for and refused at once': encrypted(key, (connection) => {
    connection.send(authentication(CLEARTEXT));
    return refuse('28000')(connection);
  }),
  'TLS and 57P03': encrypted(key, refuse('57P03')),
  'TLS and let in': encrypted(key, letIn),
  'TLS without ALPN': encrypted(key, letIn, []),
  'TLS for another protocol': encrypted(key, letIn, ['http/1.1']),
  'TLS and a password asked for': encrypted(key, ask(CLEARTEXT, '', letIn)),
  'TLS and MD5 asked for': encrypted(key, ask(MD5, SALT, letIn)),
  'TLS and SCRAM ended early': encrypted(key, ask(SASL, mechanisms(PLUS, SCRAM), letIn)),
  'TLS and SCRAM without PLUS': encrypted(key, ask(SASL, mechanisms(SCRAM), refuse('28P01'))),
  'TLS and PLUS only': encrypted(key, ask(SASL, mechanisms(PLUS), refuse('28P01'))),
});
