import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { connectionString, tell } from './ready.mjs';

tell(async () => {
  // The tests have the library somewhere else.
  const { PG_POOL, PgModule } = await import(process.env.BENCH_LIBRARY ?? 'nestjs-pg');
  const module = PgModule.forRoot({ connectionString });
  const application = await NestFactory.createApplicationContext(module, { logger: false });
  await application.get(PG_POOL).query('SELECT 1');
});
