import { describe, expect, it } from 'vitest';
import { isConnectionFault } from '../../../lib/client/connection-fault.js';

describe('isConnectionFault', () => {
  it.each(['08000', '08003', '08006', '57P01', '57P02', '57P03', '57P04', '57P05', '25P03', '25P04'])(
    '%s ends the connection',
    (sqlState) => {
      expect(isConnectionFault(sqlState, false)).toBe(true);
    },
  );

  it.each([
    '22012',
    '23505',
    '40001',
    '40P01',
    '42601',
    '42P01',
    '25P02',
    '57014',
    '53300',
    '0A000',
    '26000',
    '08P01',
    'XX000',
  ])('%s ends no connection', (sqlState) => {
    expect(isConnectionFault(sqlState, true)).toBe(false);
  });

  it('takes a read-only server for a fault only where one that takes writes was asked for', () => {
    expect(isConnectionFault('25006', true)).toBe(true);
    expect(isConnectionFault('25006', false)).toBe(false);
  });

  it('takes an error without SQLSTATE for none', () => {
    expect(isConnectionFault(undefined, true)).toBe(false);
  });
});
