import { describe, expect, it } from 'vitest';
import { PooledConnection } from '../../../lib/pool/pooled-connection.js';
import { FakeClient } from '../../support/fake-client.js';

const opened = (): PooledConnection<FakeClient, 'idle'> => PooledConnection.opened(new FakeClient(), Infinity, 0);

describe('the states of a connection', () => {
  it('go from idle to leased, resetting, idle and closed', () => {
    const idle = opened();
    const leased = idle.lend(undefined, 1);
    expect(leased).toMatchObject({ state: 'leased', since: 1, uses: 1 });
    const resetting = leased.reset(2);
    expect(resetting).toMatchObject({ state: 'resetting', since: 2 });
    const again = resetting.rest(3);
    expect(again.is('idle')).toBe(true);
    const validating = again.validate();
    expect(validating).toMatchObject({ state: 'validating', since: 3, provenAt: 3 });
    expect(validating.prove(5)).toMatchObject({ state: 'idle', since: 3, provenAt: 5 });
    expect(again.close(6).state).toBe('closed');
  });

  it('do not compile in any other order', () => {
    // Only compiled: `npm run typecheck` fails if one of these lines becomes legal.
    const illegal = (): void => {
      const idle = opened();
      const closed = idle.close(0);
      // @ts-expect-error -- what rests is not reset
      idle.reset(0);
      // @ts-expect-error -- what rests cannot come to rest
      idle.rest(0);
      const leased = idle.lend(undefined, 0);
      // @ts-expect-error -- what is lent cannot be lent
      leased.lend(undefined, 0);
      // @ts-expect-error -- what is being reset cannot be lent
      leased.reset(0).lend(undefined, 0);
      // @ts-expect-error -- what is being validated cannot be lent
      opened().validate().lend(undefined, 0);
      // @ts-expect-error -- closed is the end
      closed.lend(undefined, 0);
      // @ts-expect-error -- closed is the end
      closed.rest(0);
      // @ts-expect-error -- closed once
      closed.close(0);
    };
    expect(illegal).toBeTypeOf('function');
  });
});
