import { once } from 'node:events';
import type { Duplex } from 'node:stream';

const CANCEL_REQUEST_CODE = 80877102;

/**
 * Sends a CancelRequest and waits until the server has hung up, which it does after having passed the signal on.
 * https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
 */
export async function sendCancelRequest(stream: Duplex, processId: number, secretKey: number): Promise<void> {
  const message = Buffer.allocUnsafe(16);
  message.writeInt32BE(16, 0);
  message.writeInt32BE(CANCEL_REQUEST_CODE, 4);
  message.writeInt32BE(processId, 8);
  message.writeInt32BE(secretKey, 12);
  const closed = once(stream, 'close');
  // The server may answer by a reset: the request has arrived all the same.
  stream.on('error', () => undefined);
  stream.resume();
  stream.end(message);
  await closed;
}
