import { describe, expect, it } from 'vitest';
import { AuthenticationGuard, type AuthenticationPolicy } from '../../../lib/client/authentication-guard.js';
import type { AuthMethod } from '../../../lib/config/resolved-config.js';

const guard = (policy: Partial<AuthenticationPolicy> = {}): AuthenticationGuard =>
  new AuthenticationGuard({
    requireAuth: undefined,
    channelBinding: 'prefer',
    encrypted: true,
    certificateMissing: false,
    ...policy,
  });
const only = (...methods: AuthMethod[]): AuthenticationPolicy['requireAuth'] => ({
  methods: new Set(methods),
  negated: false,
});
const not = (...methods: AuthMethod[]): AuthenticationPolicy['requireAuth'] => ({
  methods: new Set(methods),
  negated: true,
});
const SCRAM = ['SCRAM-SHA-256'];
const PLUS = ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256'];
const refusal = (text: string): Error =>
  expect.objectContaining({ code: 'PG_AUTH_REFUSED', message: expect.stringContaining(text) }) as Error;

describe('require_auth', () => {
  it('lets everything pass when it is not set', () => {
    guard().onOk();
    guard().onPasswordRequest('password');
    const scram = guard();
    scram.onSaslRequest(SCRAM);
    scram.onSaslFinal();
    scram.onOk();
  });

  it('refuses what is not listed, before a password is sent', () => {
    expect(() => guard({ requireAuth: only('scram-sha-256') }).onPasswordRequest('password')).toThrow(
      refusal('require_auth=scram-sha-256, but the server asks for password authentication'),
    );
    expect(() => guard({ requireAuth: only('md5') }).onSaslRequest(SCRAM)).toThrow(refusal('asks for scram-sha-256'));
    expect(() => guard({ requireAuth: only('md5') }).onOk()).toThrow(refusal('without authentication'));
  });

  it('lets pass what is listed, and only that', () => {
    const md5 = guard({ requireAuth: only('md5', 'password') });
    md5.onPasswordRequest('md5');
    md5.onOk();
    guard({ requireAuth: only('none') }).onOk();
  });

  it('refuses what is negated, and lets the rest pass', () => {
    const requireAuth = not('password', 'none');
    expect(() => guard({ requireAuth }).onPasswordRequest('password')).toThrow(refusal('require_auth=!password,!none'));
    expect(() => guard({ requireAuth }).onOk()).toThrow(refusal('without authentication'));
    const md5 = guard({ requireAuth });
    md5.onPasswordRequest('md5');
    md5.onOk();
  });
});

describe('channel_binding', () => {
  it('require refuses every way without it', () => {
    const required = { channelBinding: 'require' } as const;
    expect(() => guard(required).onPasswordRequest('md5')).toThrow(refusal('cannot bind the channel'));
    expect(() => guard(required).onSaslRequest(SCRAM)).toThrow(refusal('does not offer SCRAM-SHA-256-PLUS'));
    expect(() => guard({ ...required, encrypted: false }).onSaslRequest(SCRAM)).toThrow(refusal('not encrypted'));
    expect(() => guard(required).onOk()).toThrow(refusal('let us in without it'));
  });

  it('require accepts SCRAM-SHA-256-PLUS', () => {
    const required = guard({ channelBinding: 'require' });
    required.onSaslRequest(PLUS);
    required.onSaslFinal();
    required.onOk();
  });

  it('in any setting, an offer of PLUS without encryption is a sign of interference', () => {
    expect(() => guard({ channelBinding: 'prefer', encrypted: false }).onSaslRequest(PLUS)).toThrow(
      refusal('unencrypted'),
    );
  });
});

it('refuses to go on without the certificate that sslcertmode demands', () => {
  expect(() => guard({ certificateMissing: true }).onOk()).toThrow(refusal('sslcertmode=require'));
});

it('refuses a server that ends SCRAM before its proof', () => {
  const cheated = guard();
  cheated.onSaslRequest(SCRAM);
  expect(() => cheated.onOk()).toThrow(refusal('before proving'));
});
