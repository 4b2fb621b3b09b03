import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Libpq, libpqPath } from '../../support/libpq.js';
import { startScriptedServer } from '../../support/scripted-server.js';
import { axis, cross, Duel, OWN_PORT, type Settings } from './duel.js';
import { HOST, makeMaterial, SECRETS } from './material.js';
import { MODES } from './matrix.js';
import { encryptedScripts, letInPlainly, plainScripts } from './scripts.js';
import { Verdict } from './verdict.js';

/** Servers that say what no PostgreSQL says, and hosts of which the first has something wrong. */
describe.skipIf(libpqPath() === undefined)('odd servers through the real libpq and through ours', async () => {
  const material = await makeMaterial('certified');
  const { cert, key } = material.servers.named;
  const scripts = { ...plainScripts, ...encryptedScripts({ cert, key }) };
  const verdict = new Verdict();
  let libpq: Libpq;
  beforeAll(() => {
    libpq = new Libpq({ processes: 3 });
  });
  afterAll(async () => {
    await libpq.close();
    await material[Symbol.asyncDispose]();
  });

  const ground: Settings = {
    host: HOST,
    hostaddr: '127.0.0.1',
    user: 'scram',
    dbname: 'postgres',
    password: SECRETS.password,
    HOME: material.home('empty'),
  };
  const modes = axis('sslmode', MODES);
  const bindings = axis('channel_binding', ['disable', undefined, 'require']);
  const methods = axis('require_auth', ['none', 'scram-sha-256', 'password', '!password']);
  const root: Settings = { sslrootcert: material.path('root.crt') };

  it.each(Object.entries(scripts))('come to the same: %s', async (group, script) => {
    await using server = await startScriptedServer(script);
    await using duel = await Duel.open(libpq, server);
    const settings = [
      ...cross({ ...ground, ...root }, modes, bindings),
      ...cross({ ...ground, sslnegotiation: 'direct', sslmode: 'require' }, bindings),
      ...cross(ground, axis('sslmode', ['disable', 'prefer']), methods),
      ...cross({ ...ground, password: '' }, axis('sslmode', ['disable', 'prefer'])),
    ];
    const bouts = (await duel.fight(settings)).map((bout) => ({ ...bout, group }));
    expect(verdict.judge(bouts)).toEqual([]);
    expect(server.errors).toEqual([]);
  });

  // What a host list makes of those that differ anyhow says nothing of host lists.
  const settled = Object.entries(scripts).filter(
    ([name]) => !/more bytes|SCRAM( ended early|, then)|notice/.test(name),
  );

  it.each([...settled, ['nobody', undefined] as const])(
    'take or do not take the second host: first %s',
    async (name, script) => {
      await using first = await startScriptedServer(script ?? ((connection) => connection.end()));
      if (!script) await first.close();
      await using second = await startScriptedServer(letInPlainly);
      await using duel = await Duel.open(libpq, second);
      const hosts = { host: `first.test,${HOST}`, hostaddr: '127.0.0.1,127.0.0.1', port: `${first.port},${OWN_PORT}` };
      const settings = cross({ ...ground, ...hosts }, modes, axis('target_session_attrs', ['any', 'prefer-standby']));
      const bouts = (await duel.fight(settings)).map((bout) => ({ ...bout, group: `hosts: ${name}` }));
      expect(verdict.judge(bouts)).toEqual([]);
    },
  );

  it('differ on purpose where the table says so, and nowhere else', () => {
    expect(verdict.stale('scripted')).toEqual([]);
    console.log(verdict.summary);
  });
});
