import { describe, expect, it } from 'vitest';
import { parseRequireAuth } from '../../../lib/config/require-auth.js';

describe('parseRequireAuth', () => {
  it.each([
    ['scram-sha-256', ['scram-sha-256'], false],
    ['md5,none,oauth', ['md5', 'none', 'oauth'], false],
    ['!password,!md5', ['password', 'md5'], true],
    ['!none', ['none'], true],
  ])('reads %j', (text, methods, negated) => {
    const result = parseRequireAuth(text, 'require_auth');
    expect([...(result?.methods ?? [])]).toEqual(methods);
    expect(result?.negated).toBe(negated);
  });

  it('takes the empty text as any method', () => {
    expect(parseRequireAuth('', 'require_auth')).toBeUndefined();
  });

  it.each([
    ['md5,!password', /Method 2 of require_auth must not begin with "!"/],
    ['!md5,password', /Method 2 of require_auth must begin with "!"/],
    ['md5,md5', /Method 2 .* listed more than once/],
    ['!none,!none', /listed more than once/],
    ['scram', /Method 1 .* is none of none, password/],
    ['md5,', /Method 2/],
    [' md5', /Method 1/],
  ])('refuses %j', (text, message) => {
    expect(() => parseRequireAuth(text, 'require_auth')).toThrow(message);
  });
});
