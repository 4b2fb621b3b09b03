import { createSecureContext, DEFAULT_CIPHERS } from 'node:tls';
import type { SecureContext } from 'node:tls';
import type { ResolvedTls, TlsVersion } from '../config/resolved-config.js';
import { MaterialLook, nodeFiles } from './material-files.js';
import type { MaterialFiles } from './material-files.js';
import { readMaterial } from './material-reader.js';
import type { Material } from './material-reader.js';
import { verification } from './ssl-mode.js';
import type { Verification } from './ssl-mode.js';
import { TlsMaterialError } from './tls-material.error.js';

/** libpq's default of `ssl_min_protocol_version`. */
export const DEFAULT_MIN_VERSION: TlsVersion = 'TLSv1.2';

const VERSIONS: readonly TlsVersion[] = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'];

/** What one connection uses; the same object until a file has changed. */
export interface LoadedTls {
  readonly context: SecureContext;
  readonly verify: Verification;
  /** Whether there is a certificate to send, should the server ask for one. */
  readonly clientCertificate: boolean;
}

export interface TlsMaterialOptions {
  /** Told once per state of the files that cannot be used while an earlier one still is. */
  readonly warn: (message: string) => void;
  readonly files?: MaterialFiles;
  /** SSL_CERT_FILE and SSL_CERT_DIR; default `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly platform?: NodeJS.Platform;
  /** Epoch milliseconds, comparable to the files' times. */
  readonly now?: () => number;
}

interface GoodTls extends LoadedTls {
  readonly digest: string;
  readonly defaults: ReadonlySet<string>;
}

/**
 * The certificates, keys and revocation lists of one configuration, loaded once and looked at again for each new
 * connection. While the files are as they were, which a few `stat` calls tell, every connection shares one
 * SecureContext: making it costs a quarter of a TLS connect.
 *
 * New files are taken over only as a whole: certificate and key that belong together, every PEM block complete, nothing
 * gone that was there. Until then (a rotation writes one file after the other) the last good ones stay in use.
 */
export class TlsMaterial {
  readonly tls: ResolvedTls;
  readonly #options: TlsMaterialOptions;
  readonly #own: LoadedTls | undefined;
  #good: GoodTls | undefined;
  #look: MaterialLook | undefined;
  #warnedOf: string | undefined;

  constructor(tls: ResolvedTls, options: TlsMaterialOptions) {
    this.tls = tls;
    this.#options = options;
    this.#own = tls.secureContext && ownContext(tls, tls.secureContext);
  }

  /**
   * The material for a new connection.
   *
   * @throws TlsMaterialError when there has never been usable material.
   */
  secureContext(): LoadedTls {
    if (this.#own) return this.#own;
    if (this.#good && this.#look?.isCurrent()) return this.#good;
    const look = new MaterialLook(this.#options.files ?? nodeFiles, this.#options.now ?? Date.now);
    try {
      this.#good = this.#take(look, this.#good);
      this.#warnedOf = undefined;
    } catch (error) {
      if (!this.#good) throw error;
      this.#warn(error, look.digest());
    }
    this.#look = look;
    return this.#good;
  }

  #take(look: MaterialLook, good: GoodTls | undefined): GoodTls {
    const material = readMaterial(this.tls, look, {
      env: this.#options.env ?? process.env,
      platform: this.#options.platform ?? process.platform,
    });
    if (good?.digest === look.digest()) return good;
    for (const path of good?.defaults ?? []) {
      if (!material.defaults.has(path)) {
        throw new TlsMaterialError(`file "${path}" has been in use and does not exist any more`, { explicit: false });
      }
    }
    return {
      context: buildContext(this.tls, material),
      verify: material.verify,
      clientCertificate: material.client !== undefined,
      digest: look.digest(),
      defaults: material.defaults,
    };
  }

  #warn(error: unknown, state: string): void {
    if (this.#warnedOf === state) return;
    this.#warnedOf = state;
    const why = error instanceof Error ? error.message : String(error);
    this.#options.warn(
      `Changed TLS files cannot be used; new connections go on with the last good ones until the files are whole: ${why}`,
    );
  }
}

/** A context of the user's carries its own trust, so it counts as a root that is present. */
function ownContext(tls: ResolvedTls, context: SecureContext): LoadedTls {
  return { context, verify: verification(tls, true), clientCertificate: tls.certMode !== 'disable' };
}

function buildContext(tls: ResolvedTls, material: Material): SecureContext {
  const minVersion = tls.minVersion ?? DEFAULT_MIN_VERSION;
  if (tls.maxVersion && VERSIONS.indexOf(tls.maxVersion) < VERSIONS.indexOf(minVersion)) {
    throw new TlsMaterialError(
      `ssl_max_protocol_version=${tls.maxVersion} (option ssl.maxVersion) is below ssl_min_protocol_version=${minVersion}`,
      { explicit: true },
    );
  }
  // OpenSSL 3 keeps TLS before 1.2 behind security level 0, because of SHA-1; who asks for these versions by name
  // (the default minimum is 1.2) asks for it.
  const legacy = VERSIONS.indexOf(minVersion) < VERSIONS.indexOf('TLSv1.2');
  try {
    return createSecureContext({
      ca: material.roots === 'bundled' ? undefined : material.roots,
      crl: material.crls.length > 0 ? material.crls : undefined,
      cert: material.client?.chain,
      key: material.client?.key,
      minVersion,
      maxVersion: tls.maxVersion,
      ...(legacy && { ciphers: `${DEFAULT_CIPHERS}:@SECLEVEL=0` }),
    });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new TlsMaterialError(`OpenSSL does not accept the TLS material: ${why}`, { explicit: true, cause });
  }
}
