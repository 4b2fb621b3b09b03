import 'reflect-metadata';
import { Injectable } from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor, Type } from '@nestjs/common';
import type { Observable } from 'rxjs';
import { configError } from './config/config-error.js';
import { kindOf } from './config/unknown-option.js';
import { InjectPool } from './pg.decorators.js';
import { PgPool } from './pg.pool.js';
import { observed, propagationOf, type TransactionalOptions } from './pg.transaction-work.js';
import type { TransactionOptions } from './transaction/transaction-options.js';

/** Nest's, on the handler of an `@Sse()` route. */
const SSE_METADATA = '__sse__';

export interface TransactionInterceptorOptions extends TransactionalOptions {
  /** What differs by request, added to the other options: a tenant's settings, a role. */
  perRequest?: (context: ExecutionContext) => TransactionOptions;
}

/**
 * An interceptor that runs a route, or each route of a controller, in a transaction: the handler, with the interceptors
 * and pipes behind this one. The response is sent after the COMMIT; an error reaches the exception filters as it is.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID`
 */
export function transactionInterceptor(options: TransactionInterceptorOptions = {}): Type<NestInterceptor> {
  const { perRequest, ...fixed } = options;
  if (perRequest !== undefined && typeof perRequest !== 'function') {
    throw configError(`transactionInterceptor(): perRequest must be a function; it is ${kindOf(perRequest)}.`);
  }
  const usual = propagationOf(fixed, 'transactionInterceptor()');

  @Injectable()
  class Interceptor implements NestInterceptor {
    @InjectPool(fixed.pool) readonly pool!: PgPool;

    intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
      const handler = context.getHandler();
      const what = `${context.getClass().name}.${handler.name}()`;
      if (Reflect.hasMetadata(SSE_METADATA, handler)) {
        throw configError(
          `${what} sends events for as long as its client listens, and no transaction should be open for so long: leave ` +
            'the interceptor out, and begin transactions in what makes the events.',
        );
      }
      const propagation = perRequest ? propagationOf({ ...fixed, ...perRequest(context) }, what) : usual;
      return observed(
        () => this.pool,
        { propagation, what },
        () => next.handle(),
      );
    }
  }

  return Interceptor;
}

/** {@link transactionInterceptor} with the default options: `@UseInterceptors(TransactionInterceptor)`. */
export class TransactionInterceptor extends transactionInterceptor() {}
