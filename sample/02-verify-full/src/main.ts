/*
 * Verified TLS on both sides, and certificates that change while the application runs.
 *
 * Run it with `npm start --workspace sample/02-verify-full` (after `npm run build` in the root): it brings a server that
 * takes nobody without a certificate, and an authority that issues them. Against a server of yours:
 *
 *   DATABASE_URL=postgresql://app@db.example/orders CERTIFICATES=/etc/pg npm start --workspace sample/02-verify-full
 *
 * where CERTIFICATES is a folder with ca.crt, tls.crt and tls.key, as a Kubernetes secret of the type `tls` is mounted.
 * All that an application needs of this is the `ssl` object in app.module.ts.
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

console.log(`
  Open ${url}/ or try

    curl ${url}/                  # what is sent over which TLS, and with whose certificate
    curl ${url}/settings          # every setting, and where it comes from
    curl -X POST ${url}/rotate    # new certificates for both sides; then look again
    curl -X POST ${url}/impostor  # somebody else answers in the server's place: refused

  Ctrl-C stops it.
`);
