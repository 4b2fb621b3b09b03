import 'reflect-metadata';
import { Inject, Injectable, Module, type DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { PG_POOL, PgModule, PgPool, type PoolOptions } from 'nestjs-pg';
import type { QuerySubject, Row } from './subject.js';

@Injectable()
class Statements {
  constructor(@Inject(PG_POOL) private readonly pool: PgPool) {}

  async run(text: string, values: readonly unknown[]): Promise<readonly Row[]> {
    return (await this.pool.query<Row>(text, values as unknown[])).rows;
  }
}

@Module({})
class StatementsModule {
  static over(connectionString: string, pool: PoolOptions): DynamicModule {
    return {
      module: StatementsModule,
      imports: [PgModule.forRoot({ connectionString, pool })],
      providers: [Statements],
    };
  }
}

/** As an application has it: injected. */
export function injected(options: PoolOptions = {}): QuerySubject {
  return {
    open: async (connectionString, connections) => {
      const module = StatementsModule.over(connectionString, { max: connections, ...options });
      const application = await NestFactory.createApplicationContext(module, { logger: false });
      const statements = application.get(Statements);
      return { run: (text, values) => statements.run(text, values), close: () => application.close() };
    },
  };
}
