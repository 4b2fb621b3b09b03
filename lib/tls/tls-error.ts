/**
 * Who refused: `ours` = we the server's certificate, `theirs` = the server ours, `protocol` = the two share no version,
 * cipher or application protocol, `transport` = the line broke during the handshake.
 */
type Refusal = 'ours' | 'theirs' | 'protocol' | 'transport';

type Explanation = readonly [kind: Refusal, what: string, todo: string];

const NAME_THE_ROOT =
  "name the root that signed the server's certificate in sslrootcert (option ssl.ca), together with intermediates " +
  'that the server does not send';
const NEW_CERTIFICATE = 'install a valid one on the server, or set the clock of the machine that is wrong';
const FRESH_LIST = 'sslcrl or sslcrldir must hold a current list of every authority in the chain';
const OTHER_CLIENT_CERTIFICATE =
  'check sslcert and sslkey (options ssl.cert, ssl.key): they must be valid now, and issued by an authority in the ' +
  "server's ssl_ca_file";
const VERSIONS =
  'compare ssl_min_protocol_version and ssl_max_protocol_version (options ssl.minVersion, ssl.maxVersion; the default ' +
  "minimum is TLSv1.2) with the server's settings of the same names";

const UNTRUSTED: Explanation = ['ours', "the server's certificate does not lead to a trusted root", NAME_THE_ROOT];
const UNUSABLE: Explanation = [
  'ours',
  "a certificate in the server's chain must not be used for this",
  'its purpose, its rights as an authority or its strength do not allow it: have the chain issued anew',
];
const CRL_MISSING: Explanation = ['ours', 'there is no revocation list for the authority that signed', FRESH_LIST];
const CRL_STALE: Explanation = ['ours', 'the revocation list is not valid now', FRESH_LIST];
const CLIENT_REFUSED: Explanation = ['theirs', "the server refused the client's certificate", OTHER_CLIENT_CERTIFICATE];
const NO_COMMON_VERSION: Explanation = ['protocol', 'client and server have no TLS version in common', VERSIONS];
const CUT: Explanation = [
  'transport',
  'the connection was closed during the TLS handshake',
  "the server's log says why; a proxy or firewall between may not let TLS pass",
];

/** What X509_verify_cert reports, under the names that Node gives it, and our own check of the name. */
const VERIFY_ERRORS: Readonly<Record<string, Explanation>> = {
  SELF_SIGNED_CERT_IN_CHAIN: UNTRUSTED,
  DEPTH_ZERO_SELF_SIGNED_CERT: [
    'ours',
    "the server's certificate is signed by itself and is not among the trusted roots",
    'name this very certificate in sslrootcert (option ssl.ca), or give the server one from an authority',
  ],
  UNABLE_TO_GET_ISSUER_CERT: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNTRUSTED,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNTRUSTED,
  CERT_UNTRUSTED: UNTRUSTED,
  CERT_SIGNATURE_FAILURE: UNTRUSTED,
  CERT_HAS_EXPIRED: ['ours', "a certificate in the server's chain has expired", NEW_CERTIFICATE],
  CERT_NOT_YET_VALID: ['ours', "a certificate in the server's chain is not valid yet", NEW_CERTIFICATE],
  CERT_REVOKED: ['ours', "the server's certificate has been revoked", 'install a new one on the server'],
  UNABLE_TO_GET_CRL: CRL_MISSING,
  UNABLE_TO_GET_CRL_ISSUER: CRL_MISSING,
  CRL_HAS_EXPIRED: CRL_STALE,
  CRL_NOT_YET_VALID: CRL_STALE,
  CRL_SIGNATURE_FAILURE: CRL_STALE,
  INVALID_CA: UNUSABLE,
  INVALID_PURPOSE: UNUSABLE,
  PATH_LENGTH_EXCEEDED: UNUSABLE,
  CERT_CHAIN_TOO_LONG: UNUSABLE,
  CERT_REJECTED: UNUSABLE,
  UNSPECIFIED: UNUSABLE,
  ERR_TLS_CERT_ALTNAME_INVALID: [
    'ours',
    'the certificate is valid, but it is not for this host',
    "connect under one of the certificate's names (hostaddr can still give the address), or have the name added to it",
  ],
};

/** What OpenSSL's handshake reports, without the prefixes that differ between its versions: see {@link reasonOf}. */
const HANDSHAKE_REASONS: Readonly<Record<string, Explanation>> = {
  CERTIFICATE_REQUIRED: [
    'theirs',
    'the server demands a client certificate',
    'set sslcert and sslkey (options ssl.cert, ssl.key)',
  ],
  UNKNOWN_CA: [
    'theirs',
    "the server does not trust the authority of the client's certificate",
    OTHER_CLIENT_CERTIFICATE,
  ],
  BAD_CERTIFICATE: CLIENT_REFUSED,
  UNSUPPORTED_CERTIFICATE: CLIENT_REFUSED,
  CERTIFICATE_EXPIRED: CLIENT_REFUSED,
  CERTIFICATE_REVOKED: CLIENT_REFUSED,
  CERTIFICATE_UNKNOWN: CLIENT_REFUSED,
  ACCESS_DENIED: CLIENT_REFUSED,
  HANDSHAKE_FAILURE: [
    'protocol',
    'the server broke the TLS handshake off',
    'there is no cipher or curve in common, or (before TLS 1.3) it demands a client certificate; its log says which',
  ],
  INSUFFICIENT_SECURITY: [
    'protocol',
    "the server finds the client's TLS too weak",
    'its log says which cipher it wants',
  ],
  PROTOCOL_VERSION: NO_COMMON_VERSION,
  UNSUPPORTED_PROTOCOL: NO_COMMON_VERSION,
  NO_PROTOCOLS_AVAILABLE: NO_COMMON_VERSION,
  UNKNOWN_PROTOCOL: NO_COMMON_VERSION,
  UNKNOWN_SSL_VERSION: NO_COMMON_VERSION,
  UNSUPPORTED_SSL_VERSION: NO_COMMON_VERSION,
  WRONG_SSL_VERSION: NO_COMMON_VERSION,
  BAD_PROTOCOL_VERSION_NUMBER: NO_COMMON_VERSION,
  VERSION_TOO_HIGH: NO_COMMON_VERSION,
  VERSION_TOO_LOW: NO_COMMON_VERSION,
  WRONG_VERSION_NUMBER: [
    'protocol',
    'the answer was not TLS',
    'check host and port: something else answers there, or (sslnegotiation=direct) a server older than PostgreSQL 17',
  ],
  NO_APPLICATION_PROTOCOL: [
    'protocol',
    'the server does not offer the protocol "postgresql"',
    'check host and port: another TLS service, or a proxy without ALPN for PostgreSQL, answers there',
  ],
  UNRECOGNIZED_NAME: [
    'protocol',
    'the server does not know the host name that it was addressed by (SNI)',
    'connect under a name that it serves, or send none with sslsni=0',
  ],
  DH_KEY_TOO_SMALL: ['protocol', "the server's Diffie-Hellman key is too small", 'raise its ssl_dh_params_file'],
  EE_KEY_TOO_SMALL: UNUSABLE,
  CA_KEY_TOO_SMALL: UNUSABLE,
  CA_MD_TOO_WEAK: UNUSABLE,
  CERTIFICATE_VERIFY_FAILED: UNTRUSTED,
};

/**
 * A failed handshake in words: what happened, the usual cause and what to do, with the original error as `cause`. An
 * error that is none of TLS comes back as it is.
 */
export function explainTlsError(error: Error): Error {
  const code = codesOf(error).find((candidate) => explanationOf(candidate) !== undefined);
  const explanation = code === undefined ? undefined : explanationOf(code);
  if (!explanation) return isCut(error) ? explained(CUT, error) : error;
  return explained(explanation, error, code === 'ERR_TLS_CERT_ALTNAME_INVALID' ? error.message : code);
}

/**
 * Whether one side has refused the other's certificate: the server's chain or name, or the client's. Trying again
 * changes nothing until somebody has changed a certificate.
 */
export function isCertificateRefusal(error: unknown): boolean {
  return codesOf(error).some((code) => {
    const kind = explanationOf(code)?.[0];
    return kind === 'ours' || kind === 'theirs';
  });
}

function explained([, what, todo]: Explanation, cause: Error, detail?: string): Error {
  return new Error(`${what}${detail ? ` (${detail})` : ''}: ${todo}`, { cause });
}

function explanationOf(code: string): Explanation | undefined {
  if (Object.hasOwn(VERIFY_ERRORS, code)) return VERIFY_ERRORS[code];
  const reason = reasonOf(code);
  return reason !== undefined && Object.hasOwn(HANDSHAKE_REASONS, reason) ? HANDSHAKE_REASONS[reason] : undefined;
}

/**
 * OpenSSL names the protocol version in which an alert was first defined, and changed its mind about the oldest:
 * ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE of Node 20 is ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE from Node 22 on.
 */
function reasonOf(code: string): string | undefined {
  return /^ERR_SSL_(?:(?:SSLV3|TLSV1|TLSV13|SSL\/TLS|TLS)_)?(?:ALERT_)?(.+)$/.exec(code)?.[1];
}

/** The codes of an error and of its causes, outermost first. */
function codesOf(error: unknown): string[] {
  const codes: string[] = [];
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const code: unknown = (at as NodeJS.ErrnoException).code;
    if (typeof code === 'string') codes.push(code);
  }
  return codes;
}

/** Node's wording for an end of the stream before the handshake was over; the same code as a reset. */
function isCut(error: Error): boolean {
  return /socket disconnected before secure TLS connection|socket hang up/i.test(error.message);
}
