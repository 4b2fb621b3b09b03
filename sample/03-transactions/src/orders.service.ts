import { Inject, Injectable } from '@nestjs/common';
import { afterCommit, PG_POOL, PgPool, Transactional } from 'nestjs-pg';
import { MailService } from './mail.service.js';
import { StockService } from './stock.service.js';

export interface Order {
  readonly id: number;
  readonly item: string;
  readonly count: number;
}

@Injectable()
export class OrdersService {
  constructor(
    @Inject(PG_POOL) private readonly pool: PgPool,
    private readonly stock: StockService,
    private readonly mails: MailService,
  ) {}

  async list(): Promise<Order[]> {
    return (await this.pool.query<Order>('select id, item, count from purchase order by id')).rows;
  }

  /** The order and what it takes from the stock, or neither; the mail when both are certain. */
  @Transactional()
  async place(item: string, count: number): Promise<Order> {
    const { rows } = await this.pool.query<Order>(
      'insert into purchase (item, count) values ($1, $2) returning id, item, count',
      [item, count],
    );
    const order = rows[0]!;
    await this.stock.take(item, count);
    afterCommit(() => this.mails.send(`Your order ${order.id}: ${count} x ${item}`));
    return order;
  }
}
