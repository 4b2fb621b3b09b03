import type { ResolvedConfig } from './config/resolved-config.js';
import type { ResolvedPoolOptions } from './pool/pool-options.js';
import { tlsConnectOptions } from './tls/tls-options.js';
import { TlsMaterial } from './tls/tls-material.js';

/** Modes that never go on without encryption. */
const ALWAYS_ENCRYPTED: ReadonlySet<string> = new Set(['require', 'verify-ca', 'verify-full']);

/**
 * The `options` that libraries look for on a pg.Pool, under pg's names. Some open connections of their own from them, by
 * stock pg: what they get is never weaker than what the pool does. Stock pg knows one host and has no `prefer`, so in the
 * modes that may end unencrypted it gets an unencrypted connection, and in the others the first host and its TLS.
 */
export function libraryOptions(config: ResolvedConfig, limits: ResolvedPoolOptions): Record<string, unknown> {
  const [first] = config.hosts;
  const options = {
    ...config.session,
    host: first?.hostaddr ?? first?.host,
    port: first?.port,
    user: config.user,
    database: config.database,
    // Looked up when it is asked for: files change.
    get ssl(): object | false {
      const isSocket = /^[/@]/.test(first?.host ?? '');
      if (isSocket || !ALWAYS_ENCRYPTED.has(config.tls.mode)) return false;
      return tlsConnectOptions(new TlsMaterial(config.tls, { warn: () => undefined }), first ?? {});
    },
    query_timeout: config.queryTimeoutMillis,
    keepAlive: config.keepalive.enabled,
    keepAliveInitialDelayMillis: config.keepalive.idleMillis,
    types: config.types,
    min: limits.min,
    max: limits.max,
    maxUses: limits.maxUses || Infinity,
    maxLifetimeSeconds: limits.maxLifetimeSeconds,
    idleTimeoutMillis: limits.idleTimeoutMillis,
    connectionTimeoutMillis: limits.acquireTimeoutMillis,
    allowExitOnIdle: limits.allowExitOnIdle,
  };
  // As in stock pg: to be read by its name, and never printed or copied along.
  const password = (): unknown => {
    const configured = config.password?.reveal();
    return typeof configured === 'function' ? configured() : (configured ?? first?.password?.reveal());
  };
  return Object.defineProperty(options, 'password', { value: password, enumerable: false });
}
