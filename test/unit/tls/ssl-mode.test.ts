import { describe, expect, it } from 'vitest';
import type { SslMode } from '../../../lib/config/resolved-config.js';
import { afterFailure, SSL_MODES, tlsAttempts, verification } from '../../../lib/tls/ssl-mode.js';
import type { AttemptFailure, TlsDecision } from '../../../lib/tls/ssl-mode.js';

const MODES = Object.keys(SSL_MODES) as SslMode[];
const FAILURES: AttemptFailure[] = ['tls-unavailable', 'error-response', 'tls-failure', 'other'];

describe('tlsAttempts', () => {
  it.each<[SslMode, TlsDecision[]]>([
    ['disable', ['plain']],
    ['allow', ['plain', 'tls']],
    ['prefer', ['tls', 'plain']],
    ['require', ['tls']],
    ['verify-ca', ['tls']],
    ['verify-full', ['tls']],
  ])('%s over TCP: %j', (mode, attempts) => {
    expect(tlsAttempts({ mode }, false)).toEqual(attempts);
  });

  it.each(MODES)('%s over a Unix socket: plain', (mode) => {
    expect(tlsAttempts({ mode }, true)).toEqual(['plain']);
  });
});

describe('afterFailure', () => {
  const passing: Record<string, string> = {
    'allow plain error-response': 'next-attempt',
    'prefer tls tls-unavailable': 'continue-plain',
    'prefer tls error-response': 'next-attempt',
    'prefer tls tls-failure': 'next-attempt',
  };

  it.each(MODES)('%s goes on after nothing but what libpq goes on after', (mode) => {
    for (const decision of ['plain', 'tls'] as const) {
      for (const failure of FAILURES) {
        const expected = passing[`${mode} ${decision} ${failure}`] ?? 'fail';
        expect([decision, failure, afterFailure({ mode }, decision, failure)]).toEqual([decision, failure, expected]);
      }
    }
  });
});

describe('verification', () => {
  it.each<[SslMode, withRoot: string, withoutRoot: string | undefined]>([
    ['disable', 'none', 'none'],
    ['allow', 'ca', 'none'],
    ['prefer', 'ca', 'none'],
    ['require', 'ca', 'none'],
    ['verify-ca', 'ca', undefined],
    ['verify-full', 'full', undefined],
  ])('%s: %s with a root, %s without', (mode, withRoot, withoutRoot) => {
    expect(verification({ mode }, true)).toBe(withRoot);
    expect(verification({ mode }, false)).toBe(withoutRoot);
  });
});
