import 'reflect-metadata';
import { createRequire } from 'node:module';
import { NestFactory } from '@nestjs/core';
import { connectionString, tell } from './ready.mjs';

class AppModule {}

tell(async () => {
  // The repository's own, on which nestjs-pg stands too.
  const { default: pg } = await import(createRequire(new URL('../../package.json', import.meta.url)).resolve('pg'));
  const pool = { provide: 'POOL', useFactory: () => new pg.Pool({ connectionString }) };
  const module = { module: AppModule, providers: [pool], exports: ['POOL'] };
  const application = await NestFactory.createApplicationContext(module, { logger: false });
  await application.get('POOL').query('SELECT 1');
});
