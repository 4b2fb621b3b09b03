import { Inject, Injectable, NotFoundException } from '@nestjs/common';
import { PG_POOL, PgPool, Transactional } from 'nestjs-pg';

export interface Stock {
  readonly item: string;
  readonly count: number;
}

@Injectable()
export class StockService {
  constructor(@Inject(PG_POOL) private readonly pool: PgPool) {}

  async list(): Promise<Stock[]> {
    return (await this.pool.query<Stock>('select item, count from stock order by item')).rows;
  }

  /** Only as a part of something that is done whole, or not at all: without a transaction it does not run. */
  @Transactional({ propagation: 'Mandatory' })
  async take(item: string, count: number): Promise<void> {
    const { rowCount } = await this.pool.query('update stock set count = count - $2 where item = $1', [item, count]);
    if (rowCount === 0) throw new NotFoundException(`There is no ${item}.`);
  }
}
