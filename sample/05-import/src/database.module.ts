import { Global, Injectable, Logger, Module, type OnApplicationShutdown } from '@nestjs/common';
import { startPostgres, type PostgresServer } from 'nestjs-pg/testing';

/** The server that DATABASE_URL names, or one of our own that lives as long as the application. */
@Injectable()
export class Database implements OnApplicationShutdown {
  private constructor(
    readonly connectionString: string,
    private readonly own?: PostgresServer,
  ) {}

  static async open(): Promise<Database> {
    const logger = new Logger(Database.name);
    if (process.env.DATABASE_URL) {
      logger.log('Using the server of DATABASE_URL');
      return new Database(process.env.DATABASE_URL);
    }
    const server = await startPostgres();
    logger.log(`Started PostgreSQL for this run only: port ${server.port}, folder ${server.dataDir}`);
    return new Database(server.connectionString, server);
  }

  async onApplicationShutdown(): Promise<void> {
    await this.own?.close();
  }
}

/**
 * Global, and imported before PgModule: Nest closes global modules last and in reverse order, so the server outlives
 * the pool's drain.
 */
@Global()
@Module({
  providers: [{ provide: Database, useFactory: () => Database.open() }],
  exports: [Database],
})
export class DatabaseModule {}
