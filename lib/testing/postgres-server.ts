import { open, readFile, stat } from 'node:fs/promises';
import { endianness } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Secret } from '../errors/secret.js';
import type { Binaries } from './binaries.js';
import { errorCode, failure } from './failure.js';
import type { Guard, Run } from './guard.js';
import type { Identity } from './identity.js';
import { checkSettings } from './postgres-options.js';
import { childrenOf, isAlive, killAll, removeSharedMemory, signal, suspend } from './processes.js';
import { DEFAULT_HBA, type ServerCertificate, type ServerFiles, type ServerSettings } from './server-files.js';
import type { ServerLog } from './server-log.js';

/**
 * How a server stops (`pg_ctl stop`): `smart` waits until every client has left, `fast` ends the sessions and
 * writes a checkpoint, `immediate` ends at once and recovers at the next start.
 */
export type StopMode = 'smart' | 'fast' | 'immediate';

const STOP_SIGNALS = { smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

const POLL_MS = 3;
const START_DEADLINE_MS = 60_000;
const STOP_DEADLINE_MS = 60_000;
const RELOAD_DEADLINE_MS = 10_000;
const PROMOTE_DEADLINE_MS = 30_000;

/** `DBState` in pg_control (catalog/pg_control.h): offset of the field, and its value on a server that takes writes. */
const CONTROL_STATE_OFFSET = 16;
const IN_PRODUCTION = 6;

/** What a server is made of. */
export interface ServerParts {
  readonly guard: Guard;
  readonly files: ServerFiles;
  readonly log: ServerLog;
  readonly binaries: Binaries;
  readonly identity: Identity | undefined;
  readonly packageName: string;
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly password: Secret<string>;
  readonly logSink: ((line: string) => void) | undefined;
}

/** The parts of a server, for its neighbours in this folder. */
export const partsOf = new WeakMap<PostgresServer, ServerParts>();

/**
 * A real PostgreSQL server on this machine, made by `startPostgres()` or `startStandby()`. It ends with this process,
 * also with a killed one, and leaves neither a process nor a folder.
 *
 * Methods throw {@link PgModuleError} `PG_TEST_SERVER_FAILED` when the server does not do as it is told; the message
 * ends with the last lines of its log.
 */
export class PostgresServer implements AsyncDisposable {
  readonly #parts: ServerParts;
  readonly #stoppedBackends = new Set<number>();
  #run: Run | undefined;
  #paused = false;
  #closing: Promise<void> | undefined;

  /** Not for applications: `startPostgres()` makes servers. */
  constructor(parts: ServerParts) {
    this.#parts = parts;
    partsOf.set(this, parts);
    if (parts.logSink) parts.log.follow(parts.logSink);
  }

  /** The address to connect to; the folder of the Unix socket if the server listens on no address. */
  get host(): string {
    return this.#parts.host;
  }

  get port(): number {
    return this.#parts.port;
  }

  /** The superuser, always `postgres`. */
  get user(): string {
    return 'postgres';
  }

  /** The superuser's password. */
  get password(): string {
    return this.#parts.password.reveal();
  }

  get database(): string {
    return this.#parts.database;
  }

  /** A URI with user, password, host, port and database. */
  get connectionString(): string {
    const [password, host, database] = [this.password, this.host, this.database].map(encodeURIComponent);
    const authority = this.host.includes(':') ? `[${this.host}]` : host;
    return `postgresql://${this.user}:${password}@${authority}:${this.port}/${database}`;
  }

  /** The folder of the Unix socket, for `host`. */
  get socketDir(): string {
    return join(this.#parts.guard.folder, 'run');
  }

  get dataDir(): string {
    return join(this.#parts.guard.folder, 'data');
  }

  /** The pid of the server's main process (postmaster); undefined while it is not running. */
  get pid(): number | undefined {
    return this.#run?.pid;
  }

  /** The settings that were given at start and by {@link setSettings}. */
  get settings(): ServerSettings {
    return { ...this.#parts.files.settings };
  }

  /** Starts a stopped server on its old port and data, and returns when it takes connections. No-op if it runs. */
  async start(): Promise<void> {
    this.#assertOpen();
    if (this.#run) return;
    const { guard } = this.#parts;
    const run = await guard.start();
    this.#run = run;
    const end = { reason: '' };
    void run.exited.then((reason) => {
      end.reason = reason;
      if (this.#run === run) this.#run = undefined;
    });
    const deadline = performance.now() + START_DEADLINE_MS;
    while (!(await this.#isReady(run.pid))) {
      if (end.reason !== '') throw await this.#failed(`ended while starting (${end.reason}).`);
      if (performance.now() > deadline) throw await this.#failed(`was not ready within ${START_DEADLINE_MS / 1000} s.`);
      await delay(POLL_MS);
    }
  }

  /** Stops the server and keeps its data. No-op if it does not run. */
  async stop(mode: StopMode = 'fast'): Promise<void> {
    const run = this.#run;
    if (!run) return;
    await this.#resumeAll();
    signal(run.pid, STOP_SIGNALS[mode]);
    const patience = mode === 'smart' ? undefined : STOP_DEADLINE_MS;
    if (!(await this.#ended(run, patience))) {
      throw await this.#failed(`did not stop (mode "${mode}") within ${STOP_DEADLINE_MS / 1000} s.`);
    }
  }

  async restart(mode: StopMode = 'fast'): Promise<void> {
    await this.stop(mode);
    await this.start();
  }

  /** SIGKILL to the server's main process and to all its backends, as when the machine fails. Returns when all are gone. */
  async kill(): Promise<void> {
    const run = this.#run;
    if (!run) return;
    const sharedMemory = Number((await this.#pidFile())[6]?.trim().split(/\s+/)[1]);
    await suspend(run.pid); // or it would start new processes while its present ones are listed
    await killAll([...(await childrenOf(run.pid)), run.pid]);
    await this.#ended(run, undefined);
    this.#paused = false;
    this.#stoppedBackends.clear();
    if (Number.isInteger(sharedMemory)) await removeSharedMemory(sharedMemory);
  }

  /** SIGSTOP to the main process: new connections hang, open sessions go on. Returns when it has stopped. */
  async pause(): Promise<void> {
    const pid = this.#runningPid();
    this.#paused = true;
    await suspend(pid);
  }

  /** Undoes {@link pause}. */
  async resume(): Promise<void> {
    this.#paused = false;
    if (this.#run) signal(this.#run.pid, 'SIGCONT');
  }

  /** SIGSTOP to the backend of one session (`pg_backend_pid()`), which then is silent with its connection open. */
  async pauseBackend(pid: number): Promise<void> {
    await this.#assertBackend(pid);
    this.#stoppedBackends.add(pid);
    await suspend(pid);
  }

  /** Undoes {@link pauseBackend}. */
  async resumeBackend(pid: number): Promise<void> {
    await this.#assertBackend(pid);
    this.#stoppedBackends.delete(pid);
    signal(pid, 'SIGCONT');
  }

  /** Replaces pg_hba.conf, for the connections that follow; no argument brings the default rules back. */
  async setHba(lines: readonly string[] = DEFAULT_HBA): Promise<void> {
    this.#assertOpen();
    await this.#parts.files.writeHba(lines);
    await this.#reloadIfRunning();
  }

  /**
   * Changes settings in postgresql.conf; undefined takes one back. What PostgreSQL reads only at start
   * (`max_connections`, ...) is in force after {@link restart}; open sessions see the others at their next command.
   */
  async setSettings(settings: Readonly<Record<string, string | number | boolean | undefined>>): Promise<void> {
    this.#assertOpen();
    checkSettings(settings);
    const merged = Object.entries({ ...this.#parts.files.settings, ...settings });
    await this.#parts.files.writeSettings(
      Object.fromEntries(
        merged.filter((entry): entry is [string, string | number | boolean] => entry[1] !== undefined),
      ),
    );
    await this.#reloadIfRunning();
  }

  /** Replaces certificate, key, authorities and revocations for the connections that follow; undefined turns TLS off. */
  async setSsl(ssl: ServerCertificate | undefined): Promise<void> {
    this.#assertOpen();
    await this.#parts.files.writeSsl(ssl);
    await this.#reloadIfRunning();
  }

  /**
   * Makes the server read its files again. Returns when new connections are under their rule; throws with the server's
   * words if it has refused a file and stayed with the old one.
   */
  async reload(): Promise<void> {
    const { log } = this.#parts;
    const pid = this.#runningPid();
    const from = await log.size();
    // A second request is logged only after the first has been served to its end, complaints included.
    for (const requests of [1, 2]) {
      signal(pid, 'SIGHUP');
      const served = new RegExp(`(received SIGHUP[^]*){${requests}}`);
      if (!(await log.waitFor(served, from, RELOAD_DEADLINE_MS))) {
        throw await this.#failed(`did not reload its files within ${RELOAD_DEADLINE_MS / 1000} s.`);
      }
    }
    // Between the two lines stands what this reload has to complain of; before them, what an earlier one still had.
    const [, complaints = ''] = (await log.text(from)).split('received SIGHUP');
    const refused = /was not reloaded|no changes were applied|invalid value for parameter|unrecognized configuration/;
    if (refused.test(complaints)) throw await this.#failed('has refused its new files and kept the old ones.');
  }

  /** Makes a standby a server that takes writes (`pg_ctl promote`). Returns when it does. */
  async promote(): Promise<void> {
    const pid = this.#runningPid();
    if (!(await this.#exists('standby.signal'))) throw await this.#failed('cannot be promoted: it is not a standby.');
    const request = await open(join(this.dataDir, 'promote'), 'w');
    await request.close();
    signal(pid, 'SIGUSR1');
    const deadline = performance.now() + PROMOTE_DEADLINE_MS;
    while ((await this.#controlState()) !== IN_PRODUCTION) {
      if (!this.#run || performance.now() > deadline) {
        throw await this.#failed(`was not promoted within ${PROMOTE_DEADLINE_MS / 1000} s.`);
      }
      await delay(POLL_MS);
    }
  }

  /** The text of the server's log since its first start; empty after {@link close}. */
  async log(): Promise<string> {
    return this.#parts.log.text();
  }

  /** Ends the server and removes its folder. A second call waits for the first. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const { guard, log, logSink } = this.#parts;
    await this.#resumeAll();
    if (this.#run) {
      signal(this.#run.pid, 'SIGQUIT');
      await this.#ended(this.#run, STOP_DEADLINE_MS);
    }
    if (logSink) await log.unfollow(logSink);
    await guard.close();
  }

  /** True when the process has ended, false when `patience` (ms) came first. */
  async #ended(run: Run, patience: number | undefined): Promise<boolean> {
    const timer = new AbortController();
    const exited = this.#parts.guard.hold(run.exited).then(() => true);
    if (patience === undefined) return exited;
    const late = delay(patience, false, { signal: timer.signal }).catch(() => false);
    const inTime = await Promise.race([exited, late]);
    timer.abort();
    return inTime;
  }

  /** The status line that the main process keeps in its pid file (miscadmin.h, LOCK_FILE_LINE_PM_STATUS). */
  async #isReady(pid: number): Promise<boolean> {
    const lines = await this.#pidFile();
    const status = lines[7]?.trim();
    if (Number(lines[0]) !== pid) return false;
    return (
      status === 'ready' || (status === 'standby' && ['off', 'false'].includes(String(this.settings['hot_standby'])))
    );
  }

  async #pidFile(): Promise<string[]> {
    return readFile(join(this.dataDir, 'postmaster.pid'), 'utf8').then(
      (text) => text.split('\n'),
      () => [],
    );
  }

  async #controlState(): Promise<number> {
    const control = await readFile(join(this.dataDir, 'global', 'pg_control'));
    return endianness() === 'LE'
      ? control.readInt32LE(CONTROL_STATE_OFFSET)
      : control.readInt32BE(CONTROL_STATE_OFFSET);
  }

  async #exists(name: string): Promise<boolean> {
    return stat(join(this.dataDir, name)).then(
      () => true,
      (error: unknown) => {
        if (errorCode(error) === 'ENOENT') return false;
        throw error;
      },
    );
  }

  async #reloadIfRunning(): Promise<void> {
    if (this.#run) await this.reload();
  }

  async #resumeAll(): Promise<void> {
    if (this.#paused) await this.resume();
    for (const pid of this.#stoppedBackends) {
      if (this.#run && (await isBackendOf(this.#run.pid, pid))) signal(pid, 'SIGCONT');
    }
    this.#stoppedBackends.clear();
  }

  async #assertBackend(pid: number): Promise<void> {
    if (!(await isBackendOf(this.#runningPid(), pid))) throw await this.#failed(`has no backend with pid ${pid}.`);
  }

  #runningPid(): number {
    this.#assertOpen();
    if (!this.#run) throw failure(`The server on port ${this.port} is not running: call start() first.`);
    return this.#run.pid;
  }

  #assertOpen(): void {
    if (this.#closing) throw failure(`The server on port ${this.port} is closed, and its data removed.`);
  }

  async #failed(what: string): Promise<Error> {
    const { log, binaries, port } = this.#parts;
    return failure(`PostgreSQL ${binaries.version} on port ${port} ${what}${await log.tail()}`);
  }
}

async function isBackendOf(postmaster: number, pid: number): Promise<boolean> {
  return (await isAlive(pid)) && (await childrenOf(postmaster)).includes(pid);
}
