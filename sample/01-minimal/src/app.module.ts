import { Module } from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import { PgModule } from 'nestjs-pg';
import { ConstraintFilter } from './constraint.filter.js';
import { Database, DatabaseModule } from './database.module.js';
import { TasksController } from './tasks.controller.js';
import { TasksService } from './tasks.service.js';

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
  controllers: [TasksController],
  providers: [TasksService, { provide: APP_FILTER, useClass: ConstraintFilter }],
})
export class AppModule {}
