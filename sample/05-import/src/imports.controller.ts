import { Controller, Get, Header, HttpCode, Param, Post, Req, Sse, StreamableFile } from '@nestjs/common';
import type { Request } from 'express';
import { map, type Observable } from 'rxjs';
import type { ImportProgress } from './import-progress.js';
import { ImportsService } from './imports.service.js';
import { importsPage } from './imports.page.js';

@Controller()
export class ImportsController {
  constructor(private readonly imports: ImportsService) {}

  @Get()
  @Header('content-type', 'text/html; charset=utf-8')
  async page(): Promise<string> {
    return importsPage(await this.imports.count());
  }

  /** The body is the file, as `curl --data-binary @file` and `fetch(url, { body: file })` send it. */
  @Post('imports/:id')
  @HttpCode(201)
  async run(@Param('id') id: string, @Req() request: Request): Promise<{ rows: number }> {
    const aborted = new AbortController();
    request.once('close', () => {
      if (!request.complete) aborted.abort(new Error('The client has hung up.'));
    });
    try {
      // The request outlives a COPY that ends early: it is answered on the same connection.
      return await this.imports.run(id, request.iterator({ destroyOnReturn: false }), aborted.signal);
    } catch (error) {
      // Most clients listen to no answer before they have sent everything.
      request.resume();
      throw error;
    }
  }

  @Sse('imports/:id/progress')
  progress(@Param('id') id: string): Observable<{ data: ImportProgress }> {
    return this.imports.watch(id).pipe(map((data) => ({ data })));
  }

  @Get('cities.csv')
  export(): StreamableFile {
    return new StreamableFile(this.imports.export(), { type: 'text/csv; charset=utf-8' });
  }
}
