import { describe, expect, it } from 'vitest';
import { resolveInnerOptions } from '../../../lib/transaction/inner-options.js';
import { resolveTransactionOptions, type TransactionOptions } from '../../../lib/transaction/transaction-options.js';

const resolve = (options: object): unknown => resolveTransactionOptions(options);

describe('the options of a transaction', () => {
  it('have defaults', () => {
    expect(resolveTransactionOptions(undefined)).toEqual({
      isolation: undefined,
      readOnly: undefined,
      deferrable: false,
      settings: [],
      role: undefined,
      timeoutMillis: 0,
      signal: undefined,
      retry: { attempts: 5, timeoutMillis: 10_000, baseMillis: 20, maxMillis: 1_000, when: undefined },
    });
    expect(resolve({})).toEqual(resolveTransactionOptions(undefined));
    expect(resolve({ retry: { attempts: undefined, baseMillis: 1 } })).toMatchObject({
      retry: { attempts: 5, baseMillis: 1 },
    });
    expect(resolve({ retry: false })).toMatchObject({ retry: { attempts: 1 } });
  });

  it.each([
    [
      { isolation: 'SERIALIZABLE' },
      /isolation is "SERIALIZABLE"; it must be one of read uncommitted, .*, serializable\./,
    ],
    [{ isolation: 'x; DROP TABLE y' }, /isolation/],
    [{ readOnly: 'yes' }, /readOnly must be true or false; it is a string/],
    [{ deferrable: 1 }, /deferrable must be true or false/],
    [{ deferrable: true }, /deferrable has an effect only with isolation: 'serializable' and readOnly: true/],
    [{ deferrable: true, isolation: 'serializable' }, /deferrable has an effect only/],
    [{ settings: [] }, /settings must be an object of names and values/],
    [{ settings: null }, /settings must be an object/],
    [{ settings: 'a=b' }, /settings must be an object/],
    [{ settings: { 'a b': 1 } }, /settings has "a b", which is no name/],
    [{ settings: { '': 1 } }, /settings has "", which is no name/],
    [{ settings: { "a', '1')--": 1 } }, /which is no name/],
    [{ settings: { a: undefined } }, /settings\.a must be a text, a number or a boolean/],
    [{ settings: { a: null } }, /settings\.a must be a text/],
    [{ settings: { a: {} } }, /settings\.a must be a text/],
    [{ role: '' }, /role must be the name of a role/],
    [{ role: 7 }, /role must be the name of a role; it is a number/],
    [{ timeoutMillis: 0 }, /timeoutMillis must be a whole number from 1 to 2147483647; it is 0/],
    [{ timeoutMillis: 1.5 }, /timeoutMillis must be a whole number/],
    [{ timeoutMillis: '5' }, /timeoutMillis must be a whole number/],
    [{ timeoutMillis: 2 ** 31 }, /timeoutMillis must be a whole number/],
    [{ signal: {} }, /signal must be an AbortSignal; it is an object/],
    [{ retry: true }, /retry/],
    [{ retry: { attempts: 0 } }, /retry\.attempts must be a whole number from 1/],
    [{ retry: { timeoutMillis: -1 } }, /retry\.timeoutMillis must be a whole number from 0/],
    [{ retry: { baseMillis: NaN } }, /retry\.baseMillis/],
    [{ retry: { maxMillis: Infinity } }, /retry\.maxMillis/],
    [{ retry: { when: '40001' } }, /retry\.when must be a function/],
    [{ retry: { tries: 2 } }, /tries/],
    [{ isolationLevel: 'serializable' }, /isolationLevel.*write isolation/s],
    [{ timeout: 5 }, /timeout.*write timeoutMillis/s],
    [{ readonly: true }, /readonly.*readOnly/s],
  ])('refuse %j and name what is wrong', (options, message) => {
    expect(() => resolve(options)).toThrow(
      expect.objectContaining({
        code: 'PG_CONFIG_INVALID',
        message: expect.stringMatching(message) as string,
      }) as Error,
    );
  });
});

describe('the options of an inner transaction', () => {
  const inner = (outer: TransactionOptions, options: TransactionOptions | undefined): unknown =>
    resolveInnerOptions(resolveTransactionOptions(outer), options);

  it.each<[TransactionOptions, TransactionOptions]>([
    [{ isolation: 'serializable' }, { isolation: 'read committed' }],
    [{ isolation: 'serializable' }, { isolation: 'serializable' }],
    [{}, { readOnly: true }],
    [{ readOnly: false }, { readOnly: false }],
    [{}, { readOnly: false }],
    [{ settings: { a: 1, b: 'x' } }, { settings: { a: '1' } }],
    [{ role: 'r' }, { role: 'r' }],
    [{}, { retry: { attempts: 3 } }],
    [{}, {}],
  ])('of %j may be %j', (outer, options) => {
    expect(inner(outer, options)).toMatchObject(resolveTransactionOptions(outer));
  });

  it.each<[TransactionOptions, TransactionOptions, RegExp]>([
    [{}, { isolation: 'serializable' }, /isolation: 'serializable' cannot be had.*the default of the server/],
    [{ isolation: 'read committed' }, { isolation: 'repeatable read' }, /begun with read committed/],
    [{ readOnly: true }, { readOnly: false }, /readOnly: false cannot be had/],
    [{}, { deferrable: true, isolation: 'serializable', readOnly: true }, /cannot be had/],
    [{}, { role: 'r' }, /role: "r" cannot be had.*no role/],
    [{ role: 's' }, { role: 'r' }, /begun with s/],
    [{}, { settings: { a: 1 } }, /settings\.a cannot be had/],
    [{ settings: { a: 2 } }, { settings: { a: 1 } }, /settings\.a cannot be had/],
    [{}, { timeoutMillis: 0 }, /timeoutMillis/],
  ])('of %j cannot be %j', (outer, options, message) => {
    expect(() => inner(outer, options)).toThrow(
      expect.objectContaining({
        code: 'PG_CONFIG_INVALID',
        message: expect.stringMatching(message) as string,
      }) as Error,
    );
  });

  it('keep their own time and signal', () => {
    const { signal } = new AbortController();
    expect(inner({ timeoutMillis: 5 }, undefined)).toMatchObject({ timeoutMillis: 0, signal: undefined });
    expect(inner({}, { timeoutMillis: 7, signal })).toMatchObject({ timeoutMillis: 7, signal });
  });
});
