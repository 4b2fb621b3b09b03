import { homeFile, pathOf, type ConfigContext } from './config-context.js';
import { configError } from './config-error.js';
import { isSpace } from './keyword-value.js';
import { isKeyword } from './keywords.js';
import type { Values } from './stored-values.js';

/** libpq reads lines into a buffer of 1024 bytes; one that fills it, newline included, is an error. */
const LINE_LIMIT = 1023;

/**
 * Where the packagers' libpq looks for the system-wide file: the directory is compiled in there, and cannot be asked
 * for. Debian's, PGDG's RPMs', and that of a build from source.
 */
const SYSTEM_DIRECTORIES = ['/etc/postgresql-common', '/etc/sysconfig/pgsql', '/usr/local/pgsql/etc'] as const;

export interface Service {
  readonly file: string;
  readonly values: Values;
}

/**
 * `parseServiceInfo` of fe-connect.c: PGSERVICEFILE or else ~/.pg_service.conf, and if the service is not in it,
 * `$PGSYSCONFDIR/pg_service.conf`.
 *
 * @param label how the error calls the service: by its name only where that cannot be a piece of a password
 * @throws PgModuleError `PG_CONFIG_INVALID` if no file has the service, or PGSERVICEFILE names a file that cannot be
 * read, or a line cannot be understood.
 */
export function readService(name: string, label: string, context: ConfigContext): Service {
  const named = context.env.PGSERVICEFILE;
  const searched: string[] = [];
  if (named !== undefined) {
    searched.push(named);
  } else {
    const file = homeFile(context, '.pg_service.conf');
    if (file !== undefined && context.stat(file) !== undefined) searched.push(file);
  }
  const system = systemFile(context);
  if (system !== undefined) searched.push(system);

  for (const file of searched) {
    const values = parseServiceFile(readText(file, context), name, file);
    if (values !== undefined) return { file, values };
  }
  const places = searched.length > 0 ? searched.join(' and ') : 'any service file: none was found';
  throw configError(`The service ${label} is not defined in ${places}.`);
}

function systemFile(context: ConfigContext): string | undefined {
  const configured = context.env.PGSYSCONFDIR;
  const directories = configured !== undefined ? [configured] : context.platform === 'win32' ? [] : SYSTEM_DIRECTORIES;
  return directories
    .map((directory) => pathOf(context).join(directory || '/', 'pg_service.conf'))
    .find((file) => context.stat(file) !== undefined);
}

function readText(file: string, context: ConfigContext): string {
  try {
    return context.readFile(file).toString('utf8');
  } catch (error) {
    throw configError(`The service file ${file} cannot be read.`, error);
  }
}

/** `parseServiceFile` of fe-connect.c; `undefined` if the file does not have the service. */
export function parseServiceFile(text: string, service: string, file: string): Values | undefined {
  let values: Values | undefined;
  const lines = text.split('\n');
  // What follows the last newline is a line only if there is something.
  if (lines.at(-1) === '') lines.pop();
  for (const [index, raw] of lines.entries()) {
    const place = `line ${index + 1} of the service file ${file}`;
    const terminated = index < lines.length - 1 || text.endsWith('\n');
    if (Buffer.byteLength(raw) + (terminated ? 1 : 0) >= LINE_LIMIT) {
      throw configError(`The ${place} is longer than ${LINE_LIMIT - 1} bytes.`);
    }
    const line = trim(raw);
    if (line === '' || line.startsWith('#')) continue;
    if (line.startsWith('[')) {
      if (values !== undefined) return values;
      if (line.startsWith(`${service}]`, 1)) values = {};
      continue;
    }
    if (values === undefined) continue;
    const equals = line.indexOf('=');
    // No blanks are taken off around the "=": libpq does not either.
    const keyword = line.slice(0, equals);
    if (equals < 0) {
      const ldap = line.startsWith('ldap') ? ' (LDAP look-ups are not supported)' : '';
      throw configError(`The ${place} has no "="${ldap}.`);
    }
    if (keyword === 'service') {
      throw configError(`The ${place} names another service: a service cannot lead to a service.`);
    }
    if (!isKeyword(keyword)) {
      throw configError(`The ${place} does not begin with one of libpq's keywords and "=", without blanks between.`);
    }
    // Within a section the first value of a keyword wins, unlike in a connection string.
    values[keyword] ??= line.slice(equals + 1);
  }
  return values;
}

function trim(line: string): string {
  let start = 0;
  let end = line.length;
  while (end > start && isSpace(line[end - 1])) end--;
  while (start < end && isSpace(line[start])) start++;
  return line.slice(start, end);
}
