import type { ConnectionSettings, SslOptions } from './settings.js';

/** Written as records so that a key added to the interface and forgotten here does not compile. */
const CONNECTION_KEYS: Record<keyof ConnectionSettings, true> = {
  connectionString: true,
  host: true,
  hostaddr: true,
  port: true,
  database: true,
  user: true,
  password: true,
  service: true,
  passfile: true,
  application_name: true,
  fallback_application_name: true,
  options: true,
  client_encoding: true,
  replication: true,
  statement_timeout: true,
  lock_timeout: true,
  idle_in_transaction_session_timeout: true,
  query_timeout: true,
  target_session_attrs: true,
  load_balance_hosts: true,
  channel_binding: true,
  require_auth: true,
  keepAlive: true,
  keepAliveInitialDelayMillis: true,
  types: true,
  ssl: true,
};

const SSL_KEYS: Record<keyof SslOptions, true> = {
  mode: true,
  ca: true,
  cert: true,
  key: true,
  passphrase: true,
  crl: true,
  crlDir: true,
  negotiation: true,
  minVersion: true,
  maxVersion: true,
  serverName: true,
  secureContext: true,
};

export const CONNECTION_SETTING_KEYS: readonly string[] = Object.freeze(Object.keys(CONNECTION_KEYS));

export const SSL_OPTION_KEYS: readonly string[] = Object.freeze(Object.keys(SSL_KEYS));

const inPool = (name: string): string => `it belongs to the pool; write pool: { ${name}: ... }`;
const inSsl = (name: string): string => `write ssl: { ${name}: ... }`;
const inString = (keyword: string): string => `libpq's ${keyword} goes into the connectionString`;

/** Options that pg, pg-pool, libpq and ORMs know under another name or in another place. */
export const CONNECTION_SETTING_HINTS: Readonly<Record<string, string>> = Object.freeze({
  max: inPool('max'),
  poolSize: inPool('max'),
  min: inPool('min'),
  idleTimeoutMillis: inPool('idleTimeoutMillis'),
  connectionTimeoutMillis:
    'it is two things here; write pool: { acquireTimeoutMillis: ..., connectTimeoutMillis: ... } ' +
    '(waiting for a free connection, and opening one)',
  connectTimeoutMillis: inPool('connectTimeoutMillis'),
  acquireTimeoutMillis: inPool('acquireTimeoutMillis'),
  maxUses: inPool('maxUses'),
  maxLifetimeSeconds: inPool('maxLifetimeSeconds'),
  maxLifetimeJitterSeconds: inPool('lifetimeJitter'),
  maxWaiting: inPool('maxWaiting'),
  onConnect: inPool('onConnect'),
  verify: inPool('onConnect'),
  allowExitOnIdle: 'leave it out: idle connections never keep the process alive',
  Client: 'leave it out, or wrap how connections are opened with `connectionFactory`',
  stream: 'leave it out, or wrap how connections are opened with `connectionFactory`',
  dbname: 'write database: ...',
  db: 'write database: ...',
  username: 'write user: ...',
  pass: 'write password: ...',
  hostname: 'write host: ...',
  url: 'write connectionString: ...',
  uri: 'write connectionString: ...',
  connection: 'write connectionString: ..., or host, port, database and user',
  schema: "write options: '-c search_path=...'",
  sslmode: inSsl('mode'),
  sslnegotiation: inSsl('negotiation'),
  sslrootcert: `${inSsl('ca')}, e.g. ca: { file: '/path/root.crt' }`,
  sslcert: `${inSsl('cert')}, e.g. cert: { file: '/path/client.crt' }`,
  sslkey: `${inSsl('key')}, e.g. key: { file: '/path/client.key' }`,
  sslpassword: inSsl('passphrase'),
  sslcrl: inSsl('crl'),
  sslcrldir: inSsl('crlDir'),
  ca: inSsl('ca'),
  tls: 'write ssl: ...',
  rejectUnauthorized: "write ssl: 'require' (encrypted, identity not checked) or ssl: true (checked)",
  enableChannelBinding: "write channel_binding: 'prefer' (the default), 'require' or 'disable'",
  keepalives: 'write keepAlive: true or false',
  keepalives_idle: 'write keepAliveInitialDelayMillis: ... (milliseconds)',
  connect_timeout: `${inString('connect_timeout')} (seconds for one address), or write pool: { connectTimeoutMillis: ... }`,
  client_min_messages: "write options: '-c client_min_messages=...'",
});

/** What pg passes on to Node's tls, and what to write here instead. */
export const SSL_OPTION_HINTS: Readonly<Record<string, string>> = Object.freeze({
  rejectUnauthorized:
    "instead of false write ssl: 'require' (encrypted, but whoever answers is believed) or, better, " +
    "ssl: { mode: 'verify-full', ca: { file: ... } }; instead of true write ssl: true",
  requestCert: 'leave it out: it is an option of TLS servers',
  servername: "write serverName: '...'",
  host: "write serverName: '...'",
  checkServerIdentity:
    "write serverName: '...' if the certificate has another name, or mode: 'verify-ca' to check the chain only",
  sslmode: 'write mode: ...',
  ssl: 'write mode: ...',
  sslrootcert: 'write ca: { file: ... }',
  sslcert: 'write cert: { file: ... }',
  sslkey: 'write key: { file: ... }',
  sslpassword: 'write passphrase: ...',
  sslcrl: 'write crl: { file: ... }',
  sslnegotiation: 'write negotiation: ...',
  pfx: 'convert it to PEM and write cert: ... and key: ..., or write secureContext: tls.createSecureContext({ pfx })',
  ciphers: 'write secureContext: tls.createSecureContext({ ciphers, ca, ... })',
  sigalgs: 'write secureContext: tls.createSecureContext({ sigalgs, ca, ... })',
  ecdhCurve: 'write secureContext: tls.createSecureContext({ ecdhCurve, ca, ... })',
  secureOptions: 'write secureContext: tls.createSecureContext({ secureOptions, ca, ... })',
  secureProtocol: 'write minVersion and maxVersion',
  ALPNProtocols: "leave it out: negotiation: 'direct' sends what PostgreSQL asks for",
  session: 'leave it out: PostgreSQL resumes no TLS sessions',
});
