import { chmod, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transformWithOxc } from 'vite';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

export interface CompiledLibrary extends AsyncDisposable {
  /** The folder that stands for `lib/`; what lies in it can import the project's dependencies. */
  readonly folder: string;
  /** Writes a script beside it, which imports from `./testing/index.js` and the like, and returns its path. */
  script(name: string, code: string): Promise<string>;
}

/**
 * Folders of `lib/` as JavaScript, for tests that need the library in a process of its own: killed, under another
 * user, or without vitest. Types are only stripped (50 ms), not checked. Readable for every user.
 */
export async function compileLibrary(folders: readonly string[]): Promise<CompiledLibrary> {
  const cache = join(ROOT, 'node_modules', '.cache');
  await mkdir(cache, { recursive: true });
  const target = await mkdtemp(join(cache, 'nestjs-pg-compiled-'));
  await chmod(target, 0o755);
  await writeFile(join(target, 'package.json'), '{ "type": "module" }');
  for (const folder of folders) {
    const files = await readdir(join(ROOT, 'lib', folder), { recursive: true });
    for (const file of files.filter((name) => name.endsWith('.ts'))) {
      const source = join(ROOT, 'lib', folder, file);
      const { code } = await transformWithOxc(await readFile(source, 'utf8'), source, {
        target: 'es2023',
        sourcemap: false,
        decorator: { legacy: true, emitDecoratorMetadata: true },
      });
      const output = join(target, folder, file.replace(/\.ts$/, '.js'));
      await mkdir(dirname(output), { recursive: true });
      await writeFile(output, code);
    }
  }
  return {
    folder: target,
    script: async (name, code) => {
      const path = join(target, name);
      await writeFile(path, code);
      return path;
    },
    [Symbol.asyncDispose]: () => rm(target, { recursive: true, force: true }),
  };
}
