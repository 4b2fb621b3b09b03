import 'reflect-metadata';
import { Readable } from 'node:stream';
import type { AddressInfo } from 'node:net';
import {
  type ArgumentsHost,
  BadRequestException,
  Body,
  Catch,
  Controller,
  type ExceptionFilter,
  Get,
  Inject,
  Injectable,
  Param,
  Post,
  Query,
  Sse,
  StreamableFile,
  UnauthorizedException,
  UseFilters,
  UseGuards,
  UseInterceptors,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type INestApplication,
  type NestInterceptor,
  type PipeTransform,
} from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { DatabaseError } from 'pg';
import QueryStream from 'pg-query-stream';
import { defer, map, Observable, of } from 'rxjs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { PG_POOL, PgModule, PgPool, Transactional, TransactionInterceptor, transactionInterceptor } from 'nestjs-pg';
import { adminQuery, useServer } from '../support/postgres.js';
import { RecordedLog } from './support/test-app.js';

const server = useServer();

/** In whose hands a request was, and whether that was inside of a transaction. */
const seen: [string, boolean][] = [];

abstract class Witness {
  @Inject(PG_POOL) protected readonly pool!: PgPool;

  protected note(who: string): void {
    seen.push([who, this.pool.currentTransaction !== undefined]);
  }
}

@Injectable()
class Guard extends Witness implements CanActivate {
  canActivate(): boolean {
    this.note('guard');
    return true;
  }
}

@Injectable()
class Before extends Witness implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    this.note('interceptor before');
    return next.handle();
  }
}

@Injectable()
class Behind extends Witness implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    this.note('interceptor behind');
    return next.handle();
  }
}

@Injectable()
class Pipe extends Witness implements PipeTransform {
  transform(value: unknown): unknown {
    this.note('pipe');
    return value;
  }
}

/** Puts what it was given into the answer. */
@Catch(DatabaseError)
class DatabaseFilter implements ExceptionFilter {
  catch(error: DatabaseError, host: ArgumentsHost): void {
    const response = host.switchToHttp().getResponse<{ status(code: number): { json(body: unknown): void } }>();
    response.status(409).json({ code: error.code, isDatabaseError: error instanceof DatabaseError });
  }
}

@Injectable()
class Service {
  constructor(@Inject(PG_POOL) readonly pool: PgPool) {}

  async add(name: string): Promise<string> {
    await this.pool.query('INSERT INTO entry (name) VALUES ($1)', [name]);
    return name;
  }

  /** The backend and the transaction, asked for in two statements. */
  async where(): Promise<string> {
    const text = 'SELECT pg_backend_pid() AS pid, pg_current_xact_id()::text AS xid';
    const [first, second] = [(await this.pool.query(text)).rows, (await this.pool.query(text)).rows];
    if (JSON.stringify(first) !== JSON.stringify(second)) throw new Error('two statements, two transactions');
    return JSON.stringify(first[0]);
  }
}

@Controller('all')
@UseGuards(Guard)
@UseFilters(DatabaseFilter)
@UseInterceptors(Before, TransactionInterceptor, Behind)
class AllController extends Witness {
  constructor(readonly service: Service) {
    super();
  }

  @Post()
  async add(@Body('name', Pipe) name: string): Promise<{ name: string }> {
    this.note('handler');
    return { name: await this.service.add(name) };
  }

  @Post('observable')
  add$(@Body('name') name: string): Observable<{ name: string }> {
    return defer(() => this.service.add(name)).pipe(map((added) => ({ name: added })));
  }

  @Post('failing')
  async failing(@Body('name') name: string): Promise<void> {
    await this.service.add(name);
    throw new BadRequestException('not like this');
  }

  @Post('deferred')
  async deferred(@Body('name') name: string): Promise<{ name: string }> {
    await this.pool.query('INSERT INTO deferred (name) VALUES ($1), ($1)', [name]);
    return { name };
  }

  @Get('stream')
  stream(): StreamableFile {
    const rows = this.pool.query(new QueryStream('SELECT n::text FROM generate_series(1, 10000) AS n'));
    const text = (row: { n: string }): string => row.n;
    return new StreamableFile(Readable.from(rows).map(text));
  }

  @Sse('events')
  events(): Observable<{ data: string }> {
    return of({ data: 'one' });
  }
}

@Controller('tenant')
@UseInterceptors(
  transactionInterceptor({
    readOnly: true,
    perRequest: (context) => {
      const { tenant } = context.switchToHttp().getRequest<{ headers: Record<string, string> }>().headers;
      if (tenant === undefined) throw new UnauthorizedException();
      return { settings: { 'app.tenant': tenant } };
    },
  }),
)
class TenantController {
  constructor(@Inject(PG_POOL) readonly pool: PgPool) {}

  @Get()
  async settings(): Promise<unknown> {
    const text = `SELECT current_setting('app.tenant') AS tenant, current_setting('transaction_read_only') AS "readOnly"`;
    return (await this.pool.query(text)).rows[0];
  }
}

@Controller('decorated')
class DecoratedController extends Witness {
  constructor(readonly service: Service) {
    super();
  }

  @Transactional()
  @Post(':name')
  @UseGuards(Guard)
  async below(@Param('name', Pipe) name: string, @Query('fail') fail?: string): Promise<{ name: string }> {
    this.note('handler');
    await this.service.add(name);
    if (fail !== undefined) throw new BadRequestException();
    return { name };
  }

  @Get('where')
  @UseInterceptors(Behind)
  @Transactional()
  async where(): Promise<{ where: string }> {
    const first = await this.service.where();
    const second = await this.service.where();
    return { where: first === second ? first : 'two' };
  }
}

const entries = async (): Promise<unknown[]> =>
  (await adminQuery(server(), 'SELECT name FROM entry ORDER BY id')).map(({ name }) => name);

describe('over HTTP', () => {
  const log = new RecordedLog();
  let app: INestApplication;
  let url: string;
  let pool: PgPool;

  const post = (path: string, body: unknown): Promise<Response> =>
    fetch(url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });

  beforeAll(async () => {
    await adminQuery(server(), 'CREATE TABLE entry (id serial PRIMARY KEY, name text NOT NULL UNIQUE)');
    await adminQuery(server(), 'CREATE TABLE deferred (name text UNIQUE DEFERRABLE INITIALLY DEFERRED)');
    const { connectionString } = server();
    const module = await Test.createTestingModule({
      imports: [PgModule.forRoot({ connectionString, pool: { max: 8 } })],
      controllers: [AllController, TenantController, DecoratedController],
      providers: [Service],
    })
      .setLogger(log)
      .compile();
    app = module.createNestApplication();
    await app.listen(0, '127.0.0.1');
    url = `http://127.0.0.1:${(app.getHttpServer().address() as AddressInfo).port}/`;
    pool = app.get(PG_POOL);
  });

  afterAll(async () => {
    await app?.close();
  });

  beforeEach(async () => {
    seen.length = 0;
    await adminQuery(server(), 'TRUNCATE entry');
  });

  describe('TransactionInterceptor', () => {
    it('has the handler, and what is behind the interceptor, in the transaction', async () => {
      const response = await post('all', { name: 'one' });
      expect([response.status, await response.json()]).toEqual([201, { name: 'one' }]);
      expect(await entries()).toEqual(['one']);
      expect(seen).toEqual([
        ['guard', false],
        ['interceptor before', false],
        ['interceptor behind', true],
        ['pipe', true],
        ['handler', true],
      ]);
    });

    it('takes a handler that returns an Observable', async () => {
      expect(await (await post('all/observable', { name: 'one' })).json()).toEqual({ name: 'one' });
      expect((await post('all/observable', { name: 'one' })).status).toBe(409);
      expect(await entries()).toEqual(['one']);
    });

    it('rolls back on an error, which the filters see as it was', async () => {
      const response = await post('all/failing', { name: 'one' });
      expect([response.status, await response.json()]).toMatchObject([400, { message: 'not like this' }]);
      expect(await entries()).toEqual([]);
      await post('all', { name: 'same' });
      const conflict = await post('all', { name: 'same' });
      expect([conflict.status, await conflict.json()]).toEqual([409, { code: '23505', isDatabaseError: true }]);
    });

    it('answers after the COMMIT: one that fails is no success', async () => {
      const response = await post('all/deferred', { name: 'same' });
      expect([response.status, await response.json()]).toEqual([409, { code: '23505', isDatabaseError: true }]);
    });

    it('does not send a stream that still reads in the transaction', async () => {
      const response = await fetch(`${url}all/stream`);
      expect([response.status, await response.json()]).toMatchObject([500, { statusCode: 500 }]);
      expect(log.text).toContain(
        'the transaction\'s function returned while 1 of its statements had not ended: "a stream"',
      );
      await expect.poll(() => pool.stats().leased).toBe(0);
    });

    it('refuses a route of server-sent events', async () => {
      const response = await fetch(`${url}all/events`);
      expect(await response.text()).not.toContain('one');
      expect(pool.stats().leased).toBe(0);
    });

    it('has options, also by request, and refuses what the function of them refuses', async () => {
      const get = (tenant?: string): Promise<Response> =>
        fetch(`${url}tenant`, tenant === undefined ? {} : { headers: { tenant } });
      expect(await (await get('blue')).json()).toEqual({ tenant: 'blue', readOnly: 'on' });
      expect(await (await get('green')).json()).toEqual({ tenant: 'green', readOnly: 'on' });
      expect((await get()).status).toBe(401);
    });
  });

  describe('@Transactional() on a route', () => {
    it('leaves route, guard, pipe and parameters as they are, and is around the handler alone', async () => {
      const response = await post('decorated/one', {});
      expect([response.status, await response.json()]).toEqual([201, { name: 'one' }]);
      expect(seen).toEqual([
        ['guard', false],
        ['pipe', false],
        ['handler', true],
      ]);
      expect((await post('decorated/two?fail', {})).status).toBe(400);
      expect(await entries()).toEqual(['one']);
    });

    it('gives each of many requests at once a transaction of its own', async () => {
      const wheres = await Promise.all(
        Array.from({ length: 200 }, async () => {
          const response = await fetch(`${url}decorated/where`);
          return ((await response.json()) as { where: string }).where;
        }),
      );
      expect(new Set(wheres).size).toBe(200);
    });
  });
});
