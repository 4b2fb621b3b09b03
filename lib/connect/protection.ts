import type { ResolvedConfig } from '../config/resolved-config.js';
import type { Verification } from '../tls/ssl-mode.js';

/**
 * What TLS guarantees against, whoever sits between client and server:
 * - `nothing`: a session may go over the network unencrypted (`disable`; `allow` and `prefer`, since both go on without
 *   TLS when the server declines it, and so does whoever can answer in its place);
 * - `eavesdropping`: every session is encrypted, but with whom is not certain. `require` believes whoever answers;
 *   `verify-ca` (and `require` with a root file) believes every holder of a certificate of the trusted authorities,
 *   whatever its name;
 * - `impersonation`: `verify-full`. Encrypted, and the certificate is the named host's.
 */
export type TlsProtection = 'nothing' | 'eavesdropping' | 'impersonation';

export interface Protection {
  readonly against: TlsProtection;
  /** A sentence. */
  readonly why: string;
}

/**
 * What TLS guarantees for the sessions over a network.
 *
 * @param verify how much of the server's certificate is checked; `undefined` = there is no usable key material
 */
export function protectionOf(
  { tls, channelBinding }: Pick<ResolvedConfig, 'tls' | 'channelBinding'>,
  verify: Verification | undefined,
): Protection {
  const bound = channelBinding === 'require';
  switch (tls.mode) {
    case 'disable':
      return { against: 'nothing', why: 'TLS is off (sslmode=disable).' };
    case 'allow':
    case 'prefer':
      if (bound) return { against: 'eavesdropping', why: 'channel_binding=require refuses a session without TLS.' };
      return {
        against: 'nothing',
        why:
          tls.mode === 'prefer'
            ? 'sslmode=prefer goes on without TLS when the server, or somebody in its place, declines it.'
            : 'sslmode=allow uses TLS only when the server refuses a session without it.',
      };
    case 'require':
    case 'verify-ca':
      if (verify === 'none') {
        return {
          against: 'eavesdropping',
          why: `sslmode=${tls.mode} without a root certificate encrypts, and believes whoever answers.`,
        };
      }
      return {
        against: 'eavesdropping',
        why:
          `sslmode=${tls.mode} encrypts and verifies the certificate but not its name: whoever has any certificate ` +
          'of the trusted authorities can pose as the server.',
      };
    case 'verify-full':
      return {
        against: 'impersonation',
        why: "sslmode=verify-full encrypts and verifies that the certificate is the host's.",
      };
  }
}
