// An HTTP application as one is deployed: closed by SIGTERM.
import 'reflect-metadata';
import { Controller, Get, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { InjectPool, PgModule, type PgPool } from 'nestjs-pg';

@Controller()
class SlowController {
  constructor(@InjectPool() readonly pool: PgPool) {}

  @Get()
  async slow(): Promise<unknown> {
    await this.pool.query(process.env['SLOW_QUERY'] ?? '');
    return (await this.pool.query('SELECT 2 AS two')).rows;
  }
}

@Module({
  imports: [PgModule.forRoot({ connectionString: process.env['DATABASE_URL'] })],
  controllers: [SlowController],
})
class AppModule {}

const app = await NestFactory.create(AppModule, { logger: ['warn', 'error'] });
app.enableShutdownHooks();
await app.listen(0, '127.0.0.1');
console.log(`at ${await app.getUrl()}`);
