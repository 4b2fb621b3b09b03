/** How a session is brought back to what it was when it was opened, whatever its last user has done to it. */
export type SessionReset = 'clean' | 'discard-all';

/**
 * `discard-all` is all that the server knows to forget. `clean` is what DISCARD ALL is documented to do, without
 * DEALLOCATE ALL and DISCARD PLANS: prepared statements and their plans stay.
 *
 * @see https://www.postgresql.org/docs/current/sql-discard.html
 */
export const SESSION_RESETS: Readonly<Record<SessionReset, string>> = {
  clean:
    'CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); ' +
    'DISCARD TEMP; DISCARD SEQUENCES',
  'discard-all': 'DISCARD ALL',
};
