/**
 * 57P01 admin_shutdown, 57P02 crash_shutdown, 57P03 cannot_connect_now, 57P04 database_dropped, 57P05
 * idle_session_timeout, 25P03 idle_in_transaction_session_timeout, 25P04 transaction_timeout: the session is over.
 */
const SESSION_IS_OVER: ReadonlySet<string> = new Set([
  ...['57P01', '57P02', '57P03', '57P04', '57P05'],
  ...['25P03', '25P04'],
]);
/** The SQLSTATE class of connection exceptions. */
const CONNECTION_EXCEPTION = '08';
/** protocol_violation: what the server says to a wrong number of parameters, too. Where it means more, it hangs up. */
const PROTOCOL_VIOLATION = '08P01';
/** read_only_sql_transaction: where a server that takes writes was asked for, this one has become a standby. */
const READ_ONLY = '25006';

/**
 * Whether an error of the server makes the connection useless, and not only the statement.
 *
 * @param wantsWrites the settings ask for a server that takes writes
 * @see https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
export function isConnectionFault(sqlState: string | undefined, wantsWrites: boolean): boolean {
  if (sqlState === undefined) return false;
  return (
    (sqlState.startsWith(CONNECTION_EXCEPTION) && sqlState !== PROTOCOL_VIOLATION) ||
    SESSION_IS_OVER.has(sqlState) ||
    (wantsWrites && sqlState === READ_ONLY)
  );
}
