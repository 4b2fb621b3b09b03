import { Module } from '@nestjs/common';
import { PgModule } from 'nestjs-pg';
import { Database, DatabaseModule } from './database.module.js';
import { OrdersController } from './orders.controller.js';
import { OrdersLog } from './orders.log.js';
import { OrdersService } from './orders.service.js';

@Module({
  imports: [
    // Only because this sample can bring its own server; where there is a DATABASE_URL this is all:
    // PgModule.forRoot({ connectionString: process.env.DATABASE_URL })
    DatabaseModule,
    PgModule.forRootAsync({
      inject: [Database],
      useFactory: ({ connectionString }: Database) => ({ connectionString }),
    }),
  ],
  controllers: [OrdersController],
  providers: [OrdersService, OrdersLog],
})
export class AppModule {}
