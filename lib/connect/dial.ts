import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import type { ConnectionSecurity } from '../client/pg-client.js';
import { alpnObjection, certificateRequested } from '../tls/tls-options.js';
import { withSignal } from '../util/deadline.js';

/** Where one stream goes. */
export interface DialTarget {
  /** A numeric address and port, or the path of a Unix socket. */
  readonly endpoint: { readonly address: string; readonly port: number } | { readonly path: string };
  /** A user's own way to the server, instead of the endpoint. */
  readonly openStream: (() => Duplex | Promise<Duplex>) | undefined;
  readonly keepalive: { readonly enabled: boolean; readonly idleMillis: number };
}

/** How TLS is to be spoken; made for each handshake, since the certificates may have been rotated. */
export interface TlsHandshake {
  readonly negotiation: 'postgres' | 'direct';
  /** A server that declines TLS is still good enough (sslmode=prefer). */
  readonly plainAccepted: boolean;
  /** Asked when the server has agreed to TLS; throws if it cannot be spoken. */
  readonly terms: () => { readonly verified: ConnectionSecurity['verified']; readonly options: tls.ConnectionOptions };
  readonly onSocket: (socket: tls.TLSSocket) => void;
}

export interface DialledStream {
  readonly stream: Duplex;
  readonly security: ConnectionSecurity;
  readonly certificateRequested: boolean;
}

/** What the server answered before any TLS was spoken; libpq never falls back after it. */
export class NegotiationError extends Error {}

const PLAIN: ConnectionSecurity = { encrypted: false, tlsVersion: undefined, verified: 'none' };

const HUNG_UP = 'the server closed the connection unexpectedly';

/** SSLRequest: length 8, code 80877103. https://www.postgresql.org/docs/18/protocol-message-formats.html */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);

/** Opens the byte stream itself. When the signal fires it is destroyed, also if it arrives too late. */
export async function openStream(target: DialTarget, signal: AbortSignal): Promise<Duplex> {
  if (target.openStream) {
    const opened = Promise.resolve(target.openStream());
    return withSignal(opened, signal, (late) => late.destroy());
  }
  const { endpoint, keepalive } = target;
  const socket =
    'path' in endpoint
      ? net.connect({ path: endpoint.path })
      : net.connect({
          host: endpoint.address,
          port: endpoint.port,
          noDelay: true,
          keepAlive: keepalive.enabled,
          keepAliveInitialDelay: keepalive.idleMillis,
        });
  await settled(socket, 'connect', signal);
  return socket;
}

/** Puts TLS over a stream that has just been opened. On failure the stream is destroyed. */
export async function negotiateTls(
  stream: Duplex,
  handshake: TlsHandshake,
  signal: AbortSignal,
): Promise<DialledStream> {
  if (handshake.negotiation === 'postgres') {
    const answer = await askForTls(stream, signal);
    if (answer === 'N') {
      if (handshake.plainAccepted) return plain(stream);
      stream.destroy();
      throw new NegotiationError('the server does not support TLS, and sslmode demands it');
    }
  }
  const { verified, options } = handshake.terms();
  const secure = tls.connect({ ...options, socket: stream });
  handshake.onSocket(secure);
  try {
    await settled(secure, 'secureConnect', signal);
  } catch (error) {
    stream.destroy();
    throw error;
  }
  const objection = alpnObjection(secure, handshake.negotiation);
  if (objection) {
    secure.destroy();
    throw new NegotiationError(objection.message);
  }
  const tlsVersion = secure.getProtocol() ?? undefined;
  return {
    stream: secure,
    security: { encrypted: true, tlsVersion, verified },
    certificateRequested: certificateRequested(secure),
  };
}

export function plain(stream: Duplex): DialledStream {
  return { stream, security: PLAIN, certificateRequested: false };
}

/** The server's one-byte answer to SSLRequest. */
async function askForTls(stream: Duplex, signal: AbortSignal): Promise<'S' | 'N'> {
  stream.write(SSL_REQUEST);
  const reply = await firstBytes(stream, signal);
  const answer = String.fromCharCode(reply[0] ?? 0);
  if (answer === 'S' && reply.length === 1) return 'S';
  if (answer === 'N') {
    if (reply.length > 1) stream.unshift(reply.subarray(1));
    return 'N';
  }
  stream.destroy();
  // Unencrypted bytes behind the S were put there by someone in between (CVE-2021-23222).
  if (answer === 'S') throw new NegotiationError('received unencrypted data after the answer to the TLS request');
  if (answer === 'E') throw new NegotiationError('the server answered the TLS request with an error message');
  throw new NegotiationError(`the server answered the TLS request with an invalid byte (0x${reply[0]?.toString(16)})`);
}

function firstBytes(stream: Duplex, signal: AbortSignal): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const onData = (chunk: Buffer): void => {
      stream.pause();
      cleanUp();
      resolve(chunk);
    };
    const fail = (error: Error): void => {
      cleanUp();
      reject(error);
    };
    const onError = (cause: Error): void => fail(new NegotiationError(`${HUNG_UP} (${cause.message})`, { cause }));
    const onClose = (): void => fail(new NegotiationError(HUNG_UP));
    const onAbort = (): void => {
      fail(signal.reason as Error);
      stream.destroy();
    };
    const cleanUp = (): void => {
      stream.off('data', onData).off('error', onError).off('close', onClose).off('end', onClose);
      stream.on('error', ignore);
      signal.removeEventListener('abort', onAbort);
    };
    stream.on('data', onData).on('error', onError).on('close', onClose).on('end', onClose);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

/** Resolves at `event`; rejects, with the stream destroyed, at an error, an early end, or the signal. */
function settled(stream: Duplex, event: 'connect' | 'secureConnect', signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const cleanUp = (): void => {
      stream.off(event, onEvent).off('error', onError).off('close', onClose);
      signal.removeEventListener('abort', onAbort);
    };
    const fail = (error: Error): void => {
      cleanUp();
      stream.on('error', ignore);
      stream.destroy();
      reject(error);
    };
    const onEvent = (): void => {
      cleanUp();
      resolve();
    };
    const onError = fail;
    const onClose = (): void => fail(new Error(HUNG_UP));
    const onAbort = (): void => fail(signal.reason as Error);
    stream.on(event, onEvent).on('error', onError).on('close', onClose);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

function ignore(): void {
  // The failure has been reported already; a second event about the same socket must not go unheard.
}
