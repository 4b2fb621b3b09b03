import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startPostgres } from 'nestjs-pg/testing';
import { afterEach, beforeEach, describe, expect, inject, it, vi } from 'vitest';
import { createAuthority } from '../support/certificates.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MAIN = join(ROOT, 'sample/02-verify-full/dist/main.js');

interface Session {
  readonly tlsVersion: string;
  readonly ourCertificate: string;
  readonly itsSerialNumber: string;
  readonly serverIdentity: string;
}

/** The sample as a process of its own. The global setup has built it. */
class Sample implements AsyncDisposable {
  output = '';
  errors = '';
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly #process: ChildProcess;

  constructor(env: NodeJS.ProcessEnv) {
    const { DATABASE_URL: _, CERTIFICATES: __, ...inherited } = process.env;
    this.#process = spawn(process.execPath, [MAIN], {
      cwd: ROOT,
      env: { ...inherited, NO_COLOR: '1', PORT: '0', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process.stdout!.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    this.#process.stderr!.setEncoding('utf8').on('data', (text: string) => (this.errors += text));
    this.exit = once(this.#process, 'close').then(([code, signal]) => ({ code, signal }));
  }

  static async start(env: NodeJS.ProcessEnv = {}): Promise<Sample> {
    const sample = new Sample(env);
    await vi.waitFor(() => expect(sample.output, sample.errors).toMatch(/^ *Open http/m), { timeout: 20_000 });
    return sample;
  }

  async fetch(path: string, method = 'GET'): Promise<Response> {
    const url = /Open (http:\S+?)\/ /.exec(this.output)![1]!;
    return fetch(url + path, { method, headers: { connection: 'close' } });
  }

  async json<T>(path: string, method?: string): Promise<T> {
    const response = await this.fetch(path, method);
    expect(response.status).toBe(200);
    return (await response.json()) as T;
  }

  async stop(): Promise<void> {
    this.#process.kill('SIGTERM');
    expect(await this.exit).toEqual({ code: 0, signal: null });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) this.#process.kill('SIGKILL');
    await this.exit;
  }
}

describe('sample/02-verify-full', () => {
  it('speaks verified TLS on both sides, rotates, refuses an impostor, and cleans up', async () => {
    expect(inject('buildFailure')).toBeUndefined();
    await using sample = await Sample.start();
    expect(sample.output).toMatch(
      /\[PgModule\] Pool "default": connected to localhost:\d+ .* TLSv1\.3, identity verified\./,
    );
    const folder = /files in (\S+)/.exec(sample.output)![1]!;
    expect(readdirSync(folder).sort()).toEqual(['ca.crt', 'tls.crt', 'tls.key']);
    expect(statSync(join(folder, 'tls.key')).mode & 0o777).toBe(0o600);

    const first = await sample.json<Session>('/');
    expect(first).toMatchObject({ tlsVersion: 'TLSv1.3', ourCertificate: '/CN=postgres', serverIdentity: 'full' });

    const second = await sample.json<Session>('/rotate', 'POST');
    expect(second.itsSerialNumber).not.toBe(first.itsSerialNumber);
    expect(await sample.json<Session>('/')).toEqual(second);

    const { refused } = await sample.json<{ refused: string }>('/impostor', 'POST');
    expect(refused).toContain("the server's certificate does not lead to a trusted root");
    expect(await sample.json<Session>('/')).toEqual(second);

    const settings = await (await sample.fetch('/settings')).text();
    expect(settings).toContain('TLS protects against: impersonation.');
    expect(settings).toContain(`sslkey=${folder}/tls.key (option)`);

    await sample.stop();
    expect(sample.errors).toBe('');
    expect(existsSync(folder)).toBe(false);
  });

  describe('with a server of yours', () => {
    let certificates: string;
    beforeEach(() => {
      certificates = mkdtempSync(join(tmpdir(), 'nestjs-pg-sample-'));
    });
    afterEach(() => rmSync(certificates, { recursive: true }));

    it('uses DATABASE_URL and the files in CERTIFICATES, and leaves both as they are', async () => {
      const authority = await createAuthority('Root');
      const [forServer, forClient] = [
        await authority.issue({ dns: ['localhost'] }),
        await authority.issue({ cn: 'postgres', client: true }),
      ];
      for (const [name, pem] of [
        ['ca.crt', authority.certPem],
        ['tls.crt', forClient.certPem],
        ['tls.key', forClient.keyPem],
      ] as const) {
        writeFileSync(join(certificates, name), pem, { mode: 0o600 });
      }
      await using server = await startPostgres({
        ssl: { cert: forServer.certPem, key: forServer.keyPem, ca: authority.certPem },
        hba: ['local all all trust', 'hostssl all all all cert'],
      });
      const DATABASE_URL = `postgresql://postgres@localhost:${server.port}/postgres?hostaddr=127.0.0.1`;

      await using sample = await Sample.start({ DATABASE_URL, CERTIFICATES: certificates });
      expect(await sample.json('/')).toMatchObject({ ourCertificate: '/CN=postgres', serverIdentity: 'full' });
      expect((await sample.fetch('/rotate', 'POST')).status).toBe(409);
      await sample.stop();
      expect(readdirSync(certificates)).toHaveLength(3);
    });

    it('says what is missing', async () => {
      await using sample = new Sample({ DATABASE_URL: 'postgresql://localhost' });
      expect((await sample.exit).code).not.toBe(0);
      expect(sample.output + sample.errors).toContain('CERTIFICATES must name the folder');
    });
  });
});
