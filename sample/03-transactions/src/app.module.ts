import { Module } from '@nestjs/common';
import { PgModule } from 'nestjs-pg';
import { Database, DatabaseModule } from './database.module.js';
import { MailService } from './mail.service.js';
import { OrdersService } from './orders.service.js';
import { Schema } from './schema.js';
import { ShopController } from './shop.controller.js';
import { StockService } from './stock.service.js';

@Module({
  imports: [
    // Only because this sample can bring its own server: see sample/01-minimal.
    DatabaseModule,
    PgModule.forRootAsync({
      inject: [Database],
      useFactory: ({ connectionString }: Database) => ({ connectionString, pool: { max: 5 } }),
    }),
  ],
  controllers: [ShopController],
  providers: [Schema, StockService, OrdersService, MailService],
})
export class AppModule {}
