// @peculiar/x509 finds its parts through decorator metadata, which must be there before it is loaded.
import 'reflect-metadata';
import { KeyObject, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { PostgresOptions } from 'nestjs-pg/testing';
import { stockPg } from '../../stock-pg.js';

/** Needs no password. */
export const TRUSTED = 'bench_trusted';
/** Proves that it knows {@link PASSWORD} by SCRAM. */
export const SCRAM = 'bench_scram';
export const PASSWORD = 'a password of the benchmark';

const DAY_MILLIS = 24 * 60 * 60 * 1000;

/** With and without TLS; which password is asked for depends on the role. */
export async function serverOptions(): Promise<PostgresOptions> {
  return {
    ssl: await selfSigned(),
    hba: [
      'local all all trust',
      `host all ${TRUSTED} all trust`,
      // The superuser comes in here too, with the password that the launcher gave it.
      'host all all all scram-sha-256',
    ],
  };
}

export async function createRoles(connectionString: string): Promise<void> {
  const client = new stockPg.Client({ connectionString });
  await client.connect();
  try {
    await client.query(`DROP ROLE IF EXISTS ${TRUSTED}, ${SCRAM}`);
    await client.query(`CREATE ROLE ${TRUSTED} LOGIN`);
    await client.query(`CREATE ROLE ${SCRAM} LOGIN PASSWORD '${PASSWORD}'`);
  } finally {
    await client.end();
  }
}

/** The server's certificate, as it says itself: nobody issued it but the server. */
export async function certificateOf(connectionString: string): Promise<string> {
  const client = new stockPg.Client({ connectionString });
  await client.connect();
  try {
    const { rows } = await client.query<{ pem: string }>(
      `SELECT pg_read_file(current_setting('ssl_cert_file')) AS pem`,
    );
    return rows[0]?.pem ?? '';
  } finally {
    await client.end();
  }
}

async function selfSigned(): Promise<{ cert: string; key: string }> {
  const signingAlgorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await webcrypto.subtle.generateKey(signingAlgorithm, true, ['sign', 'verify']);
  x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=bench',
    notBefore: new Date(Date.now() - DAY_MILLIS),
    notAfter: new Date(Date.now() + DAY_MILLIS),
    signingAlgorithm,
    keys,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'ip', value: '127.0.0.1' }])],
  });
  const key = KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' });
  return { cert: certificate.toString('pem'), key: String(key) };
}
