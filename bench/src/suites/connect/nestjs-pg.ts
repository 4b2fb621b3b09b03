import { createConnectionFactory } from 'nestjs-pg';
import type { ConnectSubject } from './subject.js';

export const byNestjsPg: ConnectSubject = ({ ca, password, ...target }) => {
  const connect = createConnectionFactory({
    ...target,
    ...(password === undefined ? {} : { password }),
    ssl: ca === undefined ? { mode: 'disable' } : { mode: 'verify-full', ca },
  });
  return async () => {
    const client = await connect();
    return () => client.end();
  };
};
