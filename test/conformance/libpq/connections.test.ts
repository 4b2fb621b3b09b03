import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Libpq, libpqPath } from '../../support/libpq.js';
import { adminQuery, useServer } from '../../support/postgres.js';
import { Duel } from './duel.js';
import { makeMaterial } from './material.js';
import { HBA, matrix, ROLES_SQL } from './matrix.js';
import { Verdict } from './verdict.js';

const WANTED_CONNECTIONS = 400;

/** Each group is a state of one server; all settings of a group go through libpq and through this package. */
describe.skipIf(libpqPath() === undefined)('connections through the real libpq and through ours', async () => {
  const material = await makeMaterial('certified');
  const server = useServer({ hba: HBA, ssl: material.servers.named });
  const verdict = new Verdict();
  let libpq: Libpq;
  let duel: Duel;
  beforeAll(async () => {
    await adminQuery(server(), ROLES_SQL);
    libpq = new Libpq({ processes: 3 });
    duel = await Duel.open(libpq, server());
  });
  afterAll(async () => {
    await duel[Symbol.asyncDispose]();
    await libpq.close();
    await material[Symbol.asyncDispose]();
  });

  it.each(matrix(material))(
    'come to the same: $name',
    async ({ name, ssl, versions, cases }) => {
      await server().setSettings({
        ssl_min_protocol_version: undefined,
        ssl_max_protocol_version: undefined,
        ...versions,
      });
      await server().setSsl(ssl);
      const bouts = (await duel.fight(cases)).map((bout) => ({ ...bout, group: name }));
      expect(verdict.judge(bouts)).toEqual([]);
    },
    120_000,
  );

  it('differ on purpose where the table says so, and nowhere else', () => {
    expect(verdict.stale('real')).toEqual([]);
    expect(verdict.connections).toBeGreaterThan(WANTED_CONNECTIONS);
    console.log(verdict.summary);
  });
});
