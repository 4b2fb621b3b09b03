import type { PgClient } from '../client/pg-client.js';
import type { Attempt } from './attempt.js';

/**
 * What speaks against keeping a session under target_session_attrs, or `undefined`. The rules are libpq's
 * (PQconnectPoll, CONNECTION_CHECK_TARGET): from PostgreSQL 14 on the server reports both facts by itself.
 */
export async function sessionMismatch(client: PgClient, attrs: Attempt['attrs']): Promise<string | undefined> {
  switch (attrs) {
    case 'any':
      return undefined;
    case 'read-write':
      return (await isReadOnly(client)) ? 'the session is read-only' : undefined;
    case 'read-only':
      return (await isReadOnly(client)) ? undefined : 'the session is not read-only';
    case 'primary':
      return (await isStandby(client)) ? 'the server is a standby' : undefined;
    case 'standby':
      return (await isStandby(client)) ? undefined : 'the server is not a standby';
  }
}

async function isStandby(client: PgClient): Promise<boolean> {
  const reported = client.parameter('in_hot_standby');
  if (reported !== undefined) return reported === 'on';
  // In the simple protocol, as libpq asks, and not by a name: `simple` is pg's, so the statement goes pg's way.
  const { rows } = await client.query<{ standby: boolean }>({
    text: 'SELECT pg_catalog.pg_is_in_recovery() AS standby',
    queryMode: 'simple',
  } as { text: string });
  return rows[0]?.standby === true;
}

async function isReadOnly(client: PgClient): Promise<boolean> {
  const reported = client.parameter('default_transaction_read_only');
  if (reported !== undefined && client.parameter('in_hot_standby') !== undefined) {
    return reported === 'on' || (await isStandby(client));
  }
  const { rows } = await client.query<{ transaction_read_only: string }>('SHOW transaction_read_only');
  return rows[0]?.transaction_read_only === 'on';
}
