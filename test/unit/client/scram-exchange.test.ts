// @peculiar/x509 finds its parts through decorator metadata, which must be there before it is loaded.
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { createRequire } from 'node:module';
import { PassThrough } from 'node:stream';
import * as x509 from '@peculiar/x509';
import fc from 'fast-check';
import pg from 'pg';
import { describe, expect, it, vi } from 'vitest';
import { ReadyConnection } from '../../../lib/client/ready-connection.js';
import { answerTo, ScramExchange } from '../../../lib/client/scram-exchange.js';
import { ScramKeys } from '../../../lib/client/scram-keys.js';

/** pg's own, for comparison. */
interface Sasl {
  startSession(mechanisms: string[], stream: unknown, most?: number): Session;
  continueSession(session: Session, password: unknown, data: string, stream: unknown): Promise<void>;
  finalizeSession(session: Session, data: string): void;
}
interface Session {
  message: string;
  mechanism: string;
  clientNonce: string;
  response: string;
  serverSignature?: string;
  scramMaxIterations?: number;
}
const sasl = createRequire(import.meta.url)('pg/lib/crypto/sasl.js') as Sasl;

interface Internals {
  saslSession: Session;
  enableChannelBinding: boolean;
  _handleAuthSASLContinue(message: { data: string }): Promise<void>;
}

interface Setting {
  password?: unknown;
  /** The certificate of the server, where there is TLS. */
  certificate?: Buffer;
  mechanisms?: string[];
  most?: number;
  keys?: ScramKeys;
}

/** A client that has said hello. */
function begin({ password = 'pencil', certificate, mechanisms = ['SCRAM-SHA-256'], most, keys }: Setting = {}): {
  session: Session;
  stream: object | false;
  answer(data: string): Promise<unknown>;
  fail(event: string): void;
} {
  const stream = Object.assign(new PassThrough(), { getPeerCertificate: () => ({ raw: certificate }) });
  const connection = new ReadyConnection(stream);
  const client = new pg.Client({ connection, enableChannelBinding: certificate !== undefined } as pg.ClientConfig);
  const internals = client as unknown as Internals;
  ScramExchange.attach(client, connection, keys ?? new ScramKeys());
  const binds = certificate !== undefined && stream;
  const session = (internals.saslSession = sasl.startSession(mechanisms, binds, most));
  Object.assign(client, { password });
  const errors: unknown[] = [];
  connection.on('error', (error: unknown) => errors.push(error));
  return {
    session,
    stream: binds,
    answer: async (data) => {
      await internals._handleAuthSASLContinue({ data });
      return errors[0];
    },
    fail: (event) => void connection.emit(event, new Error('no')),
  };
}

const SALT = 'W22ZaJ0SNY7soEsUEjb6gQ==';
const first = (session: Session, { nonce = `${session.clientNonce}abc`, salt = SALT, count = '16' } = {}): string =>
  `r=${nonce},s=${salt},i=${count}`;

it('answers as RFC 7677 has it', async () => {
  const secret = await new ScramKeys().of('pencil', { salt: SALT, iterations: 4096 });
  const nonce = 'rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0';
  const challenge = {
    clientFirst: 'n=user,r=rOprNGfwEbeRWgbNEkqO',
    serverFirst: `r=${nonce},s=${SALT},i=4096`,
    nonce,
    binding: 'biws',
  };
  expect(answerTo(challenge, secret.reveal())).toEqual({
    clientFinal: `c=biws,r=${nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=`,
    serverSignature: '6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
  });
});

type Algorithm = webcrypto.Algorithm;

/** What pg answers in the same place. */
async function stockAnswer(session: Session, password: unknown, data: string, stream: unknown): Promise<Session> {
  const copy = { ...session };
  await sasl.continueSession(copy, password, data, stream);
  return copy;
}

const text = fc.oneof(
  fc.string({ minLength: 1, unit: 'binary' }),
  fc.string({ minLength: 1, unit: 'grapheme' }),
  // What SASLprep changes.
  fc.string({
    minLength: 1,
    maxLength: 12,
    unit: fc.constantFrom(
      ...['a', ' ', '\u00a0', '\u1680', '\u2003', '\u200b', '\u202f', '\u3000', '\u00ad', '\u034f', '\u180b', '\u200d'],
      ...['\u2060', '\ufe0f', '\ufeff', '\u2168', '\u00aa', 'e\u0301', '\u0301', '\u{1d400}', '\u0007', '\ud800'],
    ),
  }),
);

describe('answers as pg does', () => {
  it('for any password, salt and count, the first time and again', async () => {
    const stock = vi.spyOn(pg.Client.prototype as unknown as Internals, '_handleAuthSASLContinue');
    await fc.assert(
      fc.asyncProperty(
        text,
        fc.uint8Array({ minLength: 1, maxLength: 24 }),
        fc.integer({ min: 1, max: 60 }),
        async (password, salt, count) => {
          const keys = new ScramKeys();
          for (const certificate of [undefined, Buffer.alloc(0), undefined]) {
            const { session, stream, answer } = begin({ password, certificate, keys });
            const data = first(session, { salt: Buffer.from(salt).toString('base64'), count: String(count) });
            const expected = await stockAnswer(session, password, data, stream);
            expect(await answer(data)).toBeUndefined();
            expect(session).toEqual(expected);
          }
        },
      ),
      { numRuns: 100 },
    );
    expect(stock).not.toHaveBeenCalled();
    stock.mockRestore();
  });

  it.each<[string, Algorithm, boolean]>([
    ['ECDSA, SHA-256', { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as Algorithm, true],
    ['ECDSA, SHA-384', { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' } as Algorithm, true],
    ['ECDSA, SHA-512', { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-512' } as Algorithm, true],
    ['RSA, SHA-256', rsa('RSASSA-PKCS1-v1_5', 'SHA-256'), true],
    ['RSA, SHA-384', rsa('RSASSA-PKCS1-v1_5', 'SHA-384'), true],
    ['RSA, SHA-512', rsa('RSASSA-PKCS1-v1_5', 'SHA-512'), true],
    ['RSA, SHA-1: by pg', rsa('RSASSA-PKCS1-v1_5', 'SHA-1'), false],
    ['RSA-PSS: by pg', rsa('RSA-PSS', 'SHA-256'), false],
    ['Ed25519: by pg', { name: 'Ed25519' }, false],
  ])('to a server whose certificate is signed with %s', async (_, algorithm, isOurs) => {
    const stock = vi.spyOn(pg.Client.prototype as unknown as Internals, '_handleAuthSASLContinue');
    const keys = await webcrypto.subtle.generateKey(algorithm as { name: 'ECDSA'; namedCurve: string }, true, [
      'sign',
      'verify',
    ]);
    x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);
    const issued = await x509.X509CertificateGenerator.createSelfSigned({
      keys: keys as never,
      signingAlgorithm: algorithm,
      serialNumber: '01',
      name: 'CN=here',
    });
    const certificate = Buffer.from(issued.rawData);
    const { session, stream, answer } = begin({ certificate, mechanisms: ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256'] });
    const data = first(session);
    const expected = await stockAnswer(session, 'pencil', data, stream).catch((error: unknown) => error);
    const error = await answer(data);
    if (expected instanceof Error) expect(error).toEqual(expected);
    else expect(session).toEqual(expected);
    expect(stock).toHaveBeenCalledTimes(isOurs ? 0 : 1);
    stock.mockRestore();
  });
});

function rsa(name: string, hash: string): Algorithm {
  return { name, hash, saltLength: 32, modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) } as Algorithm;
}

describe('what is unusual goes the way of pg, and fails in its words', () => {
  it.each<[string, Setting, (session: Session) => string]>([
    ['no password', { password: null }, (session) => first(session)],
    ['an empty password', { password: '' }, (session) => first(session)],
    ['another nonce', {}, (session) => first(session, { nonce: 'another' })],
    ["nothing but the client's nonce", {}, (session) => first(session, { nonce: session.clientNonce })],
    ['too many iterations', {}, (session) => first(session, { count: '100001' })],
    ['more iterations than were allowed', { most: 15 }, (session) => first(session)],
    ['no iterations', {}, (session) => first(session, { count: '0' })],
    ['a count that is none', {}, (session) => first(session, { count: '4e3' })],
    ['a salt that is none', {}, (session) => first(session, { salt: 'W22' })],
    ['an empty salt', {}, (session) => first(session, { salt: '' })],
    ['a nonce that is none', {}, (session) => first(session, { nonce: `${session.clientNonce}ä` })],
    ['nothing', {}, () => ''],
    ['something else', {}, () => 'e=other-error'],
    [
      'no certificate',
      { certificate: Buffer.alloc(0), mechanisms: ['SCRAM-SHA-256-PLUS'] },
      (session) => first(session),
    ],
  ])('%s', async (_, setting, data) => {
    const { session, stream, answer } = begin(setting);
    const before = { ...session };
    const password = setting.password === undefined ? 'pencil' : setting.password;
    const expected: unknown = await stockAnswer(session, password, data(session), stream).then(
      () => 'an answer',
      (error: unknown) => error,
    );
    expect(expected).toBeInstanceOf(Error);
    expect(await answer(data(session))).toEqual(expected);
    expect(session).toEqual(before);
  });

  it('an extension, which is not signed', async () => {
    const { session, stream, answer } = begin();
    const data = `${first(session)},x=y`;
    const expected = await stockAnswer(session, 'pencil', data, stream);
    expect(await answer(data)).toBeUndefined();
    expect(session).toEqual(expected);
  });

  it('a second challenge', async () => {
    const { session, answer } = begin();
    expect(await answer(first(session))).toBeUndefined();
    expect(await answer(first(session))).toMatchObject({ message: 'SASL: Last message was not SASLInitialResponse' });
  });
});

it('any count, if pg allows any', async () => {
  const { session, answer } = begin({ most: 0 });
  expect(await answer(first(session, { count: '100001' }))).toBeUndefined();
  expect(session.message).toBe('SASLResponse');
});

it.each(['errorMessage', 'error', 'end'])('forgets the keys at %s before the server has let us in', async (event) => {
  const keys = new ScramKeys();
  const terms = { salt: SALT, iterations: 16 };
  const kept = await keys.of('pencil', terms);
  const accepted = begin({ keys });
  await accepted.answer(first(accepted.session));
  accepted.fail('authenticationOk');
  accepted.fail(event);
  expect(await keys.of('pencil', terms)).toBe(kept);
  const refused = begin({ keys });
  await refused.answer(first(refused.session));
  refused.fail(event);
  expect(await keys.of('pencil', terms)).not.toBe(kept);
});

it.each([
  ['Client._handleAuthSASLContinue', pg.Client.prototype, '_handleAuthSASLContinue'],
  ['Connection.sendSCRAMClientFinalMessage', pg.Connection.prototype, 'sendSCRAMClientFinalMessage'],
])('leaves a pg without %s alone, with one warning', async (part, owner, key) => {
  vi.resetModules();
  const fresh = await import('../../../lib/client/scram-exchange.js');
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  const before = Object.getOwnPropertyDescriptor(owner, key) ?? {};
  Reflect.deleteProperty(owner, key);
  try {
    for (let count = 0; count < 2; count++) {
      const connection = new ReadyConnection(new PassThrough());
      const client = new pg.Client({ connection } as pg.ClientConfig);
      fresh.ScramExchange.attach(client, connection, new ScramKeys());
      expect(Object.hasOwn(client, '_handleAuthSASLContinue')).toBe(false);
    }
    expect(warn.mock.calls).toEqual([
      [expect.stringContaining(`no ${part}: nestjs-pg authenticates the way of stock pg`), { type: 'PgWarning' }],
    ]);
  } finally {
    Object.defineProperty(owner, key, before);
    warn.mockRestore();
  }
});
