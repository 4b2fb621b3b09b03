import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { connectionString, tell } from './ready.mjs';

class AppModule {}

tell(async () => {
  const typeOrm = TypeOrmModule.forRoot({ type: 'postgres', url: connectionString, installExtensions: false });
  const application = await NestFactory.createApplicationContext(
    { module: AppModule, imports: [typeOrm] },
    { logger: false },
  );
  await application.get(DataSource, { strict: false }).query('SELECT 1');
});
