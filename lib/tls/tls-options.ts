import type { ConnectionOptions, TLSSocket } from 'node:tls';
import type { ResolvedTls } from '../config/resolved-config.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import { checkServerIdentity } from './server-identity.js';
import type { LoadedTls, TlsMaterial } from './tls-material.js';

/** Registered for PostgreSQL's protocol; libpq offers it on every TLS connection, direct or not. */
export const ALPN_PROTOCOL = 'postgresql';

/** The server as the settings name it; a directory of Unix sockets is none. */
export interface TlsTarget {
  readonly host?: string | undefined;
  readonly hostaddr?: string | undefined;
}

/**
 * The options for `tls.connect`, all but the socket. `loaded` is the material that they carry; a caller that wants to
 * know more of it looks it up first and hands it in.
 *
 * No option leaves a decision to Node's defaults: NODE_TLS_REJECT_UNAUTHORIZED, the name that Node would check and the
 * name that it would send have no influence.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID` for unusable material, and for `verify-full` without a host name.
 */
export function tlsConnectOptions(
  material: TlsMaterial,
  target: TlsTarget,
  loaded: LoadedTls = material.secureContext(),
): ConnectionOptions & { servername: string } {
  const name = material.tls.serverName ?? target.host;
  if (loaded.verify === 'full' && !name) {
    throw new PgModuleError(
      'PG_CONFIG_INVALID',
      'host name must be specified for a verified SSL connection: ' +
        `sslmode=verify-full compares it with the server's certificate, and only hostaddr=${target.hostaddr ?? ''} is set. ` +
        'Set host as well (hostaddr still says where to connect).',
    );
  }
  return {
    secureContext: loaded.context,
    rejectUnauthorized: loaded.verify !== 'none',
    checkServerIdentity: (_, certificate) =>
      loaded.verify === 'full' ? checkServerIdentity(name ?? '', certificate) : undefined,
    servername: serverNameIndication(material.tls, name),
    ALPNProtocols: [ALPN_PROTOCOL],
  };
}

/** libpq sends the host as written unless it is an address: digits and dots, or anything with a colon. */
function serverNameIndication(tls: ResolvedTls, name: string | undefined): string {
  if (!tls.sni || !name || /^[\d.]*$/.test(name) || name.includes(':')) return '';
  return name;
}

/**
 * What is wrong with the protocol that the handshake agreed on. Direct negotiation demands an agreement, so that a TLS
 * server of another protocol cannot be made to answer for PostgreSQL.
 */
export function alpnObjection(
  socket: Pick<TLSSocket, 'alpnProtocol'>,
  negotiation: ResolvedTls['negotiation'],
): PgModuleError | undefined {
  if (negotiation !== 'direct' || socket.alpnProtocol === ALPN_PROTOCOL) return undefined;
  return new PgModuleError(
    'PG_CONNECT_FAILED',
    'direct SSL connection was established without agreement on the protocol "postgresql" (ALPN): ' +
      'the server is older than PostgreSQL 17, or something else answers at this address. Use sslnegotiation=postgres.',
  );
}

/**
 * Whether the server has asked for the client's certificate. Only a CertificateRequest names signature algorithms to a
 * client, and TLS 1.2 and later always name some; earlier versions count as not asked.
 */
export function certificateRequested(socket: Pick<TLSSocket, 'getSharedSigalgs'>): boolean {
  return socket.getSharedSigalgs().length > 0;
}
