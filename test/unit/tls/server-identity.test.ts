import { describe, expect, it } from 'vitest';
import { checkServerIdentity, ServerIdentityError } from '../../../lib/tls/server-identity.js';
import { createAuthority, dns } from './authority.js';
import { NAME_CASES } from './name-cases.js';

const authority = await createAuthority();
describe('checkServerIdentity', () => {
  it.each(NAME_CASES)('%s (%s)', async (_, host, options, refused) => {
    const { der } = await authority.issue(options);

    const error = checkServerIdentity(host, { raw: der });

    if (!refused) return expect(error).toBeUndefined();
    expect(error).toBeInstanceOf(ServerIdentityError);
    expect(error).toMatchObject({ code: 'ERR_TLS_CERT_ALTNAME_INVALID', host });
    expect(error?.message).toMatch(refused);
  });

  it('shows names as quoted text and not too many of them', async () => {
    const { der } = await authority.issue({
      names: [dns('\u001b[31mred'), ...Array.from({ length: 9 }, () => dns('x.test'))],
    });
    const error = checkServerIdentity('a.test', { raw: der });
    expect(error?.message).not.toContain('\u001b');
    expect(error?.message).toContain('and 5 more');
  });

  it('refuses what is no certificate', async () => {
    const { der } = await authority.issue({ names: [dns('a.test')] });
    for (const raw of [Buffer.alloc(0), Buffer.from('hello'), der.subarray(0, 40), der.subarray(0, der.length - 1)]) {
      expect(checkServerIdentity('a.test', { raw })?.message).toContain('malformed');
    }
  });
});
