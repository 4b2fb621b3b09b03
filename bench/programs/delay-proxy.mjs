// Holds back every byte for some time, each way: `node delay-proxy.mjs <host> <port> <milliseconds>`. Sends its parent
// the port on which it listens.
import { connect, createServer } from 'node:net';

const [host, port, delay] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];

/** A timer of Node is late by up to a millisecond, so whoever has something to deliver looks this often, in milliseconds. */
const LOOK_MILLIS = 0.1;

const cell = new Int32Array(new SharedArrayBuffer(4));

/** What waits for its time, in the order of arrival: chunks, and what is to be done at an end. */
const waiting = [];
let first = 0;

function hold(deliver) {
  waiting.push({ due: performance.now() + delay, deliver });
  if (waiting.length - first === 1) setImmediate(look);
}

function look() {
  const now = performance.now();
  let next = waiting[first];
  while (next !== undefined && next.due <= now) {
    next.deliver();
    next = waiting[++first];
  }
  if (next === undefined) {
    waiting.length = first = 0;
    return;
  }
  if (first > 1024) {
    waiting.splice(0, first);
    first = 0;
  }
  Atomics.wait(cell, 0, 0, Math.min(LOOK_MILLIS, next.due - now));
  setImmediate(look);
}

function pass(from, to) {
  from.setNoDelay(true);
  from.on('data', (chunk) => hold(() => to.write(chunk)));
  from.on('end', () => hold(() => to.end()));
  from.on('error', () => to.destroy());
  from.on('close', () => hold(() => to.destroy()));
}

const server = createServer((client) => {
  const upstream = connect({ host, port });
  pass(client, upstream);
  pass(upstream, client);
});

server.listen(0, '127.0.0.1', () => process.send(server.address().port));
process.on('disconnect', () => process.exit());
