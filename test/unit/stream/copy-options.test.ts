import { describe, expect, it } from 'vitest';
import { formatClause, type CopyFormatOptions } from '../../../lib/stream/copy-format.js';
import { copyFromPlan } from '../../../lib/stream/copy-from-options.js';

describe('the options of bytes', () => {
  it.each<[CopyFormatOptions, string]>([
    [{ format: 'csv' }, '(FORMAT csv)'],
    [{ format: 'binary' }, '(FORMAT binary)'],
    [{ format: 'csv', header: 'match' }, '(FORMAT csv, HEADER match)'],
    [
      { format: 'csv', header: false, delimiter: ';', quote: "'" },
      "(FORMAT csv, HEADER false, DELIMITER ';', QUOTE '''')",
    ],
    [{ format: 'csv', escape: '\\', null: '' }, "(FORMAT csv, NULL '', ESCAPE  E'\\\\')"],
    [{ format: 'text', delimiter: '|', encoding: 'LATIN1' }, "(FORMAT text, DELIMITER '|', ENCODING 'LATIN1')"],
  ])('%j', (options, clause) => {
    expect(formatClause(options, 'from')).toBe(clause);
  });

  it.each<[object, string]>([
    [{ format: 'xml' }, 'format has to be csv, text or binary; it is "xml"'],
    [{ format: 'binary', header: true }, 'header is an option of csv and text'],
    [{ format: 'text', quote: '"' }, 'quote is an option of csv'],
    [{ format: 'csv', header: 'true, FREEZE' }, 'header has to be true or false, or "match"'],
    [{ format: 'csv', delimiter: '::' }, 'delimiter has to be one ASCII character'],
    [{ format: 'csv', delimiter: 'é' }, 'delimiter has to be one ASCII character'],
    [{ format: 'csv', quote: '\n' }, 'quote has to be one ASCII character, and no line end'],
    [{ format: 'csv', escape: '' }, 'escape has to be one ASCII character'],
    [{ format: 'csv', delimiter: '"' }, 'delimiter and quote must not be the same'],
    [{ format: 'text', delimiter: 'a' }, 'delimiter must not be "a"'],
    [{ format: 'csv', null: 'a,b' }, 'null must not hold the delimiter'],
    [{ format: 'csv', null: '"' }, 'null must not hold the quote'],
    [{ format: 'csv', null: '\n' }, 'null must not hold a line end'],
    [{ format: 'csv', null: 0 }, 'null has to be a text'],
    [{ format: 'csv', encoding: 'a\0' }, 'encoding has to be a text'],
  ])('refuse %j', (options, message) => {
    expect(() => formatClause(options as CopyFormatOptions, 'from')).toThrow(message);
  });
});

describe('the options of copyFrom()', () => {
  it.each<[object, string]>([
    [{ columns: ['a'] }, 'table'],
    [{ table: '', columns: ['a'] }, 'table has to be a name'],
    [{ table: { schema: 's' }, columns: ['a'] }, 'table.name has to be a name'],
    [{ table: { shema: 's', name: 't' }, columns: ['a'] }, 'did you mean "schema"'],
    [{ table: 's.t', columns: ['a'] }, "{ schema: 's', name: 't' }"],
    [{ table: 't' }, 'columns have to be an array of names'],
    [{ table: 't', columns: [] }, 'columns have to be an array of names'],
    [{ table: 't', columns: ['a', 'b', 'a'] }, 'columns name "a" twice'],
    [{ table: 't', columns: ['a\0'] }, 'a name in columns has to be a name'],
    [{ table: 't', columns: ['a'], header: true }, 'header is an option of bytes'],
    [{ table: 't', columns: ['a'], rowFormat: 'csv' }, 'rowFormat has to be'],
    [{ table: 't', format: 'csv', rowFormat: 'text' }, 'format is for bytes and rowFormat for rows'],
    [{ table: 't', columns: ['a'], maxBuffered: 0 }, 'maxBuffered has to be'],
    [{ table: 't', columns: ['a'], signal: {} }, 'signal has to be an AbortSignal'],
    [{ table: 't', columns: ['a'], onProgress: true }, 'onProgress has to be a function'],
    [{ table: 't', columns: ['a'], onprogress: () => 1 }, 'did you mean "onProgress"'],
  ])('refuse %j', (options, message) => {
    expect(() => copyFromPlan(options as never)).toThrow(message);
  });
});
