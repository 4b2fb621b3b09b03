import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { copyFrom, copyTo, PG_POOL, PgPool } from 'nestjs-pg';
import type { Readable } from 'node:stream';
import { Observable, ReplaySubject } from 'rxjs';
import type { ImportProgress } from './import-progress.js';

const TABLE = { table: 'city', columns: ['name', 'country', 'population'] } as const;

@Injectable()
export class ImportsService implements OnModuleInit {
  /** Imports that are running or watched, by the id that the client has chosen. */
  private readonly progress = new Map<string, ReplaySubject<ImportProgress>>();

  constructor(@Inject(PG_POOL) private readonly pool: PgPool) {}

  /** A service of some age has migrations instead. */
  async onModuleInit(): Promise<void> {
    await this.pool.query(`
      create table if not exists city (
        name text not null,
        country char(2) not null,
        population integer not null check (population >= 0)
      )`);
  }

  /** Stores all lines or none. No more of them are in memory than the server has yet to take. */
  async run(id: string, csv: AsyncIterable<Buffer>, signal: AbortSignal): Promise<{ rows: number }> {
    const progress = this.progressOf(id);
    try {
      const { rows } = await copyFrom(
        this.pool,
        { ...TABLE, format: 'csv', header: 'match', signal, onProgress: ({ bytes }) => progress.next({ bytes }) },
        csv,
      );
      progress.next({ bytes: 0, rows });
      return { rows };
    } finally {
      // Errors are the answer's to tell.
      progress.complete();
      this.progress.delete(id);
    }
  }

  /** How far an import has come, from when it begins to its end. */
  watch(id: string): Observable<ImportProgress> {
    return this.progressOf(id);
  }

  async count(): Promise<number> {
    const { rows } = await this.pool.query<{ count: number }>('select count(*)::int as count from city');
    return rows[0]!.count;
  }

  export(): Readable {
    return copyTo(this.pool, { ...TABLE, format: 'csv', header: true });
  }

  private progressOf(id: string): ReplaySubject<ImportProgress> {
    let progress = this.progress.get(id);
    if (!progress) {
      progress = new ReplaySubject(1);
      this.progress.set(id, progress);
    }
    return progress;
  }
}
