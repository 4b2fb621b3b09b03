import type { Duplex } from 'node:stream';
import type { HostEntry } from '../config/resolved-config.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import { attachKeyLog } from '../tls/key-log.js';
import { afterFailure, type AttemptFailure, type TlsDecision } from '../tls/ssl-mode.js';
import { explainTlsError, isCertificateRefusal } from '../tls/tls-error.js';
import { TlsMaterialError } from '../tls/tls-material.error.js';
import { tlsConnectOptions } from '../tls/tls-options.js';
import {
  NegotiationError,
  negotiateTls,
  openStream,
  plain,
  type DialledStream,
  type DialTarget,
  type TlsHandshake,
} from './dial.js';
import { asError, Failure, isInvalid, type Next } from './failure.js';
import type { Opener } from './opener.js';

/**
 * A stream to one address, with the encryption that this attempt has decided on.
 *
 * @throws Failure
 */
export async function dialAttempt(
  opener: Opener,
  entry: HostEntry,
  target: DialTarget,
  decision: TlsDecision,
  signal: AbortSignal,
): Promise<DialledStream> {
  let stream: Duplex;
  try {
    stream = await openStream(target, signal);
  } catch (error) {
    throw new Failure('TCP connect', 'address', asError(error), false);
  }
  if (decision === 'plain') return plain(stream);
  const { tls } = opener.config;
  try {
    const handshake: TlsHandshake = {
      negotiation: tls.negotiation,
      plainAccepted: afterFailure(tls, decision, 'tls-unavailable') === 'continue-plain',
      terms: termsOf(opener, entry),
      onSocket: (socket) => {
        if (tls.keyLogFile !== undefined) attachKeyLog(socket, tls.keyLogFile, opener.warn);
      },
    };
    return await negotiateTls(stream, handshake, signal);
  } catch (error) {
    stream.destroy();
    const cause = asError(error);
    if (signal.aborted) throw new Failure('TLS', 'address', cause, false);
    const next = nextAfter(opener, decision, isHandshakeFailure(cause) ? 'tls-failure' : 'other');
    throw new Failure('TLS', next, explainTlsError(cause), isCertificateRefusal(cause) || isInvalid(cause));
  }
}

/**
 * Material that the settings name must be usable before anything is said. What lies broken at a default place matters
 * only once the server has agreed to TLS (fe-secure-openssl.c reads it then).
 */
function termsOf({ tlsMaterial }: Opener, entry: HostEntry): TlsHandshake['terms'] {
  try {
    const loaded = tlsMaterial.secureContext();
    const terms = { verified: loaded.verify, options: tlsConnectOptions(tlsMaterial, entry, loaded) };
    return () => terms;
  } catch (error) {
    if (!(error instanceof TlsMaterialError) || error.explicit) throw error;
    return () => {
      throw error;
    };
  }
}

/** Only TLS itself may fall back to plain text: not an answer before it, and not material that the user has named. */
function isHandshakeFailure(error: Error): boolean {
  if (error instanceof TlsMaterialError) return !error.explicit;
  return !(error instanceof NegotiationError) && !(error instanceof PgModuleError);
}

/** What the sslmode says of a failure. */
export function nextAfter(opener: Opener, decision: TlsDecision, failure: AttemptFailure): Next {
  return afterFailure(opener.config.tls, decision, failure) === 'next-attempt' ? 'encryption' : 'stop';
}
