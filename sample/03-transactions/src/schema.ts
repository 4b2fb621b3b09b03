import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { PG_POOL, PgPool } from 'nestjs-pg';

/** The role that every request takes on: row-level security does not hold for superusers and owners. */
export const TENANT_ROLE = 'shop_tenant';
/** The setting that says whose rows a request may see. */
export const TENANT_SETTING = 'shop.tenant';

const SCHEMA = `
  do $$ begin create role ${TENANT_ROLE} nologin; exception when duplicate_object then null; end $$;

  create table if not exists stock (
    tenant text not null default current_setting('${TENANT_SETTING}'),
    item text not null,
    count integer not null constraint stock_not_negative check (count >= 0),
    primary key (tenant, item)
  );
  create table if not exists purchase (
    id integer generated always as identity primary key,
    tenant text not null default current_setting('${TENANT_SETTING}'),
    item text not null,
    count integer not null constraint purchase_not_empty check (count > 0)
  );
  insert into stock values ('blue', 'tea', 10), ('green', 'tea', 10) on conflict do nothing;

  alter table stock enable row level security;
  alter table purchase enable row level security;
  drop policy if exists own on stock;
  drop policy if exists own on purchase;
  create policy own on stock using (tenant = current_setting('${TENANT_SETTING}'));
  create policy own on purchase using (tenant = current_setting('${TENANT_SETTING}'));
  grant select, insert, update on stock, purchase to ${TENANT_ROLE};
`;

/** A service of some age has migrations instead. */
@Injectable()
export class Schema implements OnModuleInit {
  constructor(@Inject(PG_POOL) private readonly pool: PgPool) {}

  async onModuleInit(): Promise<void> {
    await this.pool.query(SCHEMA);
  }
}
