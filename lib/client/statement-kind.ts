/**
 * What can be done with a text besides sending it as it is:
 *
 * - `read`: a query that locks nothing and stores nothing, as far as the text tells.
 * - `write`: any other single statement that can be prepared.
 * - `other`: everything else. Utility statements, COPY, several statements in one text, and what is not understood.
 */
export type StatementKind = 'read' | 'write' | 'other';

const BLANK = /(?:\s|--[^\n\r]*|\/\*[^*/]*\*\/|\()*/y;
const WORD = /[a-z]+/iy;
/** FOR UPDATE and FOR SHARE lock, INTO stores, WITH may hold what writes. */
const MAY_WRITE = /\b(?:for|into|insert|update|delete|merge)\b/i;
const SEVERAL = /;(?!\s*$)/;

/** Looks at a text as closely as is needed to be right, and calls `other` whatever would need a closer look. */
export function statementKind(text: string): StatementKind {
  switch (singleWord(text)) {
    case 'select':
    case 'with':
    case 'values':
    case 'table':
      return MAY_WRITE.test(text) ? 'write' : 'read';
    case 'insert':
    case 'update':
    case 'delete':
    case 'merge':
      return 'write';
    default:
      return 'other';
  }
}

/**
 * Whether a text that is `other` can all the same be prepared, as far as it is known: a single utility statement. COPY has
 * an answer of its own.
 */
export function isUtility(text: string): boolean {
  const word = singleWord(text);
  return word !== undefined && word !== 'copy';
}

/** The first word of a single statement. A semicolon in a literal is not worth a parser. */
function singleWord(text: string): string | undefined {
  if (SEVERAL.test(text) || text.includes('\0')) return undefined;
  BLANK.lastIndex = 0;
  BLANK.test(text);
  WORD.lastIndex = BLANK.lastIndex;
  return WORD.exec(text)?.[0].toLowerCase();
}
