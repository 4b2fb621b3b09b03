import { Injectable, Logger } from '@nestjs/common';
import { OnNotification, type PgNotification } from 'nestjs-pg';
import type { Order } from './order.js';

/** Notifications are not only for pages: a method of any provider can be called with them. */
@Injectable()
export class OrdersLog {
  readonly #logger = new Logger('Orders');

  @OnNotification('orders')
  onOrder({ payload }: PgNotification): void {
    const { dish, table, status } = JSON.parse(payload) as Order;
    this.#logger.log(`${dish} for table ${table} is ${status}`);
  }
}
