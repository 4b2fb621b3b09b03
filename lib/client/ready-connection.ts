import type { Duplex } from 'node:stream';
import pg from 'pg';

/**
 * The parts of pg's Connection that its types do not name. They are used in this folder only, and
 * test/unit/client/pg-internals.test.ts fails with the part's name when a version of pg moves one.
 */
interface ConnectionInternals {
  _connecting: boolean;
  _ending: boolean;
  attachListeners(stream: Duplex): void;
}

const ConnectionBase = pg.Connection as unknown as new (config: {
  stream: Duplex;
  ssl: false;
}) => pg.Connection & ConnectionInternals;

/** pg's protocol connection over a byte stream that is connected already, and encrypted where it has to be. */
export class ReadyConnection extends ConnectionBase {
  constructor(stream: Duplex) {
    super({ stream, ssl: false });
  }

  /** What pg's `connect` does once its socket is open. */
  connect(): void {
    this._connecting = true;
    this.stream.on('error', (error: NodeJS.ErrnoException) => {
      // A peer that hangs up first while we say goodbye is no failure.
      if (this._ending && (error.code === 'ECONNRESET' || error.code === 'EPIPE')) return;
      this.emit('error', error);
    });
    this.stream.on('close', () => this.emit('end'));
    this.attachListeners(this.stream);
    // The negotiation of TLS may have paused it.
    this.stream.resume();
    process.nextTick(() => this.emit('connect'));
  }
}
