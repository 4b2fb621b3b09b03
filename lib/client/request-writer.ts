import pg from 'pg';
import { PgModuleError } from '../errors/pg-module.error.js';

/** pg's conversion of a parameter. */
type PrepareValue = (value: unknown) => Parameter;
const { utils } = pg as unknown as { utils: { prepareValue: PrepareValue } };

/** What is sent for a value. */
export type Parameter = string | Buffer | null | undefined;

/**
 * The values as they are sent. It may call the application (`toPostgres`, `toJSON`, `toString`), which may start other
 * requests, so it comes before the writing.
 *
 * @throws PgModuleError `PG_CONFIG_INVALID` for too many; whatever the application throws
 */
export function prepareValues(values: readonly unknown[]): Parameter[] {
  if (values.length > MAX_PARAMETERS) {
    throw new PgModuleError(
      'PG_CONFIG_INVALID',
      `A statement can have ${MAX_PARAMETERS} parameters, and this one was given ${values.length}: pass an array, or split it.`,
    );
  }
  return values.map((value) => utils.prepareValue(value));
}

/** More are not written with one copy, but handed over. */
const KEEP = 65_536;
/** Texts up to this length are measured by their worst case, three bytes for a UTF-16 code unit. */
const SHORT = 4_096;
/** The protocol counts parameters with sixteen bits. */
const MAX_PARAMETERS = 65_535;

/**
 * Writes requests of the extended and the simple query protocol, several messages into one buffer. One writer serves
 * all connections: nothing is awaited between `begin` and `end`.
 */
export class RequestWriter {
  #bytes = Buffer.allocUnsafe(KEEP);
  #length = 0;
  /** Where the length of the message that is being written stands. */
  #header = 0;

  /** Begins a request; what a request that failed has left is forgotten. */
  begin(): this {
    this.#length = 0;
    return this;
  }

  /** The whole request. */
  end(): Buffer {
    const request = this.#bytes.subarray(0, this.#length);
    if (this.#length <= KEEP) return Buffer.from(request);
    this.#bytes = Buffer.allocUnsafe(KEEP);
    return request;
  }

  query(text: string): this {
    return this.#open(0x51).#string(text).#close();
  }

  parse(name: string, text: string): this {
    return this.#open(0x50).#string(name).#string(text).#int16(0).#close();
  }

  /** All results as text; parameters as text, but for bytes. See {@link prepareValues}. */
  bind(statement: string, values: readonly Parameter[], portal = ''): this {
    this.#open(0x42).#string(portal).#string(statement).#int16(values.length);
    for (const value of values) this.#int16(value == null || typeof value === 'string' ? 0 : 1);
    this.#int16(values.length);
    for (const value of values) {
      if (value == null) this.#int32(-1);
      else if (typeof value === 'string') this.#sized(value);
      else this.#int32(value.length).#raw(value);
    }
    return this.#int16(0).#close();
  }

  describePortal(portal = ''): this {
    return this.#open(0x44).#byte(0x50).#string(portal).#close();
  }

  /** `maxRows` 0 = all. */
  execute(portal = '', maxRows = 0): this {
    return this.#open(0x45).#string(portal).#int32(maxRows).#close();
  }

  closeStatement(name: string): this {
    return this.#open(0x43).#byte(0x53).#string(name).#close();
  }

  closePortal(name: string): this {
    return this.#open(0x43).#byte(0x50).#string(name).#close();
  }

  /** Has the server send what it would keep until the Sync. */
  flush(): this {
    return this.#open(0x48).#close();
  }

  sync(): this {
    return this.#open(0x53).#close();
  }

  #open(type: number): this {
    this.#byte(type);
    this.#header = this.#length;
    return this.#int32(0);
  }

  #close(): this {
    this.#bytes.writeInt32BE(this.#length - this.#header, this.#header);
    return this;
  }

  #byte(value: number): this {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
    return this;
  }

  #int16(value: number): this {
    this.#reserve(2);
    this.#length = this.#bytes.writeUInt16BE(value, this.#length);
    return this;
  }

  #int32(value: number): this {
    this.#reserve(4);
    this.#length = this.#bytes.writeInt32BE(value, this.#length);
    return this;
  }

  #string(text: string): this {
    return this.#text(text).#byte(0);
  }

  #sized(text: string): this {
    this.#int32(0);
    const start = this.#length;
    this.#text(text);
    this.#bytes.writeInt32BE(this.#length - start, start - 4);
    return this;
  }

  #text(text: string): this {
    this.#reserve(text.length <= SHORT ? 3 * text.length : Buffer.byteLength(text));
    this.#length += this.#bytes.write(text, this.#length);
    return this;
  }

  #raw(bytes: Buffer): this {
    this.#reserve(bytes.length);
    this.#length += bytes.copy(this.#bytes, this.#length);
    return this;
  }

  #reserve(count: number): void {
    const needed = this.#length + count;
    if (needed <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, 2 * this.#bytes.length));
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }
}

export const requests = new RequestWriter();
