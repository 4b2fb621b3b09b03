import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const PROXY = fileURLToPath(new URL('../../../programs/delay-proxy.mjs', import.meta.url));
const DELAY_MILLIS = 1;

/** Puts a proxy of its own process before the server, for the time of the work. */
export async function withDelay<T>(
  connectionString: string,
  work: (connectionString: string) => Promise<T>,
): Promise<T> {
  const url = new URL(connectionString);
  const proxy = fork(PROXY, [url.hostname, url.port || '5432', String(DELAY_MILLIS)], { execArgv: [] });
  try {
    const [port] = (await once(proxy, 'message')) as [number];
    url.hostname = '127.0.0.1';
    url.port = String(port);
    return await work(url.href);
  } finally {
    if (proxy.exitCode === null) {
      const gone = once(proxy, 'exit');
      proxy.kill();
      await gone;
    }
  }
}
