import type { FaultProxy } from './proxy.js';
import type { Message } from './scripted-server.js';

/** What clients have said to the server through a proxy. */
export interface ClientMessages {
  /** Everything since the last call, in its order. */
  take(): Message[];
  /** The same, but for what carries a statement's name: `Parse x`, `Bind x`, `Close x`; `Query` comes with its text. */
  words(): string[];
}

const PROTOCOL_3 = 196608;

/** Writes down what passes through the proxy from now on. Sessions have to be unencrypted. */
export function recordMessages(proxy: FaultProxy): ClientMessages {
  const buffers = new Map<number, Buffer>();
  const started = new Set<number>();
  let messages: Message[] = [];
  proxy.onData((chunk, from, { id }) => {
    if (from === 'server') return chunk;
    let bytes = Buffer.concat([buffers.get(id) ?? Buffer.alloc(0), chunk]);
    for (;;) {
      const head = started.has(id) ? 1 : 0;
      if (bytes.length < head + 4) break;
      const end = head + bytes.readInt32BE(head);
      if (bytes.length < end) break;
      if (started.has(id)) messages.push({ type: bytes.toString('latin1', 0, 1), body: bytes.subarray(5, end) });
      else if (bytes.readInt32BE(4) === PROTOCOL_3) started.add(id);
      bytes = bytes.subarray(end);
    }
    buffers.set(id, bytes);
    return chunk;
  });
  const take = (): Message[] => {
    const taken = messages;
    messages = [];
    return taken;
  };
  return { take, words: () => take().map(toWords) };
}

function toWords({ type, body }: Message): string {
  const [first = '', second = ''] = body.toString('utf8').split('\0');
  switch (type) {
    case 'Q':
      return `Query ${first}`;
    case 'P':
      return `Parse ${first}`;
    case 'B':
      return `Bind ${second}`;
    case 'C':
      return `Close ${first.slice(1)}`;
    case 'D':
      return 'Describe';
    case 'E':
      return 'Execute';
    case 'S':
      return 'Sync';
    default:
      return type;
  }
}
