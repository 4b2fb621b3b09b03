import { basename } from 'node:path';
import type { Duelled, Settings } from './duel.js';
import { SECRETS } from './material.js';

/** A bout of a group. */
export interface Bout extends Duelled {
  readonly group: string;
}

/** Where this package is not libpq on purpose. */
export interface Deliberate {
  readonly what: string;
  readonly why: string;
  /** Which of the two tests shows it. */
  readonly server: 'real' | 'scripted';
  readonly applies: (bout: Bout) => boolean;
  /** How the two end: both refuse (and only the line differs), or one of them alone connects somewhere. */
  readonly connects: 'nobody' | 'libpq' | 'we';
}

const file = (settings: Settings, keyword: string): string => basename(settings[keyword] ?? '');

const mode = (settings: Settings): string => settings['sslmode'] ?? 'prefer';

const verifies = (settings: Settings): boolean => mode(settings).startsWith('verify-');

/** libpq has gone for TLS, by its mode or because plain text was refused. */
const triesTls = ({ theirs }: Bout): boolean => theirs.connections.some((said) => /SSLRequest|ClientHello/.test(said));

const hasRoot = (settings: Settings): boolean =>
  settings['sslrootcert'] !== undefined || /^(root|otherRoot|garbageRoot|revoking)$/.test(file(settings, 'HOME'));

const hasCertificate = (settings: Settings): boolean =>
  settings['sslcert'] !== undefined || /^(client|openKey|keyless)$/.test(file(settings, 'HOME'));

const isUsablePair = (settings: Settings): boolean => {
  const pair = `${file(settings, 'sslcert')} ${file(settings, 'sslkey')}`;
  if (pair === 'client.crt client.enc') return settings['sslpassword'] === SECRETS.passphrase;
  return ['client.crt client.key', 'client.crt client.der', 'stranger.crt stranger.key'].includes(pair);
};

/** The first entry that applies is the one; docs/tls.md tells the same to the reader. */
export const DELIBERATE: readonly Deliberate[] = [
  {
    what: 'sslrootcert names a file that is not there',
    why: 'a typing error would undo the verification in silence',
    server: 'real',
    applies: (bout) => triesTls(bout) && file(bout.settings, 'sslrootcert') === 'missing',
    connects: 'libpq',
  },
  {
    what: 'sslrootcert names a file without a certificate',
    why: 'prefer would go on unencrypted because of a broken file that was named',
    server: 'real',
    applies: (bout) => triesTls(bout) && /^(garbage|empty)\.crt$/.test(file(bout.settings, 'sslrootcert')),
    connects: 'libpq',
  },
  {
    what: 'verify-ca or verify-full without a root',
    why: 'what cannot succeed is not begun: libpq asks for TLS first',
    server: 'real',
    applies: (bout) => triesTls(bout) && verifies(bout.settings) && !hasRoot(bout.settings),
    connects: 'nobody',
  },
  {
    what: 'verify-full without a host name',
    why: 'what cannot succeed is not begun: libpq finishes the handshake first',
    server: 'real',
    applies: (bout) => triesTls(bout) && mode(bout.settings) === 'verify-full' && bout.settings['host'] === '',
    connects: 'nobody',
  },
  {
    what: 'sslcrl without a root',
    why: 'without a root nothing is verified, and the list would be ignored',
    server: 'real',
    applies: (bout) => triesTls(bout) && bout.settings['sslcrl'] !== undefined && !hasRoot(bout.settings),
    connects: 'libpq',
  },
  {
    what: 'sslcrl with sslrootcert=system',
    why: 'libpq ignores the list; no keyword is ignored here',
    server: 'real',
    applies: (bout) =>
      triesTls(bout) &&
      bout.settings['sslrootcert'] === 'system' &&
      bout.settings['sslcrl'] !== undefined &&
      (bout.group === 'revoked' || !/^(root|empty)\.crl$/.test(file(bout.settings, 'sslcrl'))),
    connects: 'libpq',
  },
  {
    what: 'sslcrl names a file that is not there or holds no list',
    why: 'a revoked certificate would pass',
    server: 'real',
    applies: (bout) => triesTls(bout) && /^(missing|garbage\.crt)$/.test(file(bout.settings, 'sslcrl')),
    connects: 'libpq',
  },
  {
    what: 'sslcert or sslkey names what cannot be used',
    why: 'the server would be the only one to complain, and prefer would go on unencrypted',
    server: 'real',
    applies: (bout) =>
      triesTls(bout) &&
      bout.settings['sslcertmode'] !== 'disable' &&
      (bout.settings['sslcert'] !== undefined || bout.settings['sslkey'] !== undefined) &&
      !isUsablePair(bout.settings),
    connects: 'libpq',
  },
  {
    what: 'sslcertmode=require without a certificate',
    why: 'libpq fails when the password has left already',
    server: 'real',
    applies: (bout) => triesTls(bout) && bout.settings['sslcertmode'] === 'require' && !hasCertificate(bout.settings),
    connects: 'nobody',
  },
  {
    what: 'the server ends SCRAM before its proof',
    why: 'libpq minds only with require_auth or channel_binding=require; who skips the proof may not know the password',
    server: 'scripted',
    applies: (bout) => /SCRAM( ended early|, then)/.test(bout.group) && bout.theirs.connected,
    connects: 'libpq',
  },
  {
    what: 'unencrypted bytes behind the S',
    why: 'somebody in between has put them there; libpq looks only after the handshake, and prefer goes on unencrypted',
    server: 'scripted',
    applies: (bout) => bout.group === 'S with more bytes' && triesTls(bout) && !isDirect(bout.settings),
    connects: 'nobody',
  },
  {
    what: 'an answer before the question, behind the N',
    why: 'it is judged, and here refused, when it comes: libpq sends its startup packet first',
    server: 'scripted',
    applies: (bout) =>
      bout.group === 'N with more bytes' &&
      !bout.theirs.connected &&
      bout.theirs.connections.join().includes('SSLRequest Startup'),
    connects: 'nobody',
  },
  {
    what: 'a notice before the authentication',
    why: 'pg takes notices at any time; it changes nothing in who is let in',
    server: 'scripted',
    applies: (bout) =>
      bout.group === 'a notice before anything' &&
      /^(disable|allow|prefer)$/.test(mode(bout.settings)) &&
      bout.settings['channel_binding'] !== 'require' &&
      [undefined, 'none', '!password'].includes(bout.settings['require_auth']),
    connects: 'we',
  },
];

function isDirect(settings: Settings): boolean {
  return settings['sslnegotiation'] === 'direct';
}
