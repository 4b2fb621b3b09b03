import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConflictException, Global, Injectable, Logger, Module, type OnApplicationShutdown } from '@nestjs/common';
import { startPostgres, type PostgresServer } from 'nestjs-pg/testing';
import { Authority, type Certificate } from './authority.js';

const HOST = 'localhost';
const ROLE = 'postgres';

interface Own {
  readonly server: PostgresServer;
  readonly authority: Authority;
}

/** The server of DATABASE_URL with the files in CERTIFICATES, or both of our own for as long as the application lives. */
@Injectable()
export class Database implements OnApplicationShutdown {
  private constructor(
    readonly connectionString: string,
    /** The folder with ca.crt, tls.crt and tls.key. */
    readonly certificates: string,
    private readonly own?: Own,
  ) {}

  static async open(): Promise<Database> {
    const { DATABASE_URL, CERTIFICATES } = process.env;
    if (DATABASE_URL) {
      if (!CERTIFICATES) throw new Error('CERTIFICATES must name the folder with ca.crt, tls.crt and tls.key.');
      return new Database(DATABASE_URL, CERTIFICATES);
    }
    const authority = await Authority.create('The authority of this run');
    const server = await startPostgres({
      ssl: { ...(await authority.issueForHost(HOST)), ca: authority.cert },
      // Over the network: TLS, and a certificate that leads to our root and names the role.
      hba: ['local all all trust', 'hostssl all all all cert', 'host all all all reject'],
    });
    const folder = await mkdtemp(join(tmpdir(), 'nestjs-pg-certificates-'));
    const database = new Database(
      `host=${HOST} hostaddr=${server.host} port=${server.port} user=${ROLE} dbname=${server.database}`,
      folder,
      { server, authority },
    );
    await database.write(authority, await authority.issueForRole(ROLE));
    new Logger(Database.name).log(
      `Started PostgreSQL with TLS for this run only: port ${server.port}, files in ${folder}`,
    );
    return database;
  }

  /** New certificates for both sides. Sessions that are open go on; new ones begin with the new certificates. */
  async rotate(): Promise<void> {
    const { server, authority } = this.mine();
    await server.setSsl({ ...(await authority.issueForHost(HOST)), ca: authority.cert });
    await this.write(authority, await authority.issueForRole(ROLE));
  }

  /** Somebody in the network answers in the server's place, with a certificate for its name from another authority. */
  async whileImpersonated<T>(work: () => Promise<T>): Promise<T> {
    const { server, authority } = this.mine();
    const other = await Authority.create('Another authority');
    await server.setSsl({ ...(await other.issueForHost(HOST)), ca: authority.cert });
    try {
      return await work();
    } finally {
      await server.setSsl({ ...(await authority.issueForHost(HOST)), ca: authority.cert });
    }
  }

  async onApplicationShutdown(): Promise<void> {
    if (!this.own) return;
    await this.own.server.close();
    await rm(this.certificates, { recursive: true });
  }

  private mine(): Own {
    if (this.own) return this.own;
    throw new ConflictException('The certificates of this server are not mine to change.');
  }

  /** Each file is whole at every moment; until both of a pair are there, new connections use the last good pair. */
  private async write(authority: Authority, { cert, key }: Certificate): Promise<void> {
    for (const [name, pem] of Object.entries({ 'ca.crt': authority.cert, 'tls.crt': cert, 'tls.key': key })) {
      const path = join(this.certificates, name);
      // libpq's rule, which holds here too: a key that others may read is refused.
      await writeFile(`${path}.new`, pem, { mode: 0o600 });
      await rename(`${path}.new`, path);
    }
  }
}

/** Global, and imported before PgModule: Nest closes it last, so the server outlives the pool's drain. */
@Global()
@Module({
  providers: [{ provide: Database, useFactory: () => Database.open() }],
  exports: [Database],
})
export class DatabaseModule {}
