import {
  BadRequestException,
  Body,
  Controller,
  Get,
  Header,
  HttpCode,
  Param,
  ParseIntPipe,
  Post,
  Sse,
} from '@nestjs/common';
import type { Observable } from 'rxjs';
import { type BoardEvent, type Order, STATUSES } from './order.js';
import { boardPage } from './orders.page.js';
import { OrdersService } from './orders.service.js';

@Controller()
export class OrdersController {
  constructor(private readonly orders: OrdersService) {}

  @Get()
  @Header('content-type', 'text/html; charset=utf-8')
  page(): string {
    return boardPage;
  }

  @Sse('events')
  events(): Observable<BoardEvent> {
    return this.orders.events();
  }

  @Get('orders')
  list(): Promise<Order[]> {
    return this.orders.list();
  }

  @Post('orders')
  add(@Body('dish') dish: unknown, @Body('table') table: unknown): Promise<Order> {
    const isDish = typeof dish === 'string' && dish.trim() !== '' && dish.length <= 60;
    const isTable = Number.isInteger(table) && Number(table) >= 1 && Number(table) <= 99;
    if (!isDish || !isTable) throw new BadRequestException('Send a dish and a table from 1 to 99.');
    return this.orders.add(dish.trim(), Number(table));
  }

  @Post('orders/:id/advance')
  @HttpCode(204)
  async advance(@Param('id', ParseIntPipe) id: number, @Body('from') from: unknown): Promise<void> {
    const status = STATUSES.find((one) => one === from);
    if (!status) throw new BadRequestException('Send the status that the order has.');
    await this.orders.advance(id, status);
  }
}
