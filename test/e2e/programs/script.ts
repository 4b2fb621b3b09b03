// A script that never closes its application; its argument is 'used' or 'background'.
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { PG_POOL, PgModule, type PgPool } from 'nestjs-pg';

const mode = process.argv[2];

@Module({
  imports: [
    PgModule.forRoot({
      connectionString: process.env['DATABASE_URL'],
      connect: mode === 'background' ? 'background' : 'eager',
      pool: { min: 2 },
    }),
  ],
})
class AppModule {}

const app = await NestFactory.createApplicationContext(AppModule, { logger: ['warn', 'error'] });
const pool = app.get<PgPool>(PG_POOL);
if (mode !== 'background') {
  const { rows } = await pool.query<{ one: number }>('SELECT 1 AS one');
  console.log(`one is ${rows[0]?.one}`);
}
