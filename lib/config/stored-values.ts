import { configError } from './config-error.js';
import { isKeyword, KEYWORD_NAMES, type Keyword } from './keywords.js';
import { nearest } from './unknown-option.js';

/** Keyword to value, as far as set. */
export type Values = Partial<Record<Keyword, string>> & Record<string, string>;

/**
 * `conninfo_storeval` of fe-connect.c: the last value of a keyword wins, and the old `requiressl` is an alias.
 *
 * @param place where the pair stands, for the error; the pair itself may be a piece of a password and is not shown
 * @returns the keyword that the value was stored under
 */
export function storeValue(values: Values, name: string, value: string, place: string): Keyword {
  if (name === 'requiressl') {
    values.sslmode = value.startsWith('1') ? 'require' : 'prefer';
    return 'sslmode';
  }
  if (!isKeyword(name)) {
    const near = nearest(name, KEYWORD_NAMES);
    const advice =
      near === undefined ? ' A value that holds spaces or special characters must be quoted or escaped.' : '';
    throw configError(
      `The keyword ${place} is not one of libpq's${near === undefined ? '.' : `: did you mean "${near}"?`}${advice}`,
    );
  }
  values[name] = value;
  return name;
}
