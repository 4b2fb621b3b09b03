import { describe, expect, it } from 'vitest';
import { StatementCatalog } from '../../../lib/client/statement-catalog.js';
import { opening, transactionControl } from '../../../lib/transaction/control.js';
import { resolveTransactionOptions, type TransactionOptions } from '../../../lib/transaction/transaction-options.js';

describe('the word by which a text ends the transaction', () => {
  it.each([
    ['COMMIT', 'COMMIT'],
    ['commit;', 'COMMIT'],
    ['  End', 'END'],
    ['ABORT', 'ABORT'],
    ['begin', 'BEGIN'],
    ['BEGIN ISOLATION LEVEL SERIALIZABLE', 'BEGIN'],
    ['START  TRANSACTION', 'START TRANSACTION'],
    ['ROLLBACK', 'ROLLBACK'],
    ['rollback and chain', 'ROLLBACK'],
    ['ROLLBACK WORK', 'ROLLBACK'],
    ['ROLLBACK PREPARED', 'ROLLBACK'],
    ["PREPARE TRANSACTION 'x'", 'PREPARE TRANSACTION'],
    ['-- why\nCOMMIT', 'COMMIT'],
    ['-- why\r\n\tCOMMIT', 'COMMIT'],
    ['/* why */ COMMIT', 'COMMIT'],
    ['/* 2 * 3 / 4 */ /**/ -- and\n COMMIT', 'COMMIT'],
    ['/* a /* b */ c */ COMMIT', 'COMMIT'],
    ['--\nCOMMIT', 'COMMIT'],
    ['COMMIT/* at once */', 'COMMIT'],
    ['ROLLBACK -- to the start', 'ROLLBACK'],
    [' ; COMMIT', 'COMMIT'],
  ])('of %j is %s', (text, word) => expect(transactionControl(text)).toBe(word));

  it.each([
    ['ROLLBACK TO SAVEPOINT a'],
    ['ROLLBACK TO a'],
    ['rollback work to savepoint a'],
    ['ROLLBACK TRANSACTION TO a'],
    ['SAVEPOINT a'],
    ['RELEASE a'],
    ["SELECT 'COMMIT'"],
    ['-- COMMIT\nSELECT 1'],
    ['/* COMMIT */ SELECT 1'],
    ['/* /* */ COMMIT */ SELECT 1'],
    ['committed'],
    ['endpoint'],
    ['PREPARE a AS SELECT 1'],
    ['START'],
    [''],
    ['/* COMMIT'],
    ['-- COMMIT'],
  ])('is none in %j', (text) => expect(transactionControl(text)).toBeUndefined());

  // A regular expression that tries every way to cut a line of dashes into comments would take years for this.
  it.each([
    ['dashes', '-'.repeat(1_000)],
    ['comments in one line', '-- '.repeat(1_000)],
    ['comments in a row', '/**/'.repeat(10_000)],
    ['opened comments', '/*'.repeat(10_000)],
    ['blanks', ' '.repeat(100_000)],
  ])('is found at once behind many %s', (_, text) => {
    expect(transactionControl(`${text}\nSELECT 1`)).toBeUndefined();
  });
});

describe('what opens a transaction', () => {
  const opened = (options: TransactionOptions, version = '18.1'): { text: string; values: unknown }[] => {
    const catalog = new StatementCatalog(0, () => undefined);
    return opening(resolveTransactionOptions(options), catalog, version).map(({ statement, values }) => ({
      text: statement.text,
      values,
    }));
  };

  it('is a bare BEGIN where nothing is asked for', () => {
    expect(opened({})).toEqual([{ text: 'BEGIN', values: undefined }]);
    expect(opened({ deferrable: false })).toEqual([{ text: 'BEGIN', values: undefined }]);
  });

  it('names the modes that are asked for, and no others', () => {
    expect(opened({ isolation: 'repeatable read' })[0]?.text).toBe('BEGIN ISOLATION LEVEL REPEATABLE READ');
    expect(opened({ readOnly: false })[0]?.text).toBe('BEGIN READ WRITE');
    expect(opened({ isolation: 'serializable', readOnly: true, deferrable: true })[0]?.text).toBe(
      'BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE',
    );
  });

  it('sets everything in one statement by parameters, the role last', () => {
    expect(opened({ role: 'r', settings: { 'app.tenant': "o'hara", work_mem: 64, jit: false } }, '16.2')).toEqual([
      { text: 'BEGIN', values: undefined },
      {
        text: 'SELECT set_config($1, $2, true), set_config($3, $4, true), set_config($5, $6, true), set_config($7, $8, true)',
        values: ['app.tenant', "o'hara", 'work_mem', '64', 'jit', 'false', 'role', 'r'],
      },
    ]);
  });

  it('has the server keep the time as well, a second later, where it can', () => {
    for (const version of ['17.0', '18beta1', '20devel']) {
      expect(opened({ timeoutMillis: 500 }, version)[1]?.values).toEqual(['transaction_timeout', '1500']);
    }
    for (const version of ['16.9', '9.6.24', '', 'strange'])
      expect(opened({ timeoutMillis: 500 }, version)).toHaveLength(1);
    expect(opened({}, '18.0')).toHaveLength(1);
  });
});
