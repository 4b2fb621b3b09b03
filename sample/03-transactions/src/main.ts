/*
 * Transactions: two services whose work is done whole or not at all, tenants that are kept apart by the database, and a
 * mail that is sent only when it is true.
 *
 * Run it with `npm start --workspace sample/03-transactions` (after `npm run build` in the root): it brings its own
 * server. With DATABASE_URL it uses that one, as a user who may create a role.
 */
import type { AddressInfo } from 'node:net';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { AppModule } from './app.module.js';

const app = await NestFactory.create<NestExpressApplication>(AppModule);
app.enableShutdownHooks(['SIGINT', 'SIGTERM'], { useProcessExit: true });
await app.listen(process.env.PORT ?? 3000).catch(async (error: unknown) => {
  await app.close();
  throw error;
});
const { port } = app.getHttpServer().address() as AddressInfo;
const url = `http://localhost:${port}`;
const json = `-H 'content-type: application/json'`;

console.log(`
  Try ${url}/ from another terminal:

    curl ${url}/stock -H 'tenant: blue'
    curl ${url}/orders -H 'tenant: blue' ${json} -d '{"item":"tea","count":4}'
    curl ${url}/orders -H 'tenant: blue' ${json} -d '{"item":"tea","count":40}'   # 409, and no order
    curl ${url}/orders -H 'tenant: blue'
    curl ${url}/orders -H 'tenant: green'   # none of blue's
    curl ${url}/mails -H 'tenant: blue'     # one

  Ctrl-C stops it.
`);
