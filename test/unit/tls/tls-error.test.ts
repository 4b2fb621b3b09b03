import { describe, expect, it } from 'vitest';
import { ServerIdentityError } from '../../../lib/tls/server-identity.js';
import { explainTlsError, isCertificateRefusal } from '../../../lib/tls/tls-error.js';

const failure = (code: string, message = 'failure'): Error => Object.assign(new Error(message), { code });

/** The same failures as different versions of Node and OpenSSL name them. */
const CASES: [code: string, refusal: boolean, text: RegExp][] = [
  ['SELF_SIGNED_CERT_IN_CHAIN', true, /does not lead to a trusted root .*sslrootcert/],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', true, /is signed by itself/],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', true, /trusted root/],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', true, /intermediates/],
  ['CERT_HAS_EXPIRED', true, /has expired \(CERT_HAS_EXPIRED\)/],
  ['CERT_NOT_YET_VALID', true, /not valid yet/],
  ['CERT_REVOKED', true, /has been revoked/],
  ['UNABLE_TO_GET_CRL', true, /no revocation list/],
  ['CRL_HAS_EXPIRED', true, /revocation list is not valid now/],
  ['ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE', true, /refused the client's certificate/],
  ['ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE', true, /refused the client's certificate/],
  ['ERR_SSL_SSLV3_ALERT_CERTIFICATE_REVOKED', true, /refused the client's certificate/],
  ['ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_EXPIRED', true, /refused the client's certificate/],
  ['ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', true, /does not trust the authority of the client's certificate/],
  ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', true, /demands a client certificate/],
  ['ERR_SSL_TLSV1_ALERT_ACCESS_DENIED', true, /refused the client's certificate/],
  ['ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE', false, /broke the TLS handshake off/],
  ['ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE', false, /broke the TLS handshake off/],
  ['ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION', false, /no TLS version in common|have no TLS version/],
  ['ERR_SSL_UNSUPPORTED_PROTOCOL', false, /ssl_min_protocol_version/],
  ['ERR_SSL_WRONG_VERSION_NUMBER', false, /the answer was not TLS/],
  ['ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL', false, /"postgresql"/],
  ['ERR_SSL_TLSV1_UNRECOGNIZED_NAME', false, /sslsni=0/],
  ['ERR_SSL_DH_KEY_TOO_SMALL', false, /Diffie-Hellman/],
];

describe('explainTlsError and isCertificateRefusal', () => {
  it.each(CASES)('%s', (code, refusal, text) => {
    const error = failure(code);
    const explained = explainTlsError(error);
    expect(explained.message).toMatch(text);
    expect(explained.message).toContain(code);
    expect(explained.cause).toBe(error);
    expect(isCertificateRefusal(error)).toBe(refusal);
    expect(isCertificateRefusal(new Error('outer', { cause: explained }))).toBe(refusal);
  });

  it('shows the names where they differ', () => {
    const error = new ServerIdentityError(
      'server certificate for "a.test" does not match host name "b.test"',
      'b.test',
    );
    expect(explainTlsError(error).message).toContain('"a.test" does not match host name "b.test"');
    expect(isCertificateRefusal(error)).toBe(true);
  });

  it('explains a line that was cut during the handshake', () => {
    const error = failure(
      'ECONNRESET',
      'Client network socket disconnected before secure TLS connection was established',
    );
    expect(explainTlsError(error).message).toContain('closed during the TLS handshake');
    expect(isCertificateRefusal(error)).toBe(false);
  });

  it.each([
    failure('ECONNREFUSED'),
    failure('28P01'),
    failure('toString'),
    failure('ERR_SSL_toString'),
    new Error('plain'),
  ])('leaves %s alone', (error) => {
    expect(explainTlsError(error)).toBe(error);
    expect(isCertificateRefusal(error)).toBe(false);
  });

  it.each([undefined, null, 'text', { code: 'CERT_REVOKED' }])('takes %j for no refusal', (value) => {
    expect(isCertificateRefusal(value)).toBe(false);
  });
});
