import type { ConfigContext, FileFacts } from '../../../lib/config/config-context.js';

export interface FakeFile {
  readonly text?: string;
  readonly mode?: number;
  readonly kind?: FileFacts['kind'];
}

/** A machine without a network, in an object: what is not named does not exist. */
export function world(
  options: {
    readonly env?: Record<string, string>;
    readonly files?: Record<string, FakeFile | string>;
    readonly platform?: NodeJS.Platform;
    readonly home?: string;
    readonly osUser?: () => string;
  } = {},
): ConfigContext & { readonly warnings: string[] } {
  const warnings: string[] = [];
  const file = (path: string): FakeFile | undefined => {
    const found = options.files?.[path];
    return typeof found === 'string' ? { text: found } : found;
  };
  return {
    warnings,
    env: options.env ?? {},
    platform: options.platform ?? 'linux',
    homeDir: () => options.home,
    osUser: options.osUser ?? (() => 'account'),
    readFile: (path) => {
      const text = file(path)?.text;
      if (text === undefined) throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' });
      return Buffer.from(text);
    },
    stat: (path) => {
      const found = file(path);
      return found === undefined ? undefined : { kind: found.kind ?? 'file', mode: found.mode ?? 0o600 };
    },
    warn: (message) => warnings.push(message),
  };
}
