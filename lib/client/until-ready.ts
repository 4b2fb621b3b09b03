/** What is asked of a client whose readiness is awaited. */
export interface Awaited {
  readonly isReady: boolean;
  readonly isClosed: boolean;
  once(event: 'drain' | 'end', listener: () => void): unknown;
  off(event: 'drain' | 'end', listener: () => void): unknown;
}

/** Resolves when the client is ready or closed, or the signal fires: look which. */
export function untilReady(client: Awaited, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      client.off('drain', done);
      client.off('end', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    if (client.isReady || client.isClosed || signal.aborted) {
      resolve();
      return;
    }
    client.once('drain', done);
    client.once('end', done);
    signal.addEventListener('abort', done, { once: true });
  });
}
