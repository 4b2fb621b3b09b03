import { Module } from '@nestjs/common';
import { PgModule, type PgModuleOptions } from 'nestjs-pg';
import { Database, DatabaseModule } from './database.module.js';
import { TlsController } from './tls.controller.js';

/** What an application writes: the root that signs the server's certificate, and the certificate to show to it. */
export function optionsOf({ connectionString, certificates }: Database): PgModuleOptions {
  return {
    connectionString,
    ssl: {
      mode: 'verify-full',
      ca: { file: `${certificates}/ca.crt` },
      cert: { file: `${certificates}/tls.crt` },
      key: { file: `${certificates}/tls.key` },
    },
    // A session keeps the certificates with which it began: an hour after a rotation the last old one is gone.
    pool: { max: 5, maxLifetimeSeconds: 3600 },
  };
}

@Module({
  imports: [DatabaseModule, PgModule.forRootAsync({ inject: [Database], useFactory: optionsOf })],
  controllers: [TlsController],
})
export class AppModule {}
