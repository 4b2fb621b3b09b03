import { Module } from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import { PgModule } from 'nestjs-pg';
import { Database, DatabaseModule } from './database.module.js';
import { ImportFilter } from './import.filter.js';
import { ImportsController } from './imports.controller.js';
import { ImportsService } from './imports.service.js';

@Module({
  imports: [
    // Only because this sample can bring its own server; where there is a DATABASE_URL this is all:
    // PgModule.forRoot({ connectionString: process.env.DATABASE_URL, pool: { max: 5 } })
    DatabaseModule,
    PgModule.forRootAsync({
      inject: [Database],
      useFactory: ({ connectionString }: Database) => ({ connectionString, pool: { max: 5 } }),
    }),
  ],
  controllers: [ImportsController],
  providers: [ImportsService, { provide: APP_FILTER, useClass: ImportFilter }],
})
export class AppModule {}
