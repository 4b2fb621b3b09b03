/**
 * What becomes of a keyword here:
 * - `honoured`: it does what it does in libpq;
 * - `partly`: the listed values are honoured, every other one is refused with the reason;
 * - `inert`: accepted, and without effect in libpq's own current builds too;
 * - `refused`: a value that is not empty is an error which tells why.
 */
export type Treatment = 'honoured' | 'partly' | 'inert' | 'refused';

export type KeywordKind = 'text' | 'secret' | 'path' | 'integer' | 'choice' | 'flag' | 'list';

interface KeywordRow {
  readonly env?: string;
  /** libpq's compiled default of a build without GSSAPI, which is what this package is. */
  readonly compiled?: string;
  readonly kind: KeywordKind;
  /** The allowed values of a `choice`. */
  readonly choices?: readonly string[];
  readonly treatment: Treatment;
  /** For the documentation and, where something is refused, the end of the error's sentence. */
  readonly note: string;
}

const TLS_VERSIONS = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const;

const OAUTH = 'node-postgres has no OAuth flow; get a token yourself and pass it as `password: () => token`';

/**
 * Every keyword of libpq 18 in libpq's order: `PQconninfoOptions` in fe-connect.c. A test holds this table against
 * PQconndefaults of the real library.
 */
const TABLE = {
  service: { env: 'PGSERVICE', kind: 'text', treatment: 'honoured', note: 'section of the service file' },
  user: { env: 'PGUSER', kind: 'text', treatment: 'honoured', note: 'default: the name of the OS account' },
  password: { env: 'PGPASSWORD', kind: 'secret', treatment: 'honoured', note: 'kept as a secret' },
  passfile: { env: 'PGPASSFILE', kind: 'path', treatment: 'honoured', note: 'default: ~/.pgpass' },
  channel_binding: {
    env: 'PGCHANNELBINDING',
    compiled: 'prefer',
    kind: 'choice',
    choices: ['disable', 'prefer', 'require'],
    treatment: 'honoured',
    note: 'SCRAM bound to the TLS channel',
  },
  connect_timeout: {
    env: 'PGCONNECT_TIMEOUT',
    kind: 'integer',
    treatment: 'honoured',
    note: 'seconds for one address; zero or negative: none',
  },
  dbname: { env: 'PGDATABASE', kind: 'text', treatment: 'honoured', note: 'default: the user name' },
  host: { env: 'PGHOST', kind: 'list', treatment: 'honoured', note: 'names, addresses or socket directories' },
  hostaddr: { env: 'PGHOSTADDR', kind: 'list', treatment: 'honoured', note: 'numeric addresses, one for each host' },
  port: { env: 'PGPORT', compiled: '5432', kind: 'list', treatment: 'honoured', note: 'one, or one for each host' },
  client_encoding: {
    env: 'PGCLIENTENCODING',
    kind: 'text',
    treatment: 'partly',
    note: 'only UTF8 (or auto, which is UTF8 here): node-postgres reads and writes UTF-8 and nothing else',
  },
  options: {
    env: 'PGOPTIONS',
    compiled: '',
    kind: 'text',
    treatment: 'honoured',
    note: 'command-line options for the backend',
  },
  application_name: { env: 'PGAPPNAME', kind: 'text', treatment: 'honoured', note: 'shown in pg_stat_activity' },
  fallback_application_name: { kind: 'text', treatment: 'honoured', note: 'used when application_name is not set' },
  keepalives: { kind: 'integer', treatment: 'honoured', note: '0 switches TCP keepalives off' },
  keepalives_idle: { kind: 'integer', treatment: 'honoured', note: 'seconds; zero or negative: the system default' },
  keepalives_interval: {
    kind: 'integer',
    treatment: 'partly',
    note: 'only zero or less (the system default): Node cannot set TCP_KEEPINTVL',
  },
  keepalives_count: {
    kind: 'integer',
    treatment: 'partly',
    note: 'only zero or less (the system default): Node cannot set TCP_KEEPCNT',
  },
  tcp_user_timeout: {
    kind: 'integer',
    treatment: 'partly',
    note: 'only zero or less (the system default): Node cannot set TCP_USER_TIMEOUT',
  },
  sslmode: {
    env: 'PGSSLMODE',
    compiled: 'prefer',
    kind: 'choice',
    choices: ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'],
    treatment: 'honoured',
    note: 'verify-full by default with sslrootcert=system',
  },
  sslnegotiation: {
    env: 'PGSSLNEGOTIATION',
    compiled: 'postgres',
    kind: 'choice',
    choices: ['postgres', 'direct'],
    treatment: 'honoured',
    note: 'direct needs sslmode require, verify-ca or verify-full',
  },
  sslcompression: {
    env: 'PGSSLCOMPRESSION',
    compiled: '0',
    kind: 'flag',
    treatment: 'inert',
    note: 'OpenSSL is built without compression, and TLS 1.3 has none',
  },
  sslcert: { env: 'PGSSLCERT', kind: 'path', treatment: 'honoured', note: 'default: ~/.postgresql/postgresql.crt' },
  sslkey: {
    env: 'PGSSLKEY',
    kind: 'path',
    treatment: 'partly',
    note: 'a file; `engine:key` is refused, because Node loads no OpenSSL engine. Default: ~/.postgresql/postgresql.key',
  },
  sslcertmode: {
    env: 'PGSSLCERTMODE',
    kind: 'choice',
    choices: ['disable', 'allow', 'require'],
    treatment: 'honoured',
    note: 'whether a client certificate is sent; default allow',
  },
  sslpassword: { kind: 'secret', treatment: 'honoured', note: 'decrypts the key' },
  sslrootcert: {
    env: 'PGSSLROOTCERT',
    kind: 'path',
    treatment: 'honoured',
    note: 'a file or `system`; default: ~/.postgresql/root.crt',
  },
  sslcrl: { env: 'PGSSLCRL', kind: 'path', treatment: 'honoured', note: 'default: ~/.postgresql/root.crl' },
  sslcrldir: { env: 'PGSSLCRLDIR', kind: 'path', treatment: 'honoured', note: 'directory of revocation lists' },
  sslsni: { env: 'PGSSLSNI', compiled: '1', kind: 'flag', treatment: 'honoured', note: 'send the server name' },
  requirepeer: {
    env: 'PGREQUIREPEER',
    kind: 'text',
    treatment: 'partly',
    note: 'refused for a Unix socket, because Node cannot ask who is at its other end; without effect on TCP, as in libpq',
  },
  require_auth: {
    env: 'PGREQUIREAUTH',
    kind: 'list',
    treatment: 'honoured',
    note: 'authentication methods that the server may ask for',
  },
  min_protocol_version: {
    env: 'PGMINPROTOCOLVERSION',
    kind: 'choice',
    choices: ['3.0', '3.2', 'latest'],
    treatment: 'partly',
    note: 'only 3.0: node-postgres speaks no later version of the protocol',
  },
  max_protocol_version: {
    env: 'PGMAXPROTOCOLVERSION',
    kind: 'choice',
    choices: ['3.0', '3.2', 'latest'],
    treatment: 'honoured',
    note: 'an upper bound; node-postgres speaks 3.0, which every bound allows',
  },
  ssl_min_protocol_version: {
    env: 'PGSSLMINPROTOCOLVERSION',
    compiled: 'TLSv1.2',
    kind: 'choice',
    choices: TLS_VERSIONS,
    treatment: 'honoured',
    note: 'case does not matter',
  },
  ssl_max_protocol_version: {
    env: 'PGSSLMAXPROTOCOLVERSION',
    kind: 'choice',
    choices: TLS_VERSIONS,
    treatment: 'honoured',
    note: 'case does not matter',
  },
  gssencmode: {
    env: 'PGGSSENCMODE',
    compiled: 'disable',
    kind: 'choice',
    choices: ['disable', 'prefer', 'require'],
    treatment: 'partly',
    note: 'disable and prefer (which encrypts only when there is a Kerberos ticket): node-postgres has no GSSAPI',
  },
  krbsrvname: {
    env: 'PGKRBSRVNAME',
    compiled: 'postgres',
    kind: 'text',
    treatment: 'partly',
    note: 'only its default, postgres: node-postgres has no GSSAPI',
  },
  gsslib: { env: 'PGGSSLIB', kind: 'text', treatment: 'refused', note: 'node-postgres has no GSSAPI and no SSPI' },
  gssdelegation: {
    env: 'PGGSSDELEGATION',
    compiled: '0',
    kind: 'flag',
    treatment: 'partly',
    note: 'only 0: node-postgres has no GSSAPI',
  },
  replication: { kind: 'text', treatment: 'honoured', note: 'sent as the startup parameter' },
  target_session_attrs: {
    env: 'PGTARGETSESSIONATTRS',
    compiled: 'any',
    kind: 'choice',
    choices: ['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby'],
    treatment: 'honoured',
    note: 'which kind of server of the list will do',
  },
  load_balance_hosts: {
    env: 'PGLOADBALANCEHOSTS',
    compiled: 'disable',
    kind: 'choice',
    choices: ['disable', 'random'],
    treatment: 'honoured',
    note: 'order of the hosts and of the addresses of each',
  },
  scram_client_key: {
    kind: 'secret',
    treatment: 'refused',
    note: 'node-postgres computes the SCRAM keys from a password and takes none ready made',
  },
  scram_server_key: {
    kind: 'secret',
    treatment: 'refused',
    note: 'node-postgres computes the SCRAM keys from a password and takes none ready made',
  },
  oauth_issuer: { kind: 'text', treatment: 'refused', note: OAUTH },
  oauth_client_id: { kind: 'text', treatment: 'refused', note: OAUTH },
  oauth_client_secret: { kind: 'secret', treatment: 'refused', note: OAUTH },
  oauth_scope: { kind: 'text', treatment: 'refused', note: OAUTH },
  sslkeylogfile: {
    kind: 'path',
    treatment: 'honoured',
    note: 'TLS secrets for a protocol analyser: never in production',
  },
} as const satisfies Record<string, KeywordRow>;

export type Keyword = keyof typeof TABLE;

export const KEYWORDS: Readonly<Record<Keyword, KeywordRow>> = TABLE;

export const KEYWORD_NAMES = Object.freeze(Object.keys(TABLE) as Keyword[]);

export function isKeyword(name: string): name is Keyword {
  return Object.hasOwn(TABLE, name);
}
