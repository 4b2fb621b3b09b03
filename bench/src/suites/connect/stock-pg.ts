import { stockPg } from '../../stock-pg.js';
import type { ConnectSubject } from './subject.js';

export const byStockPg: ConnectSubject = ({ ca, ...target }) => {
  const options = { ...target, ssl: ca === undefined ? false : { ca } };
  return async () => {
    const client = new stockPg.Client(options);
    await client.connect();
    return () => client.end();
  };
};
