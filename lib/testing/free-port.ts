import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { failure } from './failure.js';

/** Below the ranges from which Linux (32768) and macOS (49152) take the ports of outgoing connections. */
const LOWEST = 15_000;
const HIGHEST = 32_000;
const TRIES = 50;

/**
 * A port that nobody listens on at any of `hosts`. It is taken at random from below the range of outgoing connections,
 * so that it can be listened on again after a restart, and so that parallel callers do not agree on one.
 */
export async function freePort(hosts: readonly string[] = ['127.0.0.1']): Promise<number> {
  for (let i = 0; i < TRIES; i++) {
    const port = randomInt(LOWEST, HIGHEST);
    const free = await Promise.all(hosts.map((host) => isFree(port, host)));
    if (free.every(Boolean)) return port;
  }
  throw failure(`No free port found in ${TRIES} tries between ${LOWEST} and ${HIGHEST} on ${hosts.join(', ')}.`);
}

function isFree(port: number, host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen({ port, host: host === '*' ? undefined : host, exclusive: true }, () => {
      probe.close(() => resolve(true));
    });
  });
}
