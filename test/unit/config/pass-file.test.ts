import { describe, expect, it } from 'vitest';
import { findPassword, readPassFile } from '../../../lib/config/pass-file.js';
import { world } from './world.js';

const key = { host: 'h', port: '5432', database: 'd', user: 'u' };

describe('findPassword', () => {
  it.each([
    ['h:5432:d:u:pw', key, 'pw'],
    ['*:*:*:*:pw', key, 'pw'],
    ['x:*:*:*:no\nh:*:*:*:yes\n*:*:*:*:later', key, 'yes'],
    ['h:5432:d:u:p\\:w\\\\x:rest', key, 'p:w\\x'],
    ['h:5432:d:u:pw\\', key, 'pw\\'],
    ['h:5432:d:u:', key, ''],
    ['h:5432:d:u', key, undefined],
    ['#*:*:*:*:pw', key, undefined],
    [' #\n\n*:*:*:*:pw\r\n', key, 'pw'],
    ['hh:*:*:*:pw', key, undefined],
    ['*h:*:*:*:pw', key, undefined],
    ['\\:\\:1:*:*:*:pw', { ...key, host: '::1' }, 'pw'],
    // A colon needs its backslash only where the field could end.
    ['::1:*:*:*:pw', { ...key, host: '::1' }, 'pw'],
    ['::1:*:*:*:pw', { ...key, host: ':' }, undefined],
    ['*:*:a\\\\b:*:pw', { ...key, database: 'a\\b' }, 'pw'],
    // Only a bare asterisk is a wildcard; escaped it is the sign itself.
    ['*:*:\\*:*:pw', { ...key, database: '*' }, 'pw'],
    ['*:*:\\*:*:pw', key, undefined],
    ['', key, undefined],
  ])('finds in %j for %j', (text, wanted, password) => {
    expect(findPassword(text, wanted)).toBe(password);
  });
});

describe('readPassFile', () => {
  it.each([
    ['private', { text: 'x', mode: 0o600 }, 'x', undefined],
    ['readable by the group', { text: 'x', mode: 0o640 }, undefined, /permissions should be u=rw \(0600\)/],
    ['executable by others', { text: 'x', mode: 0o601 }, undefined, /permissions/],
    ['a directory', { kind: 'other' as const, mode: 0o700 }, undefined, /not a plain file/],
    ['unreadable', { mode: 0o600 }, undefined, undefined],
  ])('reads one that is %s', (_, file, text, warning) => {
    const context = world({ files: { '/p': file } });
    expect(readPassFile('/p', 'The file', context)).toBe(text);
    expect(context.warnings).toEqual(warning === undefined ? [] : [expect.stringMatching(warning)]);
  });

  it('does not look at permissions on Windows', () => {
    const context = world({ platform: 'win32', files: { 'C:\\p': { text: 'x', mode: 0o666 } } });
    expect(readPassFile('C:\\p', 'The file', context)).toBe('x');
  });
});
