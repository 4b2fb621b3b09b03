import { configError } from './config-error.js';
import type { AuthMethod, RequireAuth } from './resolved-config.js';

const METHODS: readonly AuthMethod[] = ['none', 'password', 'md5', 'gss', 'sspi', 'scram-sha-256', 'oauth'];

/**
 * libpq's `require_auth`: a list of methods, of which either all or none begin with `!`.
 * See https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-CONNECT-REQUIRE-AUTH
 *
 * @param origin how the error calls the setting
 */
export function parseRequireAuth(text: string, origin: string): RequireAuth | undefined {
  if (text === '') return undefined;
  const methods = new Set<AuthMethod>();
  const negated = text.startsWith('!');
  for (const [index, item] of text.split(',').entries()) {
    const place = `Method ${index + 1} of ${origin}`;
    if (item.startsWith('!') !== negated) {
      throw configError(`${place} must ${negated ? '' : 'not '}begin with "!": either all methods do, or none.`);
    }
    const method = METHODS.find((name) => name === (negated ? item.slice(1) : item));
    if (method === undefined) throw configError(`${place} is none of ${METHODS.join(', ')}.`);
    // A repeated method is most probably a typing error, in a place where one is dangerous.
    if (methods.has(method)) throw configError(`${place}, ${method}, is listed more than once.`);
    methods.add(method);
  }
  return { methods, negated };
}
