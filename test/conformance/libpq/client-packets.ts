import { CANCEL_REQUEST, GSS_REQUEST, SSL_REQUEST } from '../../support/scripted-server.js';

const TLS_HANDSHAKE = 0x16;

/**
 * What a client has said, as far as it can be read: `SSLRequest`, `ClientHello` (the end of what can be read), `Startup`
 * and then the letters of its messages, but for the goodbye.
 */
export function clientPackets(bytes: Buffer): string[] {
  const packets: string[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (bytes[at] === TLS_HANDSHAKE) return [...packets, 'ClientHello'];
    const name = requestName(bytes.readInt32BE(at + 4));
    packets.push(name);
    at += bytes.readInt32BE(at);
    if (name === 'Startup') break;
  }
  while (at < bytes.length) {
    const letter = bytes.toString('latin1', at, at + 1);
    if (letter !== 'X') packets.push(letter);
    at += 1 + bytes.readInt32BE(at + 1);
  }
  return packets;
}

function requestName(code: number): string {
  switch (code) {
    case SSL_REQUEST:
      return 'SSLRequest';
    case GSS_REQUEST:
      return 'GSSENCRequest';
    case CANCEL_REQUEST:
      return 'CancelRequest';
    default:
      return 'Startup';
  }
}
