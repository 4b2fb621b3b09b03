import { configError } from './config-error.js';
import { parseKeywordValue } from './keyword-value.js';
import { parseUri, uriPrefixLength } from './uri.js';

/**
 * Reads a connection string as libpq does: a URI (`postgresql://...`, `postgres://...`) or `keyword=value` pairs.
 * See https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-CONNSTRING
 *
 * @returns the keywords that the string sets, under libpq's names: what PQconninfoParse yields. No defaults, no
 * environment, no service file.
 * @throws PgModuleError `PG_CONFIG_INVALID` where libpq refuses the string. The message tells the position and never
 * quotes the string, for any piece of it may be part of a password.
 */
export function parseConnectionString(text: string): Record<string, string> {
  if (typeof text !== 'string') throw configError('The connection string must be a string.');
  // libpq reads up to the first NUL; what stands behind it would silently be lost.
  const nul = text.indexOf('\0');
  if (nul >= 0) throw configError(`The connection string has a NUL character at position ${nul + 1}.`);
  return uriPrefixLength(text) > 0 ? parseUri(text) : parseKeywordValue(text);
}
