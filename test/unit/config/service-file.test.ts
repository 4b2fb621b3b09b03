import { describe, expect, it } from 'vitest';
import { parseServiceFile, readService } from '../../../lib/config/service-file.js';
import { world } from './world.js';

const parse = (text: string): unknown => parseServiceFile(text, 'svc', '/f');

describe('parseServiceFile', () => {
  it.each([
    ['[svc]\nuser=a\n', { user: 'a' }],
    ['[x]\nuser=a\n[svc]\nuser=b\n[y]\nuser=c\n', { user: 'b' }],
    ['[svc]\nuser=a\nuser=b\n', { user: 'a' }],
    ['  [svc] whatever\n  # comment\n\n  user=a # b  \r\n', { user: 'a # b' }],
    ['[svc]\nuser= a\n', { user: ' a' }],
    ['[svc]\noptions=-c a=b', { options: '-c a=b' }],
    ['[svc]\n[svc]\nuser=a\n', {}],
    // What stands in other sections, or behind the wanted one, is not looked at.
    ['[x]\nnonsense\n[svc]\nuser=a\n[y]\nnonsense\n', { user: 'a' }],
    ['[svcs]\nuser=a\n', undefined],
    ['', undefined],
  ])('reads %j', (text, values) => {
    expect(parse(text)).toEqual(values);
  });

  it.each([
    ['[svc]\nnonsense\n', /line 2 of the service file \/f has no "="/],
    ['[svc]\nldap://x\n', /LDAP/],
    ['[svc]\nuser =a\n', /line 2 .* without blanks between/],
    ['[svc]\nrequiressl=1\n', /line 2/],
    ['[svc]\nservice=x\n', /line 2 .* names another service/],
    [`[svc]\n#${'x'.repeat(1021)}\n`, /line 2 .* longer than 1022 bytes/],
  ])('refuses %j', (text, message) => {
    expect(() => parse(text)).toThrow(message);
  });
});

describe('readService', () => {
  const home = '/home/me/.pg_service.conf';
  const etc = '/etc/postgresql-common/pg_service.conf';
  const section = (user: string): string => `[svc]\nuser=${user}\n`;

  it.each([
    ['the home file', { files: { [home]: section('home'), [etc]: section('etc') } }, home],
    ['the system file when the other lacks it', { files: { [home]: '[x]\n', [etc]: section('etc') } }, etc],
    ['PGSERVICEFILE', { env: { PGSERVICEFILE: '/f' }, files: { '/f': section('f'), [home]: section('home') } }, '/f'],
    [
      'PGSYSCONFDIR',
      { env: { PGSYSCONFDIR: '/s' }, files: { '/s/pg_service.conf': section('s'), [etc]: section('etc') } },
      '/s/pg_service.conf',
    ],
    [
      'HOME before the account',
      { env: { HOME: '/h' }, files: { '/h/.pg_service.conf': section('h') } },
      '/h/.pg_service.conf',
    ],
    [
      'APPDATA on Windows',
      {
        platform: 'win32' as const,
        env: { APPDATA: 'C:\\Data' },
        files: { 'C:\\Data\\postgresql\\.pg_service.conf': section('w') },
      },
      'C:\\Data\\postgresql\\.pg_service.conf',
    ],
  ])('finds %s', (_, options, file) => {
    expect(readService('svc', '"svc"', world({ home: '/home/me', ...options })).file).toBe(file);
  });

  it('says where it has looked', () => {
    const context = world({ home: '/home/me', files: { [home]: '[x]\n', [etc]: '[y]\n' } });
    expect(() => readService('svc', '"svc"', context)).toThrow(
      `The service "svc" is not defined in ${home} and ${etc}.`,
    );
    expect(() => readService('svc', '"svc"', world())).toThrow('none was found');
  });

  it('does not go on when PGSERVICEFILE is missing', () => {
    const context = world({ env: { PGSERVICEFILE: '/no' }, files: { [etc]: section('etc') } });
    expect(() => readService('svc', '"svc"', context)).toThrow('The service file /no cannot be read.');
  });
});
