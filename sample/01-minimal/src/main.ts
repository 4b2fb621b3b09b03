import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { AppModule } from './app.module.js';
import { listen } from './listen.js';

const app = await NestFactory.create<NestExpressApplication>(AppModule);

// Ctrl-C and SIGTERM: requests in flight are answered, then the pool drains, then the process ends.
app.enableShutdownHooks(['SIGINT', 'SIGTERM'], { useProcessExit: true });

const url = await listen(app, process.env.PORT);

console.log(`
  Open ${url}/ in a browser, or try

    curl ${url}/tasks
    curl ${url}/tasks -H 'content-type: application/json' -d '{"title":"Water the plants"}'
    curl ${url}/tasks -H 'content-type: application/json' -d '{"title":"Water the plants"}'   # again: 409
    curl ${url}/tasks -H 'content-type: application/json' -d '{"title":""}'                   # 400
    curl -X DELETE ${url}/tasks/1
    curl '${url}/slow?ms=3000'   # press Ctrl-C meanwhile: it is still answered

  Ctrl-C stops it.
`);
