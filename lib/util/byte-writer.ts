import { Buffer } from 'node:buffer';
import { PgModuleError } from '../errors/pg-module.error.js';

/** Shorter texts are written faster here than by a call of Buffer's encoder. */
const SHORT = 24;
/** Longer ones are measured before there is room for the worst, three bytes for a UTF-16 code unit. */
const LONG = 4_096;
/**
 * The protocol counts with signed numbers of 32 bits. A length that does not fit would come round to a small one, and the
 * server would take what is behind it for messages of their own.
 */
const LONGEST = 2 ** 31 - 1;

interface Utf8 {
  utf8Write(text: string, offset: number): number;
}

/**
 * Bytes that are written one behind the other, numbers with the most significant byte first. What writes more than 2 GiB
 * throws PgModuleError `PG_CONFIG_INVALID`.
 */
export class ByteWriter {
  readonly #keep: number;
  #bytes: Buffer;
  #view: DataView;
  length = 0;

  /** `keep` = the bytes to keep room for; more are not copied when they are taken, but handed over. */
  constructor(keep: number) {
    this.#keep = keep;
    this.#bytes = Buffer.allocUnsafe(keep);
    this.#view = viewOf(this.#bytes);
  }

  /** What has been written, which is forgotten here. */
  take(): Buffer {
    const { length } = this;
    this.length = 0;
    if (this.#bytes.length > this.#keep) {
      const taken = this.#bytes.subarray(0, length);
      this.#resize(this.#keep);
      return taken;
    }
    const taken = Buffer.allocUnsafe(length);
    this.#bytes.copy(taken, 0, 0, length);
    return taken;
  }

  byte(value: number): void {
    this.#reserve(1);
    this.#bytes[this.length++] = value;
  }

  int16(value: number): void {
    this.#reserve(2);
    this.#view.setInt16(this.length, value);
    this.length += 2;
  }

  int32(value: number): void {
    this.#reserve(4);
    this.#view.setInt32(this.length, value);
    this.length += 4;
  }

  /** Of a value between -2^63 and 2^63 that is `high` times 2^32, and `low`. */
  int64(high: number, low: number): void {
    this.#reserve(8);
    this.#view.setInt32(this.length, high);
    this.#view.setUint32(this.length + 4, low);
    this.length += 8;
  }

  bigInt64(value: bigint): void {
    this.#reserve(8);
    this.#view.setBigInt64(this.length, value);
    this.length += 8;
  }

  float32(value: number): void {
    this.#reserve(4);
    this.#view.setFloat32(this.length, value);
    this.length += 4;
  }

  float64(value: number): void {
    this.#reserve(8);
    this.#view.setFloat64(this.length, value);
    this.length += 8;
  }

  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** Writes the length of what was written since `start`, in the four bytes at `place`. */
  size(start: number, place = start - 4): void {
    this.#view.setInt32(place, this.length - start);
  }

  /** UTF-8, with its length before it. */
  text(text: string): void {
    const start = this.length + 4;
    this.int32(0);
    this.characters(text);
    this.size(start);
  }

  /** UTF-8. */
  characters(text: string): void {
    const { length } = text;
    this.#reserve(length <= LONG ? 3 * length : Buffer.byteLength(text));
    this.length += this.#ascii(text) ? length : this.#utf8().utf8Write(text, this.length);
  }

  #ascii(text: string): boolean {
    const { length } = text;
    if (length > SHORT) return false;
    const bytes = this.#bytes;
    const start = this.length;
    for (let index = 0; index < length; index++) {
      const unit = text.charCodeAt(index);
      if (unit > 0x7f) return false;
      bytes[start + index] = unit;
    }
    return true;
  }

  #utf8(): Utf8 {
    return this.#bytes as unknown as Utf8;
  }

  #reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.#bytes.length) return;
    if (needed > LONGEST) throw tooLong(needed);
    this.#resize(Math.min(Math.max(needed, 2 * this.#bytes.length), LONGEST));
  }

  #resize(size: number): void {
    const resized = Buffer.allocUnsafe(size);
    this.#bytes.copy(resized, 0, 0, this.length);
    this.#bytes = resized;
    this.#view = viewOf(resized);
  }
}

function tooLong(length: number): PgModuleError {
  return new PgModuleError(
    'PG_CONFIG_INVALID',
    `A request to the server can have ${LONGEST} bytes, and this one would have ${length} or more: send it in parts.`,
  );
}

function viewOf({ buffer, byteOffset, byteLength }: Buffer): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}
