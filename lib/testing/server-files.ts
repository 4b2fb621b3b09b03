import { join } from 'node:path';
import { replaceFile, type Identity } from './identity.js';

export type ServerSettings = Readonly<Record<string, string | number | boolean>>;

/** What the server presents and checks in TLS; PEM texts. */
export interface ServerCertificate {
  /** The certificate, followed by its intermediates. */
  readonly cert: string;
  readonly key: string;
  /** Authorities of client certificates; without it the server asks clients for none. */
  readonly ca?: string;
  /** Revoked client certificates. */
  readonly crl?: string;
}

export const SETTINGS_FILE = 'nestjs-pg.conf';

/** Rules in force unless the user writes some: the superuser needs no password on the Unix socket, over TCP anyone does. */
export const DEFAULT_HBA: readonly string[] = [
  'local all all trust',
  'local replication all trust',
  'host all all all scram-sha-256',
  'host replication all all scram-sha-256',
];

/** A server that nobody depends on: nothing is flushed to disk, and nothing is left behind in shared memory. */
const BASE_SETTINGS: ServerSettings = {
  fsync: false,
  synchronous_commit: false,
  full_page_writes: false,
  shared_buffers: '32MB',
  dynamic_shared_memory_type: 'mmap',
  // A standby starts from a copy without a replication slot: what is written meanwhile must still be there.
  wal_keep_size: '256MB',
  wal_retrieve_retry_interval: '100ms',
};

const SSL_FILES = {
  cert: ['ssl_cert_file', 'server.crt'],
  key: ['ssl_key_file', 'server.key'],
  ca: ['ssl_ca_file', 'root.crt'],
  crl: ['ssl_crl_file', 'root.crl'],
} as const;

/** The files of a data folder that decide how the server runs. */
export class ServerFiles {
  readonly #data: string;
  readonly #identity: Identity | undefined;
  readonly #fixed: ServerSettings;
  #settings: ServerSettings = {};
  #ssl: ServerSettings = {};

  /** `fixed`: settings that belong to the launcher (port, addresses, socket folder). */
  constructor(data: string, identity: Identity | undefined, fixed: ServerSettings) {
    this.#data = data;
    this.#identity = identity;
    this.#fixed = fixed;
  }

  get settings(): ServerSettings {
    return this.#settings;
  }

  async writeSettings(settings: ServerSettings): Promise<void> {
    this.#settings = settings;
    await this.#write(SETTINGS_FILE, render({ ...BASE_SETTINGS, ...this.#ssl, ...settings, ...this.#fixed }));
  }

  async writeHba(lines: readonly string[]): Promise<void> {
    await this.#write('pg_hba.conf', `${lines.join('\n')}\n`);
  }

  /** Undefined turns TLS off. The key is readable for the server alone, or the server refuses it. */
  async writeSsl(ssl: ServerCertificate | undefined): Promise<void> {
    const settings: Record<string, string | boolean> = { ssl: ssl !== undefined };
    for (const [part, [setting, file]] of Object.entries(SSL_FILES)) {
      const pem = ssl?.[part as keyof ServerCertificate];
      if (pem === undefined) continue;
      await this.#write(file, pem);
      settings[setting] = file;
    }
    this.#ssl = settings;
    await this.writeSettings(this.#settings);
  }

  async #write(name: string, text: string): Promise<void> {
    await replaceFile(join(this.#data, name), text, this.#identity);
  }
}

function render(settings: ServerSettings): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name} = ${literal(value)}\n`)
    .join('');
}

/** A value in postgresql.conf's syntax: quotes doubled, backslash and newline escaped (guc-file.l). */
function literal(value: string | number | boolean): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  const text = String(value).replaceAll('\\', '\\\\').replaceAll("'", "''").replaceAll('\n', '\\n');
  return `'${text}'`;
}
