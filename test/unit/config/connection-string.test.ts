import { describe, expect, it } from 'vitest';
import { parseConnectionString } from '../../../lib/config/connection-string.js';
import { PgModuleError } from '../../../lib/errors/pg-module.error.js';

const taken: readonly (readonly [string, Record<string, string>])[] = [
  ['', {}],
  [' \t\n\v\f\r', {}],
  ['host=a port=5', { host: 'a', port: '5' }],
  ['host = a\nport\t=\t5', { host: 'a', port: '5' }],
  ["dbname='my db' user='o\\'reilly'", { dbname: 'my db', user: "o'reilly" }],
  ["host='a'port=5", { host: 'a', port: '5' }],
  ['user=a\\ b password=c\\\\d', { user: 'a b', password: 'c\\d' }],
  ['password=a\\', { password: 'a' }],
  ["password='' user=", { password: '', user: '' }],
  ["user=a'b'c", { user: "a'b'c" }],
  ['host=a host=b', { host: 'b' }],
  ['requiressl=1', { sslmode: 'require' }],
  ['requiressl=0', { sslmode: 'prefer' }],
  ['user=a\u00a0b', { user: 'a\u00a0b' }],
  ['postgresql://', {}],
  [
    'postgres://u:p@h:1/d?sslmode=require',
    { user: 'u', password: 'p', host: 'h', port: '1', dbname: 'd', sslmode: 'require' },
  ],
  ['postgres://h1:1,h2,[::1]:3/', { host: 'h1,h2,::1', port: '1,,3' }],
  ['postgres://%2Fvar%2Frun/d', { host: '/var/run', dbname: 'd' }],
  ['postgres:///d?host=/tmp&port=5', { dbname: 'd', host: '/tmp', port: '5' }],
  ['postgres://h?ssl=true', { host: 'h', sslmode: 'require' }],
  ['postgres://h?ssl=true&sslmode=disable', { host: 'h', sslmode: 'disable' }],
  ['postgres://h?user=a&user=b&', { host: 'h', user: 'b' }],
  ['postgres://us%C3%A9r%40x:p%3Aw@h', { user: 'usér@x', password: 'p:w', host: 'h' }],
  ['postgres:// u : p @h', { user: 'u', password: 'p', host: 'h' }],
  // No slash before the "@": all of it is the user, as libpq reads it.
  ['postgres://h?user=a@b', { user: 'h?user=a', host: 'b' }],
  ['postgres://h/d#e', { host: 'h', dbname: 'd#e' }],
  ['postgres://u%FF@h?user=x', { user: 'x', host: 'h' }],
  ['postgres://h?sslmode=%FF&requiressl=1%FF', { host: 'h', sslmode: 'require' }],
];

const refused: readonly (readonly [string, RegExp])[] = [
  ['host', /lacks a "=" after the word at position 1\b/],
  ['host=a port', /position 8\b/],
  ['hots=a', /position 1 .*did you mean "host"/],
  ['foo=a', /keyword at position 1 of the connection string is not one of libpq's/],
  ['__proto__=a', /position 1/],
  ['toString=a', /position 1/],
  ["password='a", /single quote at position 10 .* never closed/],
  ["password='a\\'", /never closed/],
  ['user=\0', /NUL character at position 6/],
  ['postgre://h', /must be a URI/],
  ['Postgres://h', /must be a URI/],
  ['postgres://[::1', /"\[" at position 12 .* has no "\]"/],
  ['postgres://[]', /address at position 12 .* is empty/],
  ['postgres://[::1]z', /At position 17/],
  ['postgres://h?a', /parameter at position 14 .* has no "="/],
  ['postgres://h?port=1=2', /more than one "="/],
  ['postgres://h?&port=1', /no "="/],
  ['postgres://h?prot=1', /position 14 .*did you mean "port"/],
  ['postgres://h?ssl=false', /position 14/],
  ['postgres://h/%zz', /dbname at position 14 .* two hexadecimal digits/],
  ['postgres://%00', /a NUL is not allowed/],
  ['postgres://h/a b', /blank inside the dbname/],
  ['postgres://u%FF@h', /user at position 12 .* not UTF-8/],
];

describe('parseConnectionString', () => {
  it.each(taken)('takes %j', (text, values) => {
    expect(parseConnectionString(text)).toEqual(values);
  });

  it.each(refused)('refuses %j and says where', (text, message) => {
    let caught: unknown;
    try {
      parseConnectionString(text);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(PgModuleError);
    expect(caught).toMatchObject({ code: 'PG_CONFIG_INVALID', message: expect.stringMatching(message) as unknown });
  });

  it('refuses what is no string', () => {
    expect(() => parseConnectionString(undefined as unknown as string)).toThrow('must be a string');
  });
});
