import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import * as tls from 'node:tls';
import type { ResolvedTls } from '../../../lib/config/resolved-config.js';
import { TlsMaterial } from '../../../lib/tls/tls-material.js';
import { certificateRequested, tlsConnectOptions } from '../../../lib/tls/tls-options.js';
import type { TlsTarget } from '../../../lib/tls/tls-options.js';

export interface TlsServer extends AsyncDisposable {
  readonly port: number;
  /** The names that clients have sent, `''` for none. */
  readonly indicatedNames: string[];
  readonly server: tls.Server;
}

/** A TLS server on loopback that greets each client that passes the handshake. */
export async function serveTls(options: tls.TlsOptions): Promise<TlsServer> {
  const indicatedNames: string[] = [];
  const sockets = new Set<tls.TLSSocket>();
  const server = tls.createServer({ ALPNProtocols: ['postgresql'], ...options }, (socket) => {
    indicatedNames.push(typeof socket.servername === 'string' ? socket.servername : '');
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.write(Buffer.from(JSON.stringify({ client: socket.getPeerX509Certificate()?.subject ?? null })));
  });
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    indicatedNames,
    server,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

export interface Handshake {
  readonly socket: tls.TLSSocket;
  /** The subject of the certificate that the server has got from us. */
  readonly client: string | null;
  /** Whether the server has asked for it. */
  readonly requested: boolean;
}

/** Connects and waits for the server's greeting: in TLS 1.3 a refused client certificate shows only after the handshake. */
export async function handshake(
  port: number,
  from: TlsMaterial | ResolvedTls,
  target: TlsTarget = { host: 'localhost' },
): Promise<Handshake> {
  const material = from instanceof TlsMaterial ? from : new TlsMaterial(from, { warn: () => undefined });
  const socket = tls.connect({ ...tlsConnectOptions(material, target), host: '127.0.0.1', port });
  try {
    return await new Promise<Handshake>((resolve, reject) => {
      socket.once('error', reject);
      socket.once('data', (greeting: Buffer) =>
        resolve({
          ...(JSON.parse(greeting.toString()) as Pick<Handshake, 'client'>),
          socket,
          requested: certificateRequested(socket),
        }),
      );
      socket.once('close', () => reject(new Error('closed')));
    });
  } finally {
    socket
      .removeAllListeners('close')
      .on('error', () => undefined)
      .destroy();
  }
}

export async function refusal(attempt: Promise<unknown>): Promise<Error> {
  try {
    await attempt;
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('the attempt has succeeded');
}
