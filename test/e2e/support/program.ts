import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { afterAll, beforeAll } from 'vitest';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/**
 * The files of test/e2e/programs, to be run in processes of their own on the package as it stands in lib/. Returns what
 * starts one.
 */
export function usePrograms(): (name: string, env: NodeJS.ProcessEnv, ...args: string[]) => Program {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(ROOT, 'node_modules', '.programs-'));
    // A package with our name, so that the programs may import it by that.
    const manifest = { name: 'nestjs-pg', type: 'module', exports: { '.': './lib/index.js' } };
    await writeFile(join(folder, 'package.json'), JSON.stringify(manifest));
    for (const top of ['lib', 'test/e2e/programs']) await compile(top, folder);
  });
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });
  return (name, env, ...args) => new Program(join(folder, 'test/e2e/programs', `${name}.js`), env, args);
}

async function compile(top: string, folder: string): Promise<void> {
  const files = await readdir(join(ROOT, top), { recursive: true });
  for (const path of files.filter((file) => file.endsWith('.ts')).map((file) => join(top, file))) {
    const { outputText } = ts.transpileModule(await readFile(join(ROOT, path), 'utf8'), {
      fileName: path,
      compilerOptions: {
        target: ts.ScriptTarget.ES2022,
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

/** An application in a process of its own: whether and how it ends is part of what is tested. */
export class Program implements AsyncDisposable {
  readonly process: ChildProcess;
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  output = '';
  errors = '';

  constructor(file: string, env: NodeJS.ProcessEnv, args: string[]) {
    this.process = spawn(process.execPath, [file, ...args], {
      env: { ...process.env, NO_COLOR: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => (this.errors += text));
    this.exit = once(this.process, 'close').then(([code, signal]) => ({
      code: code as number | null,
      signal: signal as NodeJS.Signals | null,
    }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill('SIGKILL');
    await this.exit;
  }
}
