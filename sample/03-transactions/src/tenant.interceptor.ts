import { BadRequestException, type ExecutionContext } from '@nestjs/common';
import { transactionInterceptor } from 'nestjs-pg';
import { TENANT_ROLE, TENANT_SETTING } from './schema.js';

/**
 * Each request is a transaction of its tenant's: the role and the setting are there for that transaction alone, so no
 * connection can carry them into the request of another.
 */
export const TenantInterceptor = transactionInterceptor({
  role: TENANT_ROLE,
  perRequest: (context) => ({ settings: { [TENANT_SETTING]: tenantOf(context) } }),
});

/** A service of some age asks its guard who this is. */
function tenantOf(context: ExecutionContext): string {
  const { tenant } = context.switchToHttp().getRequest<{ headers: { tenant?: string } }>().headers;
  if (!tenant) throw new BadRequestException('Say who you are: -H "tenant: blue"');
  return tenant;
}
