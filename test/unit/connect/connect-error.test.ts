import { inspect } from 'node:util';
import { expect, it } from 'vitest';
import { PgConnectError, type FailedAttempt } from '../../../lib/connect/connect.error.js';

it('prints as its message and stack: the attempts say the same at length', () => {
  const attempt: FailedAttempt = {
    host: 'db',
    port: 5432,
    address: undefined,
    encryption: 'tls',
    phase: 'TCP connect',
    error: new Error('refused'),
  };
  const error = new PgConnectError('Could not connect: refused.', [attempt], false);
  expect(inspect(error)).toBe(error.stack);
  expect(inspect({ error })).not.toContain('attempts');
  expect(error).toMatchObject({ code: 'PG_CONNECT_FAILED', cause: { message: 'refused' }, permanent: false });
});
