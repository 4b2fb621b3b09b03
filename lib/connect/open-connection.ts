import dns from 'node:dns/promises';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import pg from 'pg';
import { PgClient } from '../client/pg-client.js';
import type { HostEntry, ResolvedConfig } from '../config/resolved-config.js';
import { PgModuleError } from '../errors/pg-module.error.js';
import { CANNOT_CONNECT_NOW, isPermanentRefusal } from '../errors/sqlstate.js';
import { attachKeyLog } from '../tls/key-log.js';
import { afterFailure, tlsAttempts, type AttemptFailure, type TlsDecision } from '../tls/ssl-mode.js';
import { explainTlsError, isCertificateRefusal } from '../tls/tls-error.js';
import { TlsMaterialError } from '../tls/tls-material.error.js';
import type { TlsMaterial } from '../tls/tls-material.js';
import { tlsConnectOptions } from '../tls/tls-options.js';
import type { Clock } from '../util/clock.js';
import { Deadline, withSignal } from '../util/deadline.js';
import { formatMillis } from '../util/duration.js';
import { attemptsOf, formatHost, isSocketDirectory, shuffled, type Attempt } from './attempt.js';
import { PgConnectError, type ConnectPhase, type FailedAttempt } from './connect.error.js';
import {
  NegotiationError,
  negotiateTls,
  openStream,
  plain,
  type DialledStream,
  type DialTarget,
  type TlsHandshake,
} from './dial.js';
import { connectHint } from './hint.js';
import { sessionMismatch } from './session-attributes.js';

export interface OpenOptions {
  readonly signal: AbortSignal;
  readonly applicationName: string | undefined;
  readonly stream: (() => Duplex | Promise<Duplex>) | undefined;
}

export interface Opener {
  readonly config: ResolvedConfig;
  readonly tlsMaterial: TlsMaterial;
  /** Deadline of one address, from the look-up to the end of `onConnect`; 0 = none. */
  readonly connectTimeoutMillis: number;
  readonly onConnect: ((client: PgClient) => void | Promise<void>) | undefined;
  readonly warn: (message: string) => void;
  readonly clock: Clock;
}

/** For the CancelRequest that ends what `onConnect` has left running. */
const CANCEL_MILLIS = 1_000;

/** What a failure means for the rest of the list: libpq's try_next_addr, try_next_host, and the end. */
type Next = 'encryption' | 'address' | 'host' | 'stop';

class Failure extends Error {
  constructor(
    readonly phase: ConnectPhase,
    readonly next: Next,
    readonly error: Error,
    readonly permanent: boolean,
    /** When the session itself failed: whether it was encrypted. */
    readonly encrypted?: boolean,
  ) {
    super(error.message);
  }
}

/**
 * Opens one connection: the hosts in order, each address of a host, each encryption that sslmode allows, until one
 * serves. What the attempts do after a failure is libpq's rule (fe-connect.c, PQconnectPoll).
 *
 * @throws PgConnectError with every failed attempt; PgModuleError `PG_ABORTED` when the signal fired
 */
export async function openConnection(opener: Opener, options: OpenOptions): Promise<PgClient> {
  throwIfAborted(options.signal);
  const failures: FailedAttempt[] = [];
  let permanent = false;
  for (const attempt of attemptsOf(opener.config, () => opener.clock.random())) {
    const outcome = await tryHost(opener, attempt, options, failures);
    if (outcome instanceof PgClient) return outcome;
    permanent = outcome.permanent;
    if (outcome.next === 'stop') break;
  }
  throw new PgConnectError(describe(opener.config, failures), failures, permanent);
}

async function tryHost(
  opener: Opener,
  attempt: Attempt,
  options: OpenOptions,
  failures: FailedAttempt[],
): Promise<PgClient | Failure> {
  const { entry } = attempt;
  const encryptions = tlsAttempts(opener.config.tls, isSocketDirectory(entry.hostaddr ?? entry.host));
  let deadline = startDeadline(opener, options.signal);
  const record = (failure: Failure, address: string | undefined, tried: 'tls' | 'plain'): void => {
    const encryption = failure.encrypted === undefined ? tried : failure.encrypted ? 'tls' : 'plain';
    failures.push({
      host: entry.host ?? entry.hostaddr ?? '',
      port: entry.port,
      address,
      encryption,
      phase: failure.phase,
      error: failure.error,
    });
  };
  try {
    let targets: DialTarget[];
    try {
      targets = await targetsOf(opener, entry, options, deadline.signal);
    } catch (error) {
      throwIfAborted(options.signal);
      const failure = new Failure('name look-up', 'host', asError(error), false);
      record(failure, undefined, encryptions[0] ?? 'plain');
      return failure;
    }
    let last: Failure | undefined;
    for (const target of targets) {
      if (last) {
        deadline.clear();
        deadline = startDeadline(opener, options.signal);
      }
      for (const encryption of encryptions) {
        try {
          return await tryAddress(opener, attempt, target, encryption, options, deadline.signal);
        } catch (error) {
          throwIfAborted(options.signal);
          if (!(error instanceof Failure)) throw error;
          last = error;
          record(last, 'address' in target.endpoint ? target.endpoint.address : undefined, encryption);
          if (last.next !== 'encryption') break;
        }
      }
      if (last && (last.next === 'host' || last.next === 'stop')) return last;
    }
    return last ?? new Failure('name look-up', 'host', new Error('the name has no address'), false);
  } finally {
    deadline.clear();
  }
}

/** One stream, one handshake, one session. */
async function tryAddress(
  opener: Opener,
  attempt: Attempt,
  target: DialTarget,
  decision: TlsDecision,
  options: OpenOptions,
  signal: AbortSignal,
): Promise<PgClient> {
  const dialled = await dial(opener, attempt.entry, target, decision, signal);
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
      }
      if (signal.aborted) throw signal.reason as Error;
      return client;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  } catch (error) {
    discard(client, opener.clock);
    if (error instanceof Failure) throw error;
    const refused = accepted() || declined ? 'stop' : nextAfter(opener, decision, 'error-response');
    throw judgeSession(asError(error), phase, signal, refused, encrypted);
  }
}

/**
 * A refusal of ours ends the stream, but what the server has sent behind it in the same packet is still read: neither
 * its readiness nor its error counts any more. pg's parser throws at a request for Kerberos or SSPI, out of the event
 * of the stream and so past everyone; that is a refusal, too.
 */
async function connected(client: PgClient, stream: Duplex): Promise<void> {
  const connecting = client.connect();
  const parsers = stream.listeners('data') as ((chunk: Buffer) => void)[];
  const parse = (chunk: Buffer): void => {
    try {
      for (const parser of parsers) parser.call(stream, chunk);
    } catch (cause) {
      const what = `the server asks for what node-postgres does not know (${asError(cause).message})`;
      const todo = 'let it ask for scram-sha-256, a certificate or another method that node-postgres has';
      stream.destroy(new PgModuleError('PG_AUTH_REFUSED', `${what}: ${todo}.`, { cause }));
    }
  };
  stream.removeAllListeners('data').on('data', parse);
  try {
    await connecting;
    if (stream.errored) throw stream.errored;
    for (const parser of parsers) stream.on('data', parser);
    stream.off('data', parse);
  } catch (error) {
    throw stream.errored instanceof PgModuleError ? stream.errored : error;
  }
}

/**
 * Cuts the connection off. A statement of `onConnect` that is still running would go on at the server, which notices
 * a closed socket only when it next writes: so it is cancelled, behind the back of the one who waits for our answer.
 */
function discard(client: PgClient, clock: Clock): void {
  const isRunning = client.processId !== undefined && !client.isReady;
  client.destroy();
  if (!isRunning) return;
  const deadline = new Deadline(CANCEL_MILLIS, () => new Error('cancelled too late'), clock);
  void client
    .cancelRunning(deadline.signal)
    .catch(() => undefined)
    .finally(() => deadline.clear());
}

async function dial(
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

function nextAfter(opener: Opener, decision: TlsDecision, failure: AttemptFailure): Next {
  return afterFailure(opener.config.tls, decision, failure) === 'next-attempt' ? 'encryption' : 'stop';
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
    session: applicationName === undefined ? config.session : { ...config.session, application_name: applicationName },
    queryTimeoutMillis: config.queryTimeoutMillis,
    types: config.types,
    dialAgain: async (signal) => {
      const encryption = security.encrypted ? 'tls' : 'plain';
      return (await dial(opener, entry, target, encryption, signal)).stream;
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

async function targetsOf(
  opener: Opener,
  entry: HostEntry,
  options: OpenOptions,
  signal: AbortSignal,
): Promise<DialTarget[]> {
  const { keepalive, loadBalanceHosts } = opener.config;
  const openStream = options.stream;
  const host = entry.hostaddr ?? entry.host ?? 'localhost';
  if (isSocketDirectory(host)) {
    const directory = host.startsWith('@') ? `\0${host.slice(1)}` : host;
    return [{ endpoint: { path: `${directory}/.s.PGSQL.${entry.port}` }, openStream, keepalive }];
  }
  let addresses = [host];
  if (!openStream && net.isIP(host) === 0) {
    const found = await withSignal(dns.lookup(host, { all: true, verbatim: true }), signal);
    addresses = found.map(({ address }) => address);
    if (loadBalanceHosts === 'random') addresses = shuffled(addresses, () => opener.clock.random());
  }
  return addresses.map((address) => ({ endpoint: { address, port: entry.port }, openStream, keepalive }));
}

function startDeadline(opener: Opener, parent: AbortSignal): Deadline {
  const millis = opener.connectTimeoutMillis;
  const expired = (): Error =>
    new PgModuleError('PG_CONNECT_TIMEOUT', `no connection within ${formatMillis(millis)} (connectTimeoutMillis)`);
  return new Deadline(millis, expired, opener.clock, parent);
}

function throwIfAborted(signal: AbortSignal): void {
  if (!signal.aborted) return;
  if (signal.reason instanceof PgModuleError) throw signal.reason;
  throw new PgModuleError('PG_ABORTED', 'The signal given to the connection factory fired.', { cause: signal.reason });
}

function describe(config: ResolvedConfig, failures: readonly FailedAttempt[]): string {
  const as = `as "${config.user}" to database "${config.database}"`;
  const passwordSource = config.sources['password'];
  const hints = failures
    .map((failure) => connectHint({ failure, passwordSource }))
    .filter((hint) => hint !== undefined);
  const hint = [...new Set(hints)].map((text) => ` ${text}`).join('');
  if (failures.length === 1 && failures[0]) return `Could not connect ${as}: ${describeOne(failures[0])}.${hint}`;
  const list = failures.map((failure, index) => `(${index + 1}) ${describeOne(failure)}`).join('; ');
  return `Could not connect ${as}, ${failures.length} attempts: ${list}.${hint}`;
}

function describeOne({ host, port, address, encryption, phase, error }: FailedAttempt): string {
  const where = formatHost({ host, hostaddr: undefined, port });
  const resolved = address === undefined || address === host ? '' : ` (${address})`;
  const sqlState = isServerError(error) ? ` [SQLSTATE ${error.code}]` : '';
  const text = error.message.replace(/\.$/, '') || (error as NodeJS.ErrnoException).code || error.name;
  const detail = isServerError(error) && error.detail ? ` (${error.detail.replace(/\.$/, '')})` : '';
  const encrypted = encryption === 'tls' ? 'TLS' : 'unencrypted';
  return `${where}${resolved}, ${encrypted}, ${phase}: ${text}${detail}${sqlState}`;
}

/** pg calls bytes that it does not understand a DatabaseError as well; that one has no code. */
function isServerError(error: Error): error is pg.DatabaseError & { readonly code: string } {
  return error instanceof pg.DatabaseError && error.code !== undefined;
}

function isInvalid(error: Error): boolean {
  return error instanceof PgModuleError && (error.code === 'PG_CONFIG_INVALID' || error.code === 'PG_AUTH_REFUSED');
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
