import { describe, expect, it } from 'vitest';
import { assertKnownKeys, editDistance, nearest } from '../../../lib/config/unknown-option.js';

describe('assertKnownKeys', () => {
  const known = ['host', 'port', 'password'];
  const hints = { max: 'it belongs to the pool; write pool: { max: ... }' };
  const check = (value: unknown): void => assertKnownKeys(value, known, 'settings', hints);

  it('takes known keys, also of an object of a class', () => {
    class Settings {
      host = 'a';
    }
    check({ host: 'a', port: 1 });
    check(new Settings());
    check(Object.create(null));
  });

  it.each([
    [{ prot: 1 }, 'Unknown key "prot" in the settings: did you mean "port"?'],
    [{ passwrod: 1 }, 'did you mean "password"?'],
    [{ max: 1 }, 'Unknown key "max" in the settings: it belongs to the pool; write pool: { max: ... }'],
    [{ maxx: 1 }, 'did you mean "max"? If so: it belongs to the pool'],
    [{ completelyElse: 1 }, 'Known are: host, port, password.'],
    [{ toString: 1 }, 'Unknown key "toString"'],
  ])('refuses %j', (value, message) => {
    expect(() => check(value)).toThrow(message);
  });

  it.each([
    [undefined, 'undefined'],
    [null, 'null'],
    ['text', 'a string'],
    [[], 'an array'],
    [new Map(), 'a Map'],
    [Promise.resolve(), 'a Promise'],
    [new URL('http://h'), 'a URL'],
    [() => ({}), 'a function'],
  ])('refuses what is no options object: %s', (value, kind) => {
    expect(() => check(value)).toThrow(`must be an object with named values, not ${kind}.`);
  });
});

describe('editDistance', () => {
  it.each([
    ['abc', 'abc', 0],
    ['abc', 'acb', 1],
    ['abc', 'ab', 1],
    ['abc', 'abcd', 1],
    ['abc', 'axc', 1],
    ['Abc', 'aBC', 0],
    ['', 'abc', 3],
    ['kitten', 'sitting', 3],
  ])('is, from %j to %j, %d', (a, b, distance) => {
    expect(editDistance(a, b)).toBe(distance);
  });

  it('finds no neighbour for what is far from all', () => {
    expect(nearest('xyz', ['host', 'port'])).toBeUndefined();
  });
});
