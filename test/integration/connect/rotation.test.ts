import { writeFileSync } from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createPool, type PgPool } from 'nestjs-pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createAuthority, type Authority, type Issued } from '../../support/certificates.js';
import { ADMIN_HBA, useServer, waitFor } from '../../support/postgres.js';

const BORROWERS = 8;
/** How many new connections each step of a rotation has to see. */
const CONNECTS = 12;

/** Everything that a rotation replaces. */
interface Generation {
  readonly serverRoot: Authority;
  readonly clientRoot: Authority;
  readonly server: Issued;
  readonly client: Issued;
}

async function generation(name: string): Promise<Generation> {
  const [serverRoot, clientRoot] = [await createAuthority(`Servers ${name}`), await createAuthority(`Clients ${name}`)];
  return {
    serverRoot,
    clientRoot,
    server: await serverRoot.issue({ dns: ['localhost'] }),
    client: await clientRoot.issue({ cn: 'postgres', client: true }),
  };
}

const first = await generation('1');
const server = useServer({
  ssl: { cert: first.server.certPem, key: first.server.keyPem, ca: first.clientRoot.certPem },
  hba: [ADMIN_HBA, 'hostssl all all all cert'],
});

let folder: string;
let warnings: string[];
const onWarning = (warning: Error): void => {
  if (warning.name === 'PgWarning') warnings.push(warning.message);
};

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nestjs-pg-load-'));
  warnings = [];
  process.on('warning', onWarning);
});
afterEach(async () => {
  process.off('warning', onWarning);
  await rm(folder, { recursive: true });
});

const at = (name: string): string => join(folder, name);
/** At once, as far as this process can see: no connection looks at a file that is empty still. */
const write = (name: string, pem: string): void => writeFileSync(at(name), pem, { mode: 0o600 });

async function replace(name: string, pem: string): Promise<void> {
  write(`${name}.new`, pem);
  await rename(at(`${name}.new`), at(name));
}

async function writeAll({ serverRoot, client }: Generation): Promise<void> {
  await replace('ca.crt', serverRoot.certPem);
  await replace('client.crt', client.certPem);
  await replace('client.key', client.keyPem);
}

const sslOf = ({ server: { certPem, keyPem } }: Generation, ...clientRoots: Generation[]) => ({
  cert: certPem,
  key: keyPem,
  ca: clientRoots.map(({ clientRoot }) => clientRoot.certPem).join(''),
});

interface Failure {
  readonly begun: number;
  readonly ended: number;
  readonly error: Error;
}

/** Borrowers that never rest, on a pool whose connections are soon used up. */
class Load implements AsyncDisposable {
  readonly pool: PgPool;
  readonly failures: Failure[] = [];
  connects = 0;
  queries = 0;
  readonly #borrowers: Promise<void>[];
  #going = true;

  constructor() {
    this.pool = createPool({
      host: 'localhost',
      hostaddr: '127.0.0.1',
      port: server().port,
      user: 'postgres',
      database: 'postgres',
      ssl: {
        mode: 'verify-full',
        ca: { file: at('ca.crt') },
        cert: { file: at('client.crt') },
        key: { file: at('client.key') },
      },
      pool: { max: 5, maxUses: 3 },
    });
    this.pool.on('connect', () => this.connects++);
    this.#borrowers = Array.from({ length: BORROWERS }, () => this.#borrow());
  }

  /** Until so many more connections have been opened. */
  async moreConnects(): Promise<void> {
    const wanted = this.connects + CONNECTS;
    await waitFor(() => this.connects >= wanted, { message: `${CONNECTS} more connections`, deadline: 15_000 });
  }

  /** The serial numbers of the client certificates that new connections show. */
  async serial(): Promise<string> {
    const { rows } = await this.pool.query<{ serial: string }>(
      'SELECT client_serial::text AS serial FROM pg_stat_ssl WHERE pid = pg_backend_pid()',
    );
    return BigInt(rows[0]?.serial ?? 0).toString(16);
  }

  async #borrow(): Promise<void> {
    while (this.#going) {
      const begun = performance.now();
      try {
        const { rows } = await this.pool.query<{ answer: number }>('SELECT 6 * 7 AS answer');
        expect(rows).toEqual([{ answer: 42 }]);
        this.queries++;
      } catch (error) {
        this.failures.push({ begun, ended: performance.now(), error: error as Error });
        // Not busier than an application that answers with an error.
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#going = false;
    await Promise.all(this.#borrowers);
    await this.pool.end();
  }
}

describe('while queries run over verify-full and mutual TLS', () => {
  it('every certificate, key and authority of both sides is replaced, and no query fails', async () => {
    let old = first;
    await server().setSsl(sslOf(old, old));
    await writeAll(old);
    await using load = new Load();
    await using lease = await load.pool.connect();
    await load.moreConnects();

    for (const name of ['2', '3']) {
      const next = await generation(name);
      // First both sides trust both, ...
      await replace('ca.crt', old.serverRoot.certPem + next.serverRoot.certPem);
      await load.moreConnects();
      // ... then the server shows its new certificate, ...
      await server().setSsl(sslOf(next, old, next));
      await load.moreConnects();
      expect(await load.serial()).toBe(old.client.serialNumber);
      // ... then the client: one file after the other, as most tools write them, ...
      write('client.crt', next.client.certPem);
      await load.moreConnects();
      expect(await load.serial()).toBe(old.client.serialNumber);
      expect(warnings.splice(0)).toEqual([
        expect.stringMatching(/last good ones .*client\.crt.* does not belong to the private key/),
      ]);
      write('client.key', next.client.keyPem.slice(0, 100));
      await load.moreConnects();
      expect(await load.serial()).toBe(old.client.serialNumber);
      expect(warnings.splice(0)).toEqual([expect.stringMatching(/last good ones .*client\.key.* cannot be used/)]);
      write('client.key', next.client.keyPem);
      await load.moreConnects();
      await waitFor(async () => (await load.serial()) === next.client.serialNumber, { message: 'the new certificate' });
      // ... and in the end nobody trusts the old ones any more.
      await replace('ca.crt', next.serverRoot.certPem);
      await server().setSsl(sslOf(next, next));
      await load.moreConnects();
      old = next;
    }

    expect(load.failures).toEqual([]);
    expect(warnings).toEqual([]);
    expect(load.queries).toBeGreaterThan(load.connects);
    // A session outlives the certificates that it began with.
    expect((await lease.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  }, 60_000);

  it('both sides change at once, and only queries of that moment fail', async () => {
    const [old, next] = [await generation('4'), await generation('5')];
    await server().setSsl(sslOf(old, old));
    await writeAll(old);
    await using load = new Load();
    await load.moreConnects();
    expect(load.failures).toEqual([]);

    const begin = performance.now();
    await server().setSsl(sslOf(next, next));
    await writeAll(next);
    const end = performance.now();
    await load.moreConnects();
    await waitFor(async () => (await load.serial()) === next.client.serialNumber, { message: 'the new certificate' });

    expect(load.failures.filter(({ begun, ended }) => ended < begin || begun > end)).toEqual([]);
    for (const { error } of load.failures) expect(error).toMatchObject({ code: 'PG_CONNECT_FAILED' });
  }, 60_000);
});
