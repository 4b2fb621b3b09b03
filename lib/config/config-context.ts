import { readFileSync, statSync } from 'node:fs';
import { userInfo } from 'node:os';
import { posix, win32, type PlatformPath } from 'node:path';

export interface FileFacts {
  readonly kind: 'file' | 'socket' | 'other';
  /** Permission bits. */
  readonly mode: number;
}

/** The world that {@link resolveConfig} reads: everything outside the settings comes through here. */
export interface ConfigContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly platform: NodeJS.Platform;
  /** The account's home directory, asked when HOME is not set; `undefined` if it has none. */
  homeDir(): string | undefined;
  /** The name of the OS account; throws if it has none. */
  osUser(): string;
  /** Throws what `fs.readFileSync` throws. */
  readFile(path: string): Buffer;
  /** `undefined` if it cannot be looked at, for whatever reason: libpq takes that as absent too. */
  stat(path: string): FileFacts | undefined;
  /** For what libpq prints to stderr. */
  warn(message: string): void;
}

export function nodeContext(): ConfigContext {
  return {
    env: process.env,
    platform: process.platform,
    homeDir: () => {
      try {
        return userInfo().homedir || undefined;
      } catch {
        return undefined;
      }
    },
    osUser: () => userInfo().username,
    readFile: (path) => readFileSync(path),
    stat: (path) => {
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat === undefined) return undefined;
      return { kind: stat.isFile() ? 'file' : stat.isSocket() ? 'socket' : 'other', mode: stat.mode };
    },
    warn: (message) => process.emitWarning(message, { type: 'PgConfigWarning' }),
  };
}

export function withDefaults(context: Partial<ConfigContext> | undefined): ConfigContext {
  const world = { ...nodeContext(), ...context };
  const stat = world.stat.bind(world);
  return {
    ...world,
    stat: (path) => {
      try {
        return stat(path);
      } catch {
        return undefined;
      }
    },
  };
}

/**
 * `pqGetHomeDirectory`: $HOME, else the account's; on Windows %APPDATA%\postgresql. `undefined` when there is none:
 * then none of libpq's files in it is looked for.
 */
export function libpqHome(context: ConfigContext): string | undefined {
  if (context.platform === 'win32') {
    const appData = context.env.APPDATA;
    return appData ? win32.join(appData, 'postgresql') : undefined;
  }
  return context.env.HOME || context.homeDir();
}

/** A file of the user's, e.g. `.pgpass`; undefined without a home directory. */
export function homeFile(context: ConfigContext, name: string): string | undefined {
  const home = libpqHome(context);
  return home === undefined ? undefined : pathOf(context).join(home, name);
}

/** A file of the folder where libpq looks for key material: `~/.postgresql`, and on Windows the home itself. */
export function certificateFile(context: ConfigContext, name: string): string | undefined {
  return homeFile(context, context.platform === 'win32' ? name : posix.join('.postgresql', name));
}

export function pathOf(context: ConfigContext): PlatformPath {
  return context.platform === 'win32' ? win32 : posix;
}

/** A host that names a directory of Unix sockets (or, with `@`, of abstract ones). */
export function isSocketDirectory(host: string | undefined, platform = process.platform): boolean {
  if (host === undefined) return false;
  return host.startsWith('/') || host.startsWith('@') || (platform === 'win32' && /^[A-Za-z]:[\\/]/.test(host));
}
