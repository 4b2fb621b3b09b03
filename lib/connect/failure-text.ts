import type { ResolvedConfig } from '../config/resolved-config.js';
import { formatHost } from './attempt.js';
import type { FailedAttempt } from './connect.error.js';
import { isServerError } from './failure.js';
import { connectHint } from './hint.js';

/** All failed attempts in one line, and what usually is the cause. */
export function describeFailures(config: ResolvedConfig, failures: readonly FailedAttempt[]): string {
  const as = `as "${config.user}" to database "${config.database}"`;
  const passwordSource = config.sources['password'];
  const hints = failures
    .map((failure) => connectHint({ failure, passwordSource }))
    .filter((hint) => hint !== undefined);
  const hint = [...new Set(hints)].map((text) => ` ${text}`).join('');
  if (failures.length === 1 && failures[0]) return `Could not connect ${as}: ${describeOne(failures[0])}.${hint}`;
  const list = failures.map((failure, index) => `(${index + 1}) ${describeOne(failure)}`).join('; ');
  return `Could not connect ${as}, ${failures.length} attempts: ${list}.${hint}`;
}

function describeOne({ host, port, address, encryption, phase, error }: FailedAttempt): string {
  const where = formatHost({ host, hostaddr: undefined, port });
  const resolved = address === undefined || address === host ? '' : ` (${address})`;
  const sqlState = isServerError(error) ? ` [SQLSTATE ${error.code}]` : '';
  const text = error.message.replace(/\.$/, '') || (error as NodeJS.ErrnoException).code || error.name;
  const detail = isServerError(error) && error.detail ? ` (${error.detail.replace(/\.$/, '')})` : '';
  const encrypted = encryption === 'tls' ? 'TLS' : 'unencrypted';
  return `${where}${resolved}, ${encrypted}, ${phase}: ${text}${detail}${sqlState}`;
}
