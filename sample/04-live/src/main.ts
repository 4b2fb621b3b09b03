import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { AppModule } from './app.module.js';
import { listen } from './listen.js';

const app = await NestFactory.create<NestExpressApplication>(AppModule);

// Ctrl-C and SIGTERM: the open pages' streams end, requests in flight are answered, then the process ends.
app.enableShutdownHooks(['SIGINT', 'SIGTERM'], { useProcessExit: true });

const url = await listen(app, process.env.PORT);

console.log(`
  Open ${url}/ in two windows, or try

    curl -N ${url}/events    # what the pages are told; leave it open, and meanwhile
    curl ${url}/orders -H 'content-type: application/json' -d '{"dish":"Mushroom risotto","table":4}'
    curl ${url}/orders/1/advance -H 'content-type: application/json' -d '{"from":"new"}'

  Ctrl-C stops it.
`);
