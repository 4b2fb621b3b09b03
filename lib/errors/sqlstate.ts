/**
 * Refusals that do not heal by trying again: wrong credentials or no right to connect (class 28), no such database
 * (3D000), no CONNECT privilege (42501), unknown or unacceptable startup parameters (class 22 and 42).
 */
export function isPermanentRefusal(sqlState: string): boolean {
  return sqlState.startsWith('28') || sqlState === '3D000' || sqlState.startsWith('42') || sqlState.startsWith('22');
}

/** The server is starting up, shutting down or in recovery: another host, or the same later, may serve. */
export const CANNOT_CONNECT_NOW = '57P03';
