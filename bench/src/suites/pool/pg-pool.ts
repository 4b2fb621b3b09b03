import { setTimeout as delay } from 'node:timers/promises';
import { stockPg } from '../../stock-pg.js';
import type { OpenPool } from './subject.js';

export const openPgPool: OpenPool = (connectionString, shape = {}) => {
  const { max, waitMillis, connectDelayMillis, applicationName } = shape;
  // pg-pool awaits what it returns, though its types do not say so.
  const onConnect = (): unknown => delay(connectDelayMillis);
  const pool = new stockPg.Pool({
    connectionString,
    ...(max === undefined ? {} : { max }),
    ...(waitMillis === undefined ? {} : { connectionTimeoutMillis: waitMillis }),
    ...(connectDelayMillis === undefined ? {} : { onConnect }),
    ...(applicationName === undefined ? {} : { application_name: applicationName }),
  });
  pool.on('error', () => undefined);
  return pool;
};
