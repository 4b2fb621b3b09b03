import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** Listens with the shortest queue and accepts nobody; its event loop stands still until it is killed. */
const LISTENER = `
  const { createServer } = require('node:net');
  const server = createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
    require('node:fs').writeSync(1, String(server.address().port));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  });
`;

/** More than the queue holds. */
const FILLERS = 8;

export interface FullBacklog extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
}

/** A port where a TCP connect hangs: the listener's queue is full, and the kernel drops what knocks. */
export async function fullBacklog(): Promise<FullBacklog> {
  const child = spawn(process.execPath, ['-e', LISTENER], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [text] = (await once(child.stdout, 'data')) as [Buffer];
  const host = '127.0.0.1';
  const port = Number(text.toString());
  const fillers: Socket[] = [];
  let connected = 0;
  for (let i = 0; i < FILLERS; i++) {
    const socket = connect(port, host, () => connected++);
    socket.on('error', () => undefined);
    fillers.push(socket);
  }
  // On loopback the kernel answers at once, or not at all.
  await Promise.race(fillers.map((socket) => once(socket, 'connect')));
  await new Promise((resolve) => setImmediate(resolve));
  if (connected === FILLERS) throw new Error('the queue of the listener is longer than it should be');
  return {
    host,
    port,
    async [Symbol.asyncDispose]() {
      for (const socket of fillers) socket.destroy();
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}
