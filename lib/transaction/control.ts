import type { PlainQuery } from '../client/plain-query.js';
import { Statement, type StatementCatalog } from '../client/statement-catalog.js';
import type { ResolvedTransactionOptions } from './transaction-options.js';

/** How much later than the client the server ends a transaction: it cuts the connection, which is the last resort. */
const GRACE_MILLIS = 1_000;
/** The first major version that has transaction_timeout. */
const TRANSACTION_TIMEOUT_SINCE = 17;

/** A statement of the transaction's own, without parameters. */
export function command(text: string): PlainQuery {
  return { statement: new Statement(text), values: undefined, isArrayMode: false, queryTimeoutMillis: undefined };
}

export const COMMIT = command('COMMIT');
export const ROLLBACK = command('ROLLBACK');
const BEGIN = command('BEGIN');

/** What opens a transaction: BEGIN with its modes, and the settings as one statement with parameters. */
export function opening(
  options: ResolvedTransactionOptions,
  catalog: StatementCatalog,
  serverVersion: string | undefined,
): PlainQuery[] {
  const { isolation, readOnly, deferrable } = options;
  const modes = [
    ...(isolation === undefined ? [] : [`ISOLATION LEVEL ${isolation.toUpperCase()}`]),
    ...(readOnly === undefined ? [] : [readOnly ? 'READ ONLY' : 'READ WRITE']),
    ...(deferrable ? ['DEFERRABLE'] : []),
  ];
  const begin = modes.length === 0 ? BEGIN : command(`BEGIN ${modes.join(', ')}`);
  const settings = settingsOf(options, serverVersion);
  if (settings.length === 0) return [begin];
  const calls = settings.map((_, index) => `set_config($${2 * index + 1}, $${2 * index + 2}, true)`);
  const statement = catalog.use(`SELECT ${calls.join(', ')}`);
  return [begin, { statement, values: settings.flat(), isArrayMode: true, queryTimeoutMillis: undefined }];
}

function settingsOf(
  { settings, role, timeoutMillis }: ResolvedTransactionOptions,
  serverVersion: string | undefined,
): (readonly [string, string])[] {
  const keepsTime = timeoutMillis > 0 && Number.parseInt(serverVersion ?? '', 10) >= TRANSACTION_TIMEOUT_SINCE;
  return [
    ...(keepsTime ? [['transaction_timeout', String(timeoutMillis + GRACE_MILLIS)] as const] : []),
    ...settings,
    // Last: the role may not be allowed to set the others.
    ...(role === undefined ? [] : [['role', role] as const]),
  ];
}

const CONTROL =
  /(begin|start\s+transaction|commit|end|rollback(?!\s+(?:(?:work|transaction)\s+)?to\b)|abort|prepare\s+transaction)\b/iy;
const BLANK = /[\s;]+|--[^\n\r]*/y;
const COMMENT_BRACKET = /\/\*|\*\//g;

/** The word by which a text would begin or end the transaction itself, if it does. */
export function transactionControl(text: string): string | undefined {
  CONTROL.lastIndex = skipBlank(text);
  return CONTROL.exec(text)?.[1]?.toUpperCase().replace(/\s+/, ' ');
}

/** Where the first statement begins, behind blanks, semicolons and comments. */
function skipBlank(text: string): number {
  for (let at = 0; ;) {
    BLANK.lastIndex = at;
    if (BLANK.test(text)) at = BLANK.lastIndex;
    else if (text.startsWith('/*', at)) at = endOfComment(text, at);
    else return at;
  }
}

/** Comments in brackets nest. */
function endOfComment(text: string, at: number): number {
  COMMENT_BRACKET.lastIndex = at;
  for (let depth = 0; ;) {
    const bracket = COMMENT_BRACKET.exec(text)?.[0];
    if (bracket === undefined) return text.length;
    depth += bracket === '/*' ? 1 : -1;
    if (depth === 0) return COMMENT_BRACKET.lastIndex;
  }
}
