import { isDate } from 'node:util/types';
import { prepareValues, type Parameter } from '../client/request-writer.js';

/** A value of a row, where those that become text in one way only have become it. */
export type CopyValue = string | number | bigint | boolean | Date | readonly unknown[] | Uint8Array | null;

/** What pg would send for the value as a parameter. */
export function parameterOf(value: unknown): Parameter {
  return prepareValues([value])[0];
}

/** The value as encoders take it. `toPostgres`, `toJSON` and `toString` of the application are called. */
export function copyValue(value: unknown): CopyValue {
  switch (typeof value) {
    case 'string':
    case 'number':
    case 'bigint':
    case 'boolean':
      return value;
    case 'undefined':
      return null;
    default:
      if (value === null || isDate(value) || Array.isArray(value)) return value;
      if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
      return parameterOf(value) ?? null;
  }
}
