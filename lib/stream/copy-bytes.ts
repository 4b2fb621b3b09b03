import { Buffer } from 'node:buffer';
import { kindOf } from '../config/unknown-option.js';
import { copySourceError } from './copy-error.js';

/** Bytes, or a text that is sent in UTF-8. */
export type CopyBytes = Uint8Array | string;

const LAST_OF_PAIR_MISSING = /[\ud800-\udbff]$/;

/** Joins what a source gives to chunks of a size that is worth a message. */
export class ByteJoiner {
  readonly #takesTexts: boolean;
  #pieces: Uint8Array[] = [];
  #text = '';
  #size = 0;

  constructor(takesTexts: boolean) {
    this.#takesTexts = takesTexts;
  }

  /** About how many bytes wait. */
  get size(): number {
    return this.#size + this.#text.length;
  }

  /** @throws PgModuleError `PG_COPY_INVALID` for what is no bytes */
  add(item: unknown): void {
    if (typeof item === 'string') {
      if (!this.#takesTexts) {
        throw copySourceError(
          'the source gives texts, which are sent in UTF-8, and encoding says otherwise: give bytes',
        );
      }
      this.#text += item;
    } else if (item instanceof Uint8Array) {
      this.#endText();
      this.#pieces.push(item);
      this.#size += item.length;
    } else {
      const hint = typeof item === 'object' ? ' For rows, leave format out.' : '';
      throw copySourceError(
        `with a format the source has to give bytes or texts, and it gives ${kindOf(item)}.${hint}`,
      );
    }
  }

  /** All that waits, but for half of a character. */
  take(isLast: boolean): Buffer {
    const half = isLast ? '' : (LAST_OF_PAIR_MISSING.exec(this.#text)?.[0] ?? '');
    this.#text = this.#text.slice(0, this.#text.length - half.length);
    this.#endText();
    const [piece] = this.#pieces;
    const bytes =
      piece && this.#pieces.length === 1
        ? Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
        : Buffer.concat(this.#pieces, this.#size);
    this.#pieces = [];
    this.#size = 0;
    this.#text = half;
    return bytes;
  }

  #endText(): void {
    if (this.#text === '') return;
    const bytes = Buffer.from(this.#text);
    this.#pieces.push(bytes);
    this.#size += bytes.length;
    this.#text = '';
  }
}
