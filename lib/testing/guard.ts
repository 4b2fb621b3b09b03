import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { failure } from './failure.js';
import type { Identity } from './identity.js';

/**
 * What the guard does, in POSIX shell because that is the smallest thing that outlives a killed Node process.
 *
 * It reads one step per line and answers on its output. The end of its input means that its owner has closed it or has
 * died, however it died: then it stops the server and removes the folder. It ignores the signals of a terminal and of a
 * process manager, so that only its owner decides, and SIGPIPE, because its owner may be dead when a step is done.
 * Children inherit that, which PostgreSQL undoes for itself as soon as it has installed its handlers; until then it
 * would miss a SIGQUIT, hence the repetition at the end.
 */
const SCRIPT = `
trap '' HUP INT QUIT TERM PIPE
unset NESTJS_PG_GUARD
umask 077
folder=$1 bin=$2 run=
mkdir "$folder" || exit 1
echo "0 exit 0"
while IFS=' ' read -r id step argument; do
  case $step in
  initdb)
    "$bin/initdb" --pgdata="$folder/data" --username=postgres --pwfile="$folder/password" --encoding=UTF8 --no-locale \\
      --auth-local=trust --auth-host=scram-sha-256 --no-sync </dev/null >>"$folder/log" 2>&1
    echo "$id exit $?" ;;
  copy)
    cp -R "$argument" "$folder/data" </dev/null >>"$folder/log" 2>&1
    echo "$id exit $?" ;;
  clone)
    mkdir "$folder/data"
    for entry in "$argument"/*; do
      case \${entry##*/} in
      postmaster.*|pg_wal|pg_replslot|pg_dynshmem|pg_notify|pg_serial|pg_snapshots|pg_stat_tmp|pg_subtrans) ;;
      *) cp -R "$entry" "$folder/data/" </dev/null >>"$folder/log" 2>&1 ;;
      esac
    done
    cd "$folder/data" && mkdir -p pg_wal/archive_status pg_wal/summaries pg_replslot pg_dynshmem pg_notify pg_serial \\
      pg_snapshots pg_stat_tmp pg_subtrans && test -f global/pg_control
    echo "$id exit $?"
    cd / ;;
  single)
    "$bin/postgres" --single -F -D "$folder/data" postgres <"$folder/setup.sql" >>"$folder/log" 2>&1
    echo "$id exit $?" ;;
  start)
    (
      "$bin/postgres" -D "$folder/data" </dev/null >>"$folder/log" 2>&1 &
      echo "$id pid $!"
      wait $!
      echo "$id exit $?"
    ) &
    run=$! ;;
  esac
done
if test -n "$run"; then
  (while :; do kill -CONT 0; kill -QUIT 0; sleep 0.1; done) >/dev/null 2>&1 &
  wait "$run"
  kill -KILL $!
fi
rm -rf "$folder" 2>/dev/null || { sleep 1; rm -rf "$folder"; }
`;

export type GuardStep = 'initdb' | 'copy' | 'clone' | 'single';

/** A server process; `exited` never rejects. */
export interface Run {
  readonly pid: number;
  readonly exited: Promise<string>;
}

type Answer = (word: string, value: string) => void;

/**
 * A folder, and what runs in it, that cannot outlive this process: see the script above. Everything runs as the
 * server's user and in a process group of its own, so that Ctrl-C reaches the application and not the server.
 * It keeps the event loop alive only while something is awaited from it.
 */
export class Guard {
  readonly folder: string;
  readonly #child: ChildProcess;
  readonly #stdin: Socket;
  readonly #stdout: Socket;
  readonly #answers = new Map<string, Answer>();
  readonly #gone: Promise<void>;
  readonly #made: Promise<void>;
  #isGone = false;
  #nextId = 1;
  #holders = 0;

  /**
   * Guards a new folder in `parent`, which must be writable for the server's user. The guard makes the folder itself:
   * there is no moment at which it exists and is not guarded.
   */
  static async open(
    parent: string,
    bin: string,
    identity: Identity | undefined,
    prefix = 'nestjs-pg-',
  ): Promise<Guard> {
    const folder = join(parent, prefix + randomBytes(6).toString('base64url'));
    let guard: Guard;
    try {
      guard = new Guard(folder, bin, identity);
    } catch (error) {
      const who = identity ? ` as uid ${identity.uid}, which root does because PostgreSQL refuses root` : '';
      throw failure(`/bin/sh could not be started${who}. Run as a normal user if this one may not do that.`, error);
    }
    await guard.hold(guard.#made);
    return guard;
  }

  private constructor(folder: string, bin: string, identity: Identity | undefined) {
    this.folder = folder;
    this.#child = spawn('/bin/sh', ['-c', 'eval "$NESTJS_PG_GUARD"', 'nestjs-pg-guard', folder, bin], {
      cwd: '/',
      // Nothing of the application's environment: PG* variables are read by the server's programs too.
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC', NESTJS_PG_GUARD: SCRIPT },
      stdio: ['pipe', 'pipe', 'ignore'],
      detached: true,
      ...identity,
    });
    // Node gives sockets for piped stdio; its types say streams.
    this.#stdin = this.#child.stdin as Socket;
    this.#stdout = this.#child.stdout as Socket;
    this.#stdin.on('error', () => undefined);
    this.#gone = new Promise((resolve) => {
      this.#child.once('exit', () => resolve());
      this.#child.once('error', () => resolve());
    });
    void this.#gone.then(() => {
      this.#isGone = true;
      for (const answer of this.#answers.values()) answer('gone', '');
      this.#answers.clear();
    });
    this.#made = new Promise((resolve, reject) => {
      this.#answers.set('0', (word) => {
        this.#answers.delete('0');
        if (word === 'exit') resolve();
        else reject(failure(`The folder ${folder} could not be made${identity ? ` as uid ${identity.uid}` : ''}.`));
      });
    });
    createInterface({ input: this.#stdout }).on('line', (line) => {
      const [id = '', word = '', value = ''] = line.split(' ');
      this.#answers.get(id)?.(word, value);
    });
    this.#setRef(false);
  }

  /** Runs one step to its end and returns its exit status; what it printed is in the log. */
  step(step: GuardStep, argument = ''): Promise<number> {
    return this.hold(
      new Promise((resolve, reject) => {
        const id = this.#send(step, argument, (word, value) => {
          this.#answers.delete(id);
          if (word === 'exit') resolve(Number(value));
          else reject(this.#goneError());
        });
      }),
    );
  }

  /** Starts `postgres` on the data folder and returns as soon as it has a pid, which is long before it is ready. */
  start(): Promise<Run> {
    return this.hold(
      new Promise((resolve, reject) => {
        let exit: (status: string) => void;
        const exited = new Promise<string>((settle) => (exit = settle));
        const id = this.#send('start', '', (word, value) => {
          if (word === 'pid') return resolve({ pid: Number(value), exited });
          this.#answers.delete(id);
          exit(word === 'exit' ? `exit status ${value}` : 'its guard was killed');
          reject(this.#goneError());
        });
      }),
    );
  }

  /** Keeps the process alive until `promise` has settled. */
  async hold<T>(promise: Promise<T>): Promise<T> {
    if (this.#holders++ === 0) this.#setRef(true);
    try {
      return await promise;
    } finally {
      if (--this.#holders === 0) this.#setRef(false);
    }
  }

  /** Stops what runs, removes the folder, and returns when both are gone. */
  close(): Promise<void> {
    this.#stdin.end();
    return this.hold(this.#gone);
  }

  #send(step: string, argument: string, answer: Answer): string {
    const id = String(this.#nextId++);
    if (this.#isGone) {
      queueMicrotask(() => answer('gone', ''));
    } else {
      this.#answers.set(id, answer);
      this.#stdin.write(`${id} ${step} ${argument}\n`);
    }
    return id;
  }

  #goneError(): Error {
    return failure(`The process that guards the server's folder ${this.folder} could not be started or was killed.`);
  }

  #setRef(on: boolean): void {
    for (const handle of [this.#child, this.#stdin, this.#stdout]) {
      if (on) handle.ref();
      else handle.unref();
    }
  }
}
