import pg from 'pg';
import { PgModuleError } from '../errors/pg-module.error.js';
import { ByteWriter } from '../util/byte-writer.js';

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

/** Longer requests are handed over as they were written, and not copied. */
const KEEP = 65_536;
/** The protocol counts parameters with sixteen bits. */
const MAX_PARAMETERS = 65_535;

/**
 * Writes requests of the extended and the simple query protocol, several messages into one buffer. One writer serves
 * all connections: nothing is awaited between `begin` and `end`.
 */
export class RequestWriter {
  readonly #out = new ByteWriter(KEEP);
  /** Where the length of the message that is being written stands. */
  #header = 0;

  /** Begins a request; what a request that failed has left is forgotten. */
  begin(): this {
    this.#out.length = 0;
    return this;
  }

  /** The whole request. */
  end(): Buffer {
    return this.#out.take();
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
    const out = this.#out;
    for (const value of values) {
      if (value == null) out.int32(-1);
      else if (typeof value === 'string') out.text(value);
      else {
        out.int32(value.length);
        out.raw(value);
      }
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
    this.#out.byte(type);
    this.#header = this.#out.length;
    return this.#int32(0);
  }

  /** A message's length counts itself. */
  #close(): this {
    this.#out.size(this.#header, this.#header);
    return this;
  }

  #byte(value: number): this {
    this.#out.byte(value);
    return this;
  }

  #int16(value: number): this {
    this.#out.int16(value);
    return this;
  }

  #int32(value: number): this {
    this.#out.int32(value);
    return this;
  }

  #string(text: string): this {
    this.#out.characters(text);
    this.#out.byte(0);
    return this;
  }
}

export const requests = new RequestWriter();
