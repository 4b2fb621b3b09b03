import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tls from 'node:tls';
import { afterAll, describe, expect, it } from 'vitest';
import { createAuthority } from '../../unit/tls/authority.js';
import type { Leaf } from '../../unit/tls/authority.js';
import { NAME_CASES } from '../../unit/tls/name-cases.js';
import { Libpq, libpqPath } from '../../support/libpq.js';

const ACCEPTED = 'the name was accepted';

/** As much of a PostgreSQL server as it takes to see whether a client goes on after the handshake. */
async function serve(leaf: Leaf): Promise<Server> {
  const context = tls.createSecureContext({ cert: leaf.cert, key: leaf.keyPem });
  const fields = `SFATAL\0C28000\0M${ACCEPTED}\0\0`;
  const answer = Buffer.concat([Buffer.from('E'), Buffer.alloc(4), Buffer.from(fields)]);
  answer.writeUInt32BE(answer.length - 1, 1);
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => {
      socket.write('S');
      const secure = new tls.TLSSocket(socket, { isServer: true, secureContext: context });
      secure.on('error', () => undefined).once('data', () => secure.end(answer));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

describe.runIf(libpqPath())("libpq's own verdict on the names of a certificate", async () => {
  const authority = await createAuthority();
  const libpq = new Libpq();
  const directory = mkdtempSync(join(tmpdir(), 'nestjs-pg-names-'));
  const root = join(directory, 'root.crt');
  writeFileSync(root, authority.cert);
  afterAll(async () => {
    await libpq.close();
    rmSync(directory, { recursive: true });
  });

  it.each(NAME_CASES)('%s (%s)', async (_, host, options, refused) => {
    const server = await serve(await authority.issue(options));
    const { port } = server.address() as AddressInfo;
    const { error } = await libpq.connect(
      `host='${host}' hostaddr=127.0.0.1 port=${port} user=u dbname=d sslmode=verify-full sslrootcert='${root}' gssencmode=disable`,
      { env: { HOME: directory } },
    );
    server.close();
    expect({ accepted: error.includes(ACCEPTED), error }).toEqual({
      accepted: !refused,
      error: expect.anything() as string,
    });
  });
});
