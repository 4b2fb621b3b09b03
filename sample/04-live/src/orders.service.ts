import { Inject, Injectable, NotFoundException, type OnModuleInit } from '@nestjs/common';
import { PG_POOL, PgNotifications, PgPool } from 'nestjs-pg';
import { concatMap, type Observable } from 'rxjs';
import type { BoardEvent, Order } from './order.js';

const COLUMNS = 'id, dish, table_number as "table", status';

@Injectable()
export class OrdersService implements OnModuleInit {
  constructor(
    @Inject(PG_POOL) private readonly pool: PgPool,
    private readonly notifications: PgNotifications,
  ) {}

  /** The trigger tells of every change, whoever makes it: this application, another instance of it, or somebody in psql. */
  async onModuleInit(): Promise<void> {
    await this.pool.query(`
      create table if not exists dish_order (
        id integer generated always as identity primary key,
        dish text not null check (length(trim(dish)) between 1 and 60),
        table_number integer not null check (table_number between 1 and 99),
        status text not null default 'new' check (status in ('new', 'cooking', 'ready', 'served'))
      );
      create or replace function tell_of_order() returns trigger language plpgsql as $$
        begin
          perform pg_notify('orders', json_build_object(
            'id', new.id, 'dish', new.dish, 'table', new.table_number, 'status', new.status)::text);
          return null;
        end $$;
      create or replace trigger dish_order_is_told after insert or update on dish_order
        for each row execute function tell_of_order()`);
  }

  /**
   * What an open page is told, for as long as it is open. All orders are read when LISTEN is in force, so none falls between
   * the reading and the listening; and again after a gap, in which notifications were lost.
   */
  events(): Observable<BoardEvent> {
    return this.notifications.listen('orders').pipe(
      // One after the other: what arrives during a reading waits for it.
      concatMap(async (event): Promise<BoardEvent> => {
        if (event.kind === 'notification') return { type: 'order', data: JSON.parse(event.payload) as Order };
        return { type: 'board', data: { orders: await this.list(), isGap: event.kind === 'gap' } };
      }),
    );
  }

  async list(): Promise<Order[]> {
    const { rows } = await this.pool.query<Order>(
      `select ${COLUMNS} from dish_order where status <> 'served' order by id`,
    );
    return rows;
  }

  async add(dish: string, table: number): Promise<Order> {
    const text = `insert into dish_order (dish, table_number) values ($1, $2) returning ${COLUMNS}`;
    const { rows } = await this.pool.query<Order>(text, [dish, table]);
    return rows[0]!;
  }

  /** To the status after the one that it has: pressing twice is no harm. */
  async advance(id: number, from: string): Promise<void> {
    const { rowCount } = await this.pool.query(
      `update dish_order set status = case status when 'new' then 'cooking' when 'cooking' then 'ready' else 'served' end
       where id = $1 and status = $2`,
      [id, from],
    );
    if (rowCount === 0) throw new NotFoundException(`There is no order ${id} that is ${from}.`);
  }
}
