import type { Duplex } from 'node:stream';
import { PgClient } from '../client/pg-client.js';
import { StatementCatalog } from '../client/statement-catalog.js';
import { untilReady } from '../client/until-ready.js';
import type { HostEntry, ResolvedConfig } from '../config/resolved-config.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import { CANNOT_CONNECT_NOW, isPermanentRefusal } from '../errors/sqlstate.js';
import type { TlsDecision } from '../tls/ssl-mode.js';
import { explainTlsError, isCertificateRefusal } from '../tls/tls-error.js';
import { withSignal } from '../util/deadline.js';
import type { Attempt } from './attempt.js';
import type { ConnectPhase } from './connect.error.js';
import { dialAttempt, nextAfter } from './dial-attempt.js';
import type { DialledStream, DialTarget } from './dial.js';
import { asError, Failure, isInvalid, isServerError, type Next } from './failure.js';
import type { Opener, OpenOptions } from './opener.js';
import { sessionMismatch } from './session-attributes.js';

/**
 * One stream, one handshake, one session.
 *
 * @throws Failure
 */
export async function openSession(
  opener: Opener,
  attempt: Attempt,
  target: DialTarget,
  decision: TlsDecision,
  options: OpenOptions,
  signal: AbortSignal,
): Promise<PgClient> {
  const dialled = await dialAttempt(opener, attempt.entry, target, decision, signal);
  const { encrypted } = dialled.security;
  // A server that declined TLS has left the only other way open already: it is the one we are on.
  const declined = decision === 'tls' && !encrypted;
  let phase: ConnectPhase = 'authentication';
  const { client, accepted } = createClient(opener, attempt.entry, target, dialled, options, async () => {
    // pg goes on asking when the server's request for it has been refused.
    if (dialled.stream.errored) throw dialled.stream.errored;
    phase = 'password';
    const password = await passwordOf(opener.config, attempt.entry);
    phase = 'authentication';
    return password;
  });
  try {
    const abort = (): void => void dialled.stream.destroy(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    try {
      if (signal.aborted) abort();
      await connected(client, dialled.stream);
      phase = 'session check';
      const mismatch = await sessionMismatch(client, attempt.attrs);
      if (mismatch !== undefined) {
        const wanted = `target_session_attrs=${opener.config.targetSessionAttrs}`;
        throw new Failure(phase, 'host', new Error(`${mismatch}, but ${wanted}`), false, encrypted);
      }
      if (opener.onConnect) {
        phase = 'onConnect';
        await withSignal(Promise.resolve(opener.onConnect(client)), signal);
        // What it has not awaited is part of it, too.
        await untilReady(client, signal);
        const status = client.getTransactionStatus();
        if (status !== 'I' && !signal.aborted) throw new Error(`it left a transaction open (status ${String(status)})`);
      }
      if (signal.aborted) throw signal.reason as Error;
      return client;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  } catch (error) {
    discard(client);
    if (error instanceof Failure) throw error;
    const refused = accepted() || declined ? 'stop' : nextAfter(opener, decision, 'error-response');
    throw judgeSession(asError(error), phase, signal, refused, encrypted);
  }
}

/** A refusal of ours ends the stream, and is the reason whatever pg makes of the end. */
async function connected(client: PgClient, stream: Duplex): Promise<void> {
  try {
    await client.connect();
    if (stream.errored) throw stream.errored;
  } catch (error) {
    throw stream.errored instanceof PgModuleError ? stream.errored : error;
  }
}

/** Nobody waits for it, and what made the attempt too slow makes the request slow as well. */
const CANCEL_MILLIS = 10_000;

/**
 * Cuts the connection off. A statement of `onConnect` that is still running would go on at the server, which notices
 * a closed socket only when it next writes: so it is cancelled, behind the back of the one who waits for our answer.
 */
function discard(client: PgClient): void {
  const isRunning = client.processId !== undefined && !client.isReady;
  client.destroy();
  if (isRunning) client.cancelRunning(CANCEL_MILLIS).catch(() => undefined);
}

interface Startup {
  readonly client: PgClient;
  /** The server has let us in: what goes wrong from now on is no matter of encryption. */
  readonly accepted: () => boolean;
}

function createClient(
  opener: Opener,
  entry: HostEntry,
  target: DialTarget,
  { stream, security, certificateRequested }: DialledStream,
  options: OpenOptions,
  password: () => Promise<string>,
): Startup {
  const { config } = opener;
  const { applicationName } = options;
  const client = new PgClient({
    stream,
    security,
    host: entry.host ?? entry.hostaddr ?? 'localhost',
    port: entry.port,
    user: config.user,
    database: config.database,
    password,
    authentication: {
      requireAuth: config.requireAuth,
      channelBinding: config.channelBinding,
      encrypted: security.encrypted,
      certificateMissing: config.tls.certMode === 'require' && !certificateRequested,
    },
    scramKeys: opener.scramKeys,
    session: applicationName === undefined ? config.session : { ...config.session, application_name: applicationName },
    queryTimeoutMillis: config.queryTimeoutMillis,
    types: config.types,
    statements: opener.statements ?? new StatementCatalog(0, opener.warn),
    wantsWrites: config.targetSessionAttrs === 'read-write' || config.targetSessionAttrs === 'primary',
    dialAgain: async (signal) => {
      const encryption = security.encrypted ? 'tls' : 'plain';
      return (await dialAttempt(opener, entry, target, encryption, signal)).stream;
    },
  });
  let accepted = false;
  client.connection.once('authenticationOk', () => (accepted = true));
  return { client, accepted: () => accepted };
}

async function passwordOf(config: ResolvedConfig, entry: HostEntry): Promise<string> {
  const configured = config.password?.reveal();
  const password = typeof configured === 'function' ? await ask(configured) : (configured ?? entry.password?.reveal());
  if (typeof password === 'string' && password !== '') return password;
  throw new PgModuleError(
    'PG_CONFIG_INVALID',
    configured === undefined
      ? 'the server asks for a password and none is configured: set password, PGPASSWORD or a password file'
      : 'the server asks for a password and the configured one is empty or not a string',
  );
}

/** pg takes a rejection with `undefined` for success. */
async function ask(password: () => string | Promise<string>): Promise<string> {
  try {
    return await password();
  } catch (error) {
    throw asError(error);
  }
}

/** libpq's rules for a session that failed (PQconnectPoll, CONNECTION_AWAITING_RESPONSE and later). */
function judgeSession(
  error: Error,
  phase: ConnectPhase,
  signal: AbortSignal,
  refused: Next,
  encrypted: boolean,
): Failure {
  const failure = (next: Next, permanent: boolean): Failure =>
    new Failure(phase, next, isCertificateRefusal(error) ? explainTlsError(error) : error, permanent, encrypted);
  if (signal.aborted) return failure('address', false);
  // In TLS 1.3 a server refuses our certificate after the handshake.
  if (!isServerError(error)) return failure('stop', isInvalid(error) || isCertificateRefusal(error));
  const sqlState = error.code;
  if (sqlState === CANNOT_CONNECT_NOW) return failure('host', false);
  if (phase === 'session check') return failure('host', isPermanentRefusal(sqlState));
  if (phase === 'onConnect') return failure('stop', false);
  return failure(refused, isPermanentRefusal(sqlState));
}
