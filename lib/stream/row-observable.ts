import { Observable } from 'rxjs';
import type { ConnectionSource } from '../pool/connection-source.js';
import { RowFeed } from './row-feed.js';
import type { RowStatement } from './row-statement.js';

/**
 * Rows as they arrive. Each subscription runs the statement, on the connection of `sourceHere()` where it is made. The next
 * batch is read when all rows of the one before have been delivered.
 */
export function rowObservable<Row>(sourceHere: () => ConnectionSource, statement: RowStatement): Observable<Row> {
  return new Observable<Row>((subscriber) => {
    const feed = new RowFeed(sourceHere(), statement, () => undefined);
    const deliver = async (): Promise<void> => {
      for (;;) {
        const { rows, hasMore, error } = await feed.next();
        for (const row of rows) {
          if (subscriber.closed || (hasMore && feed.isEnded)) break;
          subscriber.next(row as Row);
        }
        if (subscriber.closed) return;
        if (error) subscriber.error(error);
        else if (!hasMore) subscriber.complete();
        else continue;
        return;
      }
    };
    void deliver();
    return () => void feed.end();
  });
}
