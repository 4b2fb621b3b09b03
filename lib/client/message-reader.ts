import { ProtocolViolation } from './protocol-violation.js';

/** Type and length. */
const HEADER = 5;
/** Messages longer than this are rows, descriptions, COPY data, errors and notices, or the stream is out of step. */
const LONG = 30_000;
/** Lengths are signed numbers of 32 bits. */
const LONGEST = 2 ** 31;
const MAY_BE_LONG: ReadonlySet<number> = new Set(Buffer.from('DdTENAV'));
const ERROR = 0x45;
const READY = 0x5a;

/** Who is asked for each message. The others go to pg. */
export interface MessageHandler {
  /** The body of the message stands in `bytes` from `start` to `end`. */
  takes(type: number, bytes: Buffer, start: number, end: number): boolean;
  take(type: number, bytes: Buffer, start: number, end: number): void;
}

/**
 * Cuts the stream into messages (PostgreSQL's protocol, "Message Formats"). What the handler does not take goes to pg, in
 * its order and in pieces of whole messages.
 *
 * A stream that is out of step is found by libpq's rule: only certain messages may be long (fe-protocol3.c,
 * VALID_LONG_MESSAGE_TYPE).
 */
export class MessageReader {
  readonly #handler: MessageHandler;
  readonly #pass: (messages: Buffer) => void;
  /** Pieces of a message that is not whole, how long they are together, and how much is needed for another look. */
  #pieces: Buffer[] = [];
  #have = 0;
  #need = HEADER;

  constructor(handler: MessageHandler, pass: (messages: Buffer) => void) {
    this.#handler = handler;
    this.#pass = pass;
  }

  /** @throws ProtocolViolation; whatever the handler and pg's parser throw */
  read(chunk: Buffer): void {
    let bytes = chunk;
    if (this.#have > 0) {
      this.#pieces.push(chunk);
      this.#have += chunk.length;
      if (this.#have < this.#need) return;
      bytes = Buffer.concat(this.#pieces, this.#have);
      this.#pieces = [];
      this.#have = 0;
    }
    const rest = this.#cut(bytes);
    if (rest === bytes.length) return;
    this.#pieces.push(rest === 0 ? bytes : bytes.subarray(rest));
    this.#have = bytes.length - rest;
  }

  /** @returns where the message begins that is not whole */
  #cut(bytes: Buffer): number {
    const handler = this.#handler;
    const { length } = bytes;
    let start = 0;
    /** Where the messages for pg begin that have been cut and not passed on. */
    let pending = 0;
    this.#need = HEADER;
    while (start + HEADER <= length) {
      const type = bytes[start] ?? 0;
      const size = bytes.readUInt32BE(start + 1) + 1;
      if (size < HEADER || size > LONGEST || (size > LONG && !MAY_BE_LONG.has(type))) {
        throw new ProtocolViolation(`a message of type ${type} and length ${size - 1}`);
      }
      const end = start + size;
      if (end > length) {
        this.#need = size;
        break;
      }
      if (handler.takes(type, bytes, start + HEADER, end)) {
        if (pending < start) this.#pass(bytes.subarray(pending, start));
        handler.take(type, bytes, start + HEADER, end);
        pending = end;
      } else if (type === READY || type === ERROR) {
        // After these, the messages are another query's.
        this.#pass(bytes.subarray(pending, end));
        pending = end;
      }
      start = end;
    }
    if (pending < start) this.#pass(bytes.subarray(pending, start));
    return start;
  }
}
