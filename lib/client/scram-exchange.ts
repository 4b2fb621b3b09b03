import type pg from 'pg';
import { endPointDigest } from './channel-binding.js';
import { warnOfMissing } from './missing-part.js';
import type { ReadyConnection } from './ready-connection.js';
import { hmac, type ScramKeys, type ScramKeySet, type ScramTerms } from './scram-keys.js';

/** pg's state of an exchange: it has said hello, and is going to check the server's signature. */
interface SaslSession {
  message: string;
  readonly mechanism: string;
  readonly clientNonce: string;
  readonly scramMaxIterations: number;
  response: string;
  serverSignature: string;
}

/** The parts of pg's Client that its types do not name; see {@link ReadyConnection} for the rule. */
interface ClientInternals {
  readonly saslSession: Partial<SaslSession> | null | undefined;
  readonly enableChannelBinding: boolean;
  readonly password: unknown;
  _handleAuthSASLContinue(message: ServerFirst): Promise<void>;
}

interface ConnectionInternals {
  sendSCRAMClientFinalMessage(text: string): void;
}

interface ServerFirst {
  readonly data: string;
}

/** The server's first message: its nonce, salt and iteration count, without extensions. */
const SERVER_FIRST =
  /^r=([\x21-\x2b\x2d-\x7e]+),s=((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)),i=([1-9]\d{0,8})$/;

const CONSEQUENCE = 'authenticates the way of stock pg';

const PLUS = 'SCRAM-SHA-256-PLUS';

/** What of an exchange is needed to answer the server. */
export interface Challenge extends ScramTerms {
  /** Without the part about the channel: `client-first-message-bare`. */
  readonly clientFirst: string;
  readonly serverFirst: string;
  /** The server's nonce, which begins with the client's. */
  readonly nonce: string;
  /** What the channel is bound to, in base64. */
  readonly binding: string;
}

export interface Answer {
  readonly clientFinal: string;
  /** What the server's answer must be signed with, in base64. */
  readonly serverSignature: string;
}

/** RFC 5802, section 3. */
export function answerTo(
  { clientFirst, serverFirst, nonce, binding }: Omit<Challenge, keyof ScramTerms>,
  { clientKey, storedKey, serverKey }: ScramKeySet,
): Answer {
  const withoutProof = `c=${binding},r=${nonce}`;
  const authMessage = `${clientFirst},${serverFirst},${withoutProof}`;
  const signature = hmac(storedKey, authMessage);
  const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] ?? 0)));
  return {
    clientFinal: `${withoutProof},p=${proof.toString('base64')}`,
    serverSignature: hmac(serverKey, authMessage).toString('base64'),
  };
}

/**
 * One client's SCRAM-SHA-256 with keys that other connections have used before. pg begins it and checks the server's
 * signature at its end; what comes in between goes pg's own way where anything is unusual, and fails in pg's words.
 */
export class ScramExchange {
  readonly #client: ClientInternals;
  readonly #connection: ReadyConnection & ConnectionInternals;
  readonly #keys: ScramKeys;
  readonly #stock: ClientInternals['_handleAuthSASLContinue'];

  private constructor(client: pg.Client, connection: ReadyConnection, keys: ScramKeys) {
    this.#client = client as unknown as ClientInternals;
    this.#connection = connection as ReadyConnection & ConnectionInternals;
    this.#keys = keys;
    this.#stock = this.#client._handleAuthSASLContinue.bind(client);
  }

  /** Before the client connects. */
  static attach(client: pg.Client, connection: ReadyConnection, keys: ScramKeys): void {
    const obstacle = ScramExchange.#obstacle(client);
    if (obstacle === undefined) new ScramExchange(client, connection, keys).#takeOver();
    else warnOfMissing(obstacle, CONSEQUENCE);
  }

  #takeOver(): void {
    const value: ClientInternals['_handleAuthSASLContinue'] = (message) => this.#continue(message);
    Object.defineProperty(this.#client, '_handleAuthSASLContinue', { value, configurable: true, writable: true });
  }

  /** The part of pg that this needs and does not find, if there is one. */
  static #obstacle(client: pg.Client): string | undefined {
    if (!('_handleAuthSASLContinue' in client)) return 'Client._handleAuthSASLContinue';
    if (!('enableChannelBinding' in client)) return 'Client.enableChannelBinding';
    if (!('sendSCRAMClientFinalMessage' in client.connection)) return 'Connection.sendSCRAMClientFinalMessage';
    return undefined;
  }

  async #continue(message: ServerFirst): Promise<void> {
    const { password, saslSession } = this.#client;
    const challenge = saslSession && this.#challenge(message.data, saslSession);
    if (!challenge || typeof password !== 'string' || password === '') return this.#stock(message);
    this.#forgetUnlessAccepted(challenge);
    try {
      const keys = await this.#keys.of(password, challenge);
      const { clientFinal, serverSignature } = answerTo(challenge, keys.reveal());
      saslSession.message = 'SASLResponse';
      saslSession.serverSignature = serverSignature;
      saslSession.response = clientFinal;
      this.#connection.sendSCRAMClientFinalMessage(clientFinal);
    } catch (error) {
      this.#connection.emit('error', error);
    }
  }

  #challenge(serverFirst: string, saslSession: Partial<SaslSession>): Challenge | undefined {
    const { clientNonce, message, scramMaxIterations: most } = saslSession;
    if (clientNonce === undefined || most === undefined) {
      warnOfMissing(`Client.saslSession.${most === undefined ? 'scramMaxIterations' : 'clientNonce'}`, CONSEQUENCE);
      return undefined;
    }
    if (message !== 'SASLInitialResponse') return undefined;
    const [, nonce, salt, count] = SERVER_FIRST.exec(serverFirst) ?? [];
    if (nonce === undefined || salt === undefined || !nonce.startsWith(clientNonce) || nonce === clientNonce) {
      return undefined;
    }
    const iterations = Number(count);
    if (most !== 0 && iterations > most) return undefined;
    const binding = this.#binding();
    // pg names nobody: the role is in the startup message.
    const clientFirst = `n=*,r=${clientNonce}`;
    return binding === undefined ? undefined : { clientFirst, serverFirst, nonce, salt, iterations, binding };
  }

  #binding(): string | undefined {
    const { saslSession, enableChannelBinding } = this.#client;
    // What has been said in the hello: "n" = we cannot bind, "y" = we can, and believe that the server cannot.
    if (saslSession?.mechanism !== PLUS) return Buffer.from(enableChannelBinding ? 'y,,' : 'n,,').toString('base64');
    const { stream } = this.#connection as unknown as { stream: { getPeerCertificate(): { raw: Buffer } } };
    const digest = endPointDigest(stream.getPeerCertificate().raw);
    return digest && Buffer.concat([Buffer.from('p=tls-server-end-point,,'), digest]).toString('base64');
  }

  #forgetUnlessAccepted(terms: ScramTerms): void {
    const connection = this.#connection;
    const failures = ['errorMessage', 'error', 'end'];
    const forget = (): void => {
      this.#keys.forget(terms);
      accepted();
    };
    const accepted = (): void => {
      for (const event of failures) connection.off(event, forget);
      connection.off('authenticationOk', accepted);
    };
    for (const event of failures) connection.on(event, forget);
    connection.on('authenticationOk', accepted);
  }
}
