import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { ScramKeys } from '../../../lib/client/scram-keys.js';

const TERMS = { salt: 'W22ZaJ0SNY7soEsUEjb6gQ==', iterations: 4096 };
const salt = (number: number): string => Buffer.from(`salt-${number}`).toString('base64');

describe('the keys of a factory', () => {
  it('are derived once for the same password, salt and count, also by those that ask at the same time', async () => {
    const keys = new ScramKeys();
    const [one, two] = await Promise.all([keys.of('pencil', TERMS), keys.of('pencil', { ...TERMS })]);
    expect(two).toBe(one);
    expect(await keys.of('pencil', TERMS)).toBe(one);
  });

  it.each([
    ['salt', { ...TERMS, salt: salt(1) }],
    ['count', { ...TERMS, iterations: 4097 }],
  ])('are others for another %s', async (_, others) => {
    const keys = new ScramKeys();
    const one = await keys.of('pencil', TERMS);
    const two = await keys.of('pencil', others);
    expect(two.reveal().clientKey).not.toEqual(one.reveal().clientKey);
    expect(two.reveal().serverKey).not.toEqual(one.reveal().serverKey);
    expect(await keys.of('pencil', TERMS)).toBe(one);
    expect(await keys.of('pencil', others)).toBe(two);
  });

  it('are others for another password, which makes it forget those of the one before', async () => {
    const keys = new ScramKeys();
    const before = await keys.of('pencil', TERMS);
    const other = await keys.of('crayon', TERMS);
    expect(other.reveal()).not.toEqual(before.reveal());
    const again = await keys.of('pencil', TERMS);
    expect(again).not.toBe(before);
    expect(again.reveal()).toEqual(before.reveal());
  });

  it('are derived anew when they have been forgotten', async () => {
    const keys = new ScramKeys();
    const one = await keys.of('pencil', TERMS);
    keys.forget({ ...TERMS, salt: salt(1) });
    expect(await keys.of('pencil', TERMS)).toBe(one);
    keys.forget(TERMS);
    expect(await keys.of('pencil', TERMS)).not.toBe(one);
  });

  it('are kept for the eight salts used last', async () => {
    const keys = new ScramKeys();
    const of = (number: number): Promise<unknown> => keys.of('pencil', { salt: salt(number), iterations: 1 });
    const first = await of(1);
    const second = await of(2);
    for (let number = 3; number <= 8; number++) await of(number);
    expect(await of(1)).toBe(first);
    await of(9);
    expect(await of(1)).toBe(first);
    expect(await of(2)).not.toBe(second);
  });

  it('show nowhere, nor does the password', async () => {
    const keys = new ScramKeys();
    const secret = await keys.of('pencil', TERMS);
    const { clientKey, storedKey, serverKey } = secret.reveal();
    const shown = [keys, secret].flatMap((one) => [
      inspect(one, { depth: 12, showHidden: true }),
      JSON.stringify(one),
      JSON.stringify(Object.entries(one)),
    ]);
    for (const text of shown) {
      expect(text).not.toContain('pencil');
      for (const key of [clientKey, storedKey, serverKey]) {
        expect(text).not.toContain(key.toString('base64'));
        expect(text).not.toContain(key.toString('hex').slice(0, 8));
        expect(text).not.toContain(inspect(key).slice(8, 30));
      }
    }
  });
});
