import { BadRequestException, Body, Controller, Get, Post, UseFilters, UseInterceptors } from '@nestjs/common';
import { ConstraintFilter } from './constraint.filter.js';
import { MailService } from './mail.service.js';
import { OrdersService, type Order } from './orders.service.js';
import { StockService, type Stock } from './stock.service.js';
import { TenantInterceptor } from './tenant.interceptor.js';

@Controller()
@UseInterceptors(TenantInterceptor)
@UseFilters(ConstraintFilter)
export class ShopController {
  constructor(
    private readonly orders: OrdersService,
    private readonly stock: StockService,
    private readonly mails: MailService,
  ) {}

  @Post('orders')
  async place(@Body() { item, count }: { item?: unknown; count?: unknown }): Promise<Order> {
    if (typeof item !== 'string' || !Number.isInteger(count)) {
      throw new BadRequestException('Send an order: {"item":"tea","count":2}');
    }
    return this.orders.place(item, count as number);
  }

  @Get('orders')
  list(): Promise<Order[]> {
    return this.orders.list();
  }

  @Get('stock')
  inStock(): Promise<Stock[]> {
    return this.stock.list();
  }

  @Get('mails')
  sent(): string[] {
    return this.mails.sent;
  }
}
