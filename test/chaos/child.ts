import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import type { Call, ChaosSettings, CommandName, Commands, Reply } from './program/protocol.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** Longer than any limit of the program's own: it must be running in circles. */
const ANSWER_MILLIS = 150_000;

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** The program under test, in a process of its own that has garbage collection on demand. */
export class Child implements AsyncDisposable {
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** What it has written; it should not. */
  output = '';
  readonly #folder: string;
  readonly #process: ChildProcess;
  readonly #pending = new Map<number, Pending>();
  #calls = 0;

  static async start(settings: ChaosSettings): Promise<Child> {
    const folder = await mkdtemp(join(ROOT, 'node_modules', '.chaos-'));
    // A package with our name, so that the program may import it by that.
    const manifest = { name: 'nestjs-pg', type: 'module', exports: { '.': './lib/index.js' } };
    await writeFile(join(folder, 'package.json'), JSON.stringify(manifest));
    for (const top of ['lib', 'test/chaos/program']) await compile(top, folder);
    const child = new Child(folder, settings);
    await new Promise<unknown>((resolve, reject) => child.#pending.set(0, { resolve, reject }));
    return child;
  }

  private constructor(folder: string, settings: ChaosSettings) {
    this.#folder = folder;
    // The program hears of warnings by their event.
    const flags = ['--expose-gc', '--no-warnings'];
    this.#process = spawn(process.execPath, [...flags, join(folder, 'test/chaos/program/main.js')], {
      env: { ...process.env, NODE_OPTIONS: '', CHAOS_SETTINGS: JSON.stringify(settings) },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    }
    this.#process.on('message', (reply: Reply) => this.#onReply(reply));
    this.exit = once(this.#process, 'close').then(([code, signal]) => {
      const ended = new Error(`the program has ended (${String(code ?? signal)}): ${this.output}`);
      for (const { reject } of this.#pending.values()) reject(ended);
      return { code: code as number | null, signal: signal as NodeJS.Signals | null };
    });
  }

  call<N extends CommandName>(command: N, ...args: Parameters<Commands[N]>): Promise<Awaited<ReturnType<Commands[N]>>> {
    const id = ++this.#calls;
    const call: Call = { id, command, args };
    const late = setTimeout(() => {
      this.output += `it has not answered to "${command}" within ${ANSWER_MILLIS / 1_000} s, and was killed`;
      this.#process.kill('SIGKILL');
    }, ANSWER_MILLIS);
    const answer = new Promise<Awaited<ReturnType<Commands[N]>>>((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.#process.send(call, (error) => {
        if (error) reject(new Error(`the program does not listen: ${this.output}`, { cause: error }));
      });
    });
    return answer.finally(() => clearTimeout(late));
  }

  #onReply({ id, value, error }: Reply): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (error === undefined) pending?.resolve(value);
    else pending?.reject(new Error(error));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.exit;
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** Types are stripped and not checked. */
async function compile(top: string, folder: string): Promise<void> {
  const files = await readdir(join(ROOT, top), { recursive: true });
  for (const path of files.filter((file) => file.endsWith('.ts')).map((file) => join(top, file))) {
    const { outputText } = ts.transpileModule(await readFile(join(ROOT, path), 'utf8'), {
      fileName: path,
      compilerOptions: {
        target: ts.ScriptTarget.ES2023,
        module: ts.ModuleKind.ESNext,
        experimentalDecorators: true,
        emitDecoratorMetadata: true,
        verbatimModuleSyntax: true,
      },
    });
    const target = join(folder, path.replace(/\.ts$/, '.js'));
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, outputText);
  }
}
