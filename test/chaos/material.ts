import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SslOptions } from 'nestjs-pg';
import type { PostgresOptions } from 'nestjs-pg/testing';
import { createAuthority, type Authority, type Issued } from '../support/certificates.js';

/** Everything that a rotation replaces. */
export interface Generation {
  readonly number: number;
  readonly serverRoot: Authority;
  readonly clientRoot: Authority;
  readonly server: Issued;
  readonly client: Issued;
}

export async function newGeneration(number: number): Promise<Generation> {
  const serverRoot = await createAuthority(`Servers ${number}`);
  const clientRoot = await createAuthority(`Clients ${number}`);
  return {
    number,
    serverRoot,
    clientRoot,
    server: await serverRoot.issue({ dns: ['localhost'] }),
    client: await clientRoot.issue({ cn: 'postgres', client: true }),
  };
}

/** The server's side: the certificate of one generation, and clients of several. */
export function serverSsl(shown: Generation, ...trusted: Generation[]): NonNullable<PostgresOptions['ssl']> {
  const ca = trusted.map(({ clientRoot }) => clientRoot.certPem).join('');
  return { cert: shown.server.certPem, key: shown.server.keyPem, ca };
}

/** The client's side: files, each of which is replaced whole. */
export class ClientFiles implements AsyncDisposable {
  readonly #folder: string;

  static async create(): Promise<ClientFiles> {
    return new ClientFiles(await mkdtemp(join(tmpdir(), 'nestjs-pg-chaos-')));
  }

  private constructor(folder: string) {
    this.#folder = folder;
  }

  get ssl(): SslOptions {
    const file = (name: string): { file: string } => ({ file: join(this.#folder, name) });
    return { mode: 'verify-full', ca: file('ca.crt'), cert: file('client.crt'), key: file('client.key') };
  }

  async trust(...servers: Generation[]): Promise<void> {
    await this.#replace('ca.crt', servers.map(({ serverRoot }) => serverRoot.certPem).join(''));
  }

  async show({ client }: Generation): Promise<void> {
    await this.#replace('client.crt', client.certPem);
    await this.#replace('client.key', client.keyPem);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true });
  }

  async #replace(name: string, pem: string): Promise<void> {
    const path = join(this.#folder, name);
    await writeFile(`${path}.new`, pem, { mode: 0o600 });
    await rename(`${path}.new`, path);
  }
}
