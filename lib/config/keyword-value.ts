import { configError } from './config-error.js';
import { storeValue, type Values } from './stored-values.js';

/** isspace() of the C locale. */
export function isSpace(char: string | undefined): boolean {
  return char === ' ' || (char !== undefined && char >= '\t' && char <= '\r');
}

/** `conninfo_parse` of fe-connect.c. */
export function parseKeywordValue(text: string): Values {
  const values: Values = {};
  let at = 0;
  while (at < text.length) {
    if (isSpace(text[at])) {
      at++;
      continue;
    }
    const nameStart = at;
    while (at < text.length && text[at] !== '=' && !isSpace(text[at])) at++;
    const name = text.slice(nameStart, at);
    while (isSpace(text[at])) at++;
    if (text[at] !== '=') {
      throw configError(
        `The connection string lacks a "=" after the word at position ${nameStart + 1}. ` +
          'It must be a URI (postgresql://...) or keyword=value pairs; a value with spaces stands in single quotes.',
      );
    }
    at++;
    while (isSpace(text[at])) at++;
    const quoted = text[at] === "'";
    const value = quoted ? readQuoted(text, at) : readPlain(text, at);
    storeValue(values, name, value.text, `at position ${nameStart + 1} of the connection string`);
    at = value.end;
  }
  return values;
}

interface ReadValue {
  readonly text: string;
  /** Where reading goes on. */
  readonly end: number;
}

function readPlain(text: string, start: number): ReadValue {
  let value = '';
  let at = start;
  while (at < text.length) {
    if (isSpace(text[at])) return { text: value, end: at + 1 };
    // A backslash takes the next character as it is; at the very end it stands for nothing.
    if (text[at] === '\\') at++;
    value += text[at] ?? '';
    at++;
  }
  return { text: value, end: at };
}

function readQuoted(text: string, start: number): ReadValue {
  let value = '';
  let at = start + 1;
  while (at < text.length) {
    if (text[at] === "'") return { text: value, end: at + 1 };
    if (text[at] === '\\') at++;
    value += text[at] ?? '';
    at++;
  }
  throw configError(`The single quote at position ${start + 1} of the connection string is never closed.`);
}
