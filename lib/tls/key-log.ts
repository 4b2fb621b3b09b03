import { appendFileSync } from 'node:fs';
import type { TLSSocket } from 'node:tls';

/**
 * libpq's `sslkeylogfile`: appends the session's secrets in the NSS format, for debugging with a packet analyser. Has to
 * be called before the handshake. A new file is readable for its owner only. What cannot be written is warned of once,
 * and the connection goes on, as in libpq.
 */
export function attachKeyLog(socket: TLSSocket, path: string, warn: (message: string) => void): void {
  let warned = false;
  socket.on('keylog', (line: Buffer) => {
    try {
      appendFileSync(path, line, { mode: 0o600 });
    } catch (error) {
      if (warned) return;
      warned = true;
      const why = error instanceof Error ? error.message : String(error);
      warn(`sslkeylogfile: the TLS secrets could not be written to "${path}": ${why}`);
    }
  });
}
