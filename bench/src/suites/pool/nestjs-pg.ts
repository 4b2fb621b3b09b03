import { setTimeout as delay } from 'node:timers/promises';
import { createPool } from 'nestjs-pg';
import type { OpenPool } from './subject.js';

export const openNestjsPg: OpenPool = (connectionString, shape = {}) => {
  const { max, waitMillis, connectDelayMillis, applicationName } = shape;
  return createPool({
    connectionString,
    ...(applicationName === undefined ? {} : { application_name: applicationName }),
    pool: {
      ...(max === undefined ? {} : { max }),
      ...(waitMillis === undefined ? {} : { acquireTimeoutMillis: waitMillis }),
      ...(connectDelayMillis === undefined ? {} : { onConnect: () => delay(connectDelayMillis) }),
    },
  });
};
