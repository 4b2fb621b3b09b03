import type { ConfigContext } from './config-context.js';

/** The four fields that a line of the password file is matched against. */
export interface PassKey {
  readonly host: string;
  readonly port: string;
  readonly database: string;
  readonly user: string;
}

/**
 * The text of a password file, or `undefined` if it is not to be used: absent, not a plain file, or open to others
 * than its owner (`passwordFromFile` of fe-connect.c, which warns about the last two and goes on).
 *
 * @param label how the warning calls the file
 */
export function readPassFile(file: string, label: string, context: ConfigContext): string | undefined {
  const facts = context.stat(file);
  if (facts === undefined) return undefined;
  if (context.platform !== 'win32') {
    if (facts.kind !== 'file') {
      context.warn(`${label} is not a plain file: it is not used.`);
      return undefined;
    }
    if ((facts.mode & 0o077) !== 0) {
      context.warn(
        `${label} has group or world access and is not used: ` + 'its permissions should be u=rw (0600) or less.',
      );
      return undefined;
    }
  }
  try {
    return context.readFile(file).toString('utf8');
  } catch {
    return undefined;
  }
}

/** The password of the first line that matches. */
export function findPassword(text: string, key: PassKey): string | undefined {
  for (const raw of text.split('\n')) {
    // A comment begins in the first column only.
    if (raw.startsWith('#')) continue;
    const line = raw.replace(/[\r\n]+$/, '');
    let at = 0;
    for (const token of [key.host, key.port, key.database, key.user]) {
      at = matchField(line, at, token);
      if (at < 0) break;
    }
    if (at >= 0 && line !== '') return unescape(line.slice(at));
  }
  return undefined;
}

/** `pwdfMatchesString`: the offset behind the field and its colon, or -1. */
function matchField(line: string, start: number, token: string): number {
  if (line.startsWith('*:', start)) return start + 2;
  let at = start;
  let matched = 0;
  while (at < line.length) {
    let escaped = false;
    if (line[at] === '\\') {
      at++;
      escaped = true;
    }
    if (line[at] === ':' && matched === token.length && !escaped) return at + 1;
    if (matched === token.length || line[at] !== token[matched]) return -1;
    at++;
    matched++;
  }
  return -1;
}

/** The password ends at the next colon that is not escaped; a backslash at the very end stands for itself. */
function unescape(field: string): string {
  let password = '';
  for (let at = 0; at < field.length && field[at] !== ':'; at++) {
    if (field[at] === '\\' && at + 1 < field.length) at++;
    password += field[at] ?? '';
  }
  return password;
}
