import type { AddressInfo } from 'node:net';
import type { NestExpressApplication } from '@nestjs/platform-express';

const DEFAULT_PORT = 3000;

/**
 * Listens on `port`, or on 3000, or on a free one where 3000 is taken: only a port that was asked for is worth failing.
 *
 * @returns the address to open
 */
export async function listen(app: NestExpressApplication, port: string | undefined): Promise<string> {
  try {
    await app.listen(port ?? DEFAULT_PORT);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    if (port !== undefined) {
      await app.close();
      console.error(`Port ${port} is taken. Choose another: PORT=3001 npm start`);
      process.exit(1);
    }
    console.warn(`Port ${DEFAULT_PORT} is taken; using a free one.`);
    await app.listen(0);
  }
  const { port: actual } = app.getHttpServer().address() as AddressInfo;
  return `http://localhost:${actual}`;
}
