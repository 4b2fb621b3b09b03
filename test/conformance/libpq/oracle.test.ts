import { createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { afterAll, describe, expect, it } from 'vitest';
import { resolveConfig } from '../../../lib/config/resolve-config.js';
import { createAuthority } from '../../support/certificates.js';
import { Libpq, libpqPath } from '../../support/libpq.js';
import { sessionsOf, useServer, waitFor } from '../../support/postgres.js';

/** That the judge itself connects as psql does: a broken one would agree with anything. */
describe.skipIf(libpqPath() === undefined)('the real libpq', () => {
  const libpq = libpqPath() === undefined ? undefined : new Libpq();
  const server = useServer(async () => {
    const { certPem, keyPem } = await (await createAuthority('root')).issue({ cn: 'localhost', dns: ['localhost'] });
    return { ssl: { cert: certPem, key: keyPem } };
  });
  afterAll(() => libpq?.close());

  const target = (): string =>
    `host=127.0.0.1 port=${server().port} user=${server().user} password=${server().password} dbname=${server().database}`;
  const connect: Libpq['connect'] = (conninfo, options) => {
    if (libpq === undefined) throw new Error('skipped');
    return libpq.connect(`${target()} ${conninfo}`, options);
  };

  it('connects with TLS and without, and leaves', async () => {
    const [encrypted, plain] = await Promise.all([connect('sslmode=require'), connect('sslmode=disable')]);
    expect(encrypted).toMatchObject({ ok: true, error: '', sslInUse: true, sslAttributes: { protocol: 'TLSv1.3' } });
    expect(encrypted.hostaddr).toBe('127.0.0.1');
    expect(encrypted.port).toBe(String(server().port));
    expect(encrypted.pid).toBeGreaterThan(0);
    expect(plain).toMatchObject({ ok: true, sslInUse: false, usedPassword: true });
    await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'sessions are left' });
  });

  it('tells why it does not', async () => {
    expect(await connect('password=wrong')).toMatchObject({
      ok: false,
      sslInUse: false,
      error: expect.stringContaining('password authentication failed') as unknown,
    });
    expect(await connect('sslmode=verify-full', { env: { HOME: '/nonexistent' } })).toMatchObject({
      ok: false,
      error: expect.stringContaining('root certificate file') as unknown,
    });
  });

  it('has its environment for itself, call by call', async () => {
    const zones = ['UTC', 'Asia/Tokyo', 'America/Lima'];
    const outcomes = await Promise.all(zones.map((PGTZ) => connect('', { env: { PGTZ } })));
    expect(outcomes.map(({ parameters }) => parameters.TimeZone)).toEqual(zones);
  });

  it('is given up with its process when it does not answer in time', async () => {
    const silent = createServer().listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as AddressInfo;
    await expect(connect(`port=${port}`, { timeoutMillis: 200 })).rejects.toThrow('did not answer within 200 ms');
    silent.close();
    expect((await connect('')).ok).toBe(true);
  });

  it.each([
    ['application_name=a fallback_application_name=b', {}],
    ['fallback_application_name=b', {}],
    ["application_name='' fallback_application_name=b", {}],
    ["options='-c timezone=UTC'", { PGTZ: 'Asia/Tokyo', PGDATESTYLE: 'German' }],
    ['', { PGTZ: 'default', PGDATESTYLE: 'Default', PGAPPNAME: 'e', PGOPTIONS: '-c timezone=UTC' }],
  ] as [string, Record<string, string>][])('is given the session that %j with %j describes', async (conninfo, env) => {
    const theirs = (await connect(conninfo, { env })).parameters;
    // The same session by keywords only. The server reads `options` first: a parameter of its own wins over them.
    const {
      application_name = '',
      options = '',
      datestyle,
      timezone,
    } = resolveConfig({ connectionString: conninfo }, { env }).session;
    const parameters = [options, datestyle && `-c datestyle=${datestyle}`, timezone && `-c timezone=${timezone}`];
    const quoted = parameters.filter(Boolean).join(' ');
    const ours = (await connect(`application_name='${application_name}' options='${quoted}'`)).parameters;
    expect(ours).toEqual(theirs);
  });
});
