import { createHash } from 'node:crypto';
import { copyFrom, copyTo, createPool, type PgOptions } from 'nestjs-pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { createAuthority } from '../../support/certificates.js';
import { findPgBouncer, startPgBouncer } from '../../support/pgbouncer.js';
import { adminQuery, useServer } from '../../support/postgres.js';

const ROWS = 50_000;
const authority = await createAuthority('Root');
const { certPem: cert, keyPem: key } = await authority.issue({ dns: ['localhost'], ips: ['127.0.0.1'] });
const bouncer = await findPgBouncer();
const skipped = typeof bouncer === 'string' ? ` (skipped: ${bouncer})` : '';
const server = useServer({ ssl: { cert, key } });

beforeAll(() => adminQuery(server(), 'CREATE TABLE item (id int, name text, at timestamptz)'));

function* rows(): Generator<[number, string, Date]> {
  for (let id = 1; id <= ROWS; id++) yield [id, `näme\t${id}\n${'x'.repeat(id % 300)}`, new Date(id * 1_000)];
}

/** In, and out again; megabytes of it, so that either side has to wait for the other. */
async function expectCopies(options: PgOptions): Promise<void> {
  await using pool = createPool({ ...options, pool: { max: 1 } });
  await adminQuery(server(), 'TRUNCATE item');
  expect(await copyFrom(pool, { table: 'item', columns: ['id', 'name', 'at'] }, rows())).toMatchObject({ rows: ROWS });
  const out = createHash('md5');
  let lines = 0;
  for await (const chunk of copyTo(pool, {
    query: 'SELECT id, name FROM item ORDER BY id',
    format: 'text',
  }) as AsyncIterable<Buffer>) {
    out.update(chunk);
    for (const byte of chunk) if (byte === 10) lines++;
  }
  expect(lines).toBe(ROWS);
  const expected = createHash('md5');
  for (const [id, name] of rows()) expected.update(`${id}\t${name.replace('\t', '\\t').replace('\n', '\\n')}\n`);
  expect(out.digest('hex')).toBe(expected.digest('hex'));
  expect(pool.stats()).toMatchObject({ connects: 1, leased: 0 });
}

describe('COPY of megabytes in and out', () => {
  it('over TLS', () => {
    const { connectionString } = server();
    return expectCopies({ connectionString, ssl: { mode: 'verify-full', ca: authority.certPem } });
  });

  it.skipIf(skipped !== '')(`through PgBouncer in transaction mode${skipped}`, async () => {
    await using pooler = await startPgBouncer(server(), { pool_mode: 'transaction' });
    const { user, password, database } = server();
    await expectCopies({ host: pooler.host, port: pooler.port, user, password, database, ssl: 'disable' });
  });
});
