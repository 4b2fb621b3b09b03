import { Inject, Injectable, NotFoundException, type OnModuleInit } from '@nestjs/common';
import { PG_POOL, PgPool } from 'nestjs-pg';
import type { Task } from './task.js';

const COLUMNS = 'id, title, created_at as "createdAt"';

@Injectable()
export class TasksService implements OnModuleInit {
  constructor(@Inject(PG_POOL) private readonly pool: PgPool) {}

  /** A service of some age has migrations instead. */
  async onModuleInit(): Promise<void> {
    await this.pool.query(`
      create table if not exists task (
        id integer generated always as identity primary key,
        title text not null constraint task_title_unique unique
                            constraint task_title_length check (length(trim(title)) between 1 and 80),
        created_at timestamptz not null default now()
      )`);
  }

  async list(): Promise<Task[]> {
    const { rows } = await this.pool.query<Task>(`select ${COLUMNS} from task order by id`);
    return rows;
  }

  /** The table decides which titles are good; {@link ConstraintFilter} turns its refusal into a 4xx. */
  async add(title: string): Promise<Task> {
    const { rows } = await this.pool.query<Task>(`insert into task (title) values ($1) returning ${COLUMNS}`, [title]);
    return rows[0]!;
  }

  async remove(id: number): Promise<void> {
    const { rowCount } = await this.pool.query('delete from task where id = $1', [id]);
    if (rowCount === 0) throw new NotFoundException(`There is no task ${id}.`);
  }

  /** A query that takes its time, for trying what a shutdown does to it. */
  async sleep(millis: number): Promise<void> {
    await this.pool.query('select pg_sleep($1::float8 / 1000)', [millis]);
  }
}
