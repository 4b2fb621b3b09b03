import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { AppModule } from './app.module.js';
import { listen } from './listen.js';

// Bodies go to COPY as they arrive, so nobody may read them before.
const app = await NestFactory.create<NestExpressApplication>(AppModule, { bodyParser: false });

// Ctrl-C and SIGTERM: requests in flight are answered, then the pool drains, then the process ends.
app.enableShutdownHooks(['SIGINT', 'SIGTERM'], { useProcessExit: true });

const url = await listen(app, process.env.PORT);

console.log(`
  Open ${url}/ in a browser, or try

    printf 'name,country,population\\nOslo,NO,717710\\n' > cities.csv
    curl ${url}/imports/first --data-binary @cities.csv -H 'content-type: text/csv'
    curl ${url}/cities.csv
    printf 'name,country,population\\nOslo,NO,717710\\nBergen,NO,many\\n' > bad.csv
    curl ${url}/imports/second --data-binary @bad.csv -H 'content-type: text/csv'   # 400 with the line; nothing stored
    curl -N ${url}/imports/third/progress   # in another terminal: events of that import

  Ctrl-C stops it.
`);
