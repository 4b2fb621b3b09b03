import { describe, expect, it } from 'vitest';
import type { PortalBatch } from '../../../lib/client/portal.js';
import type { PgClient } from '../../../lib/client/pg-client.js';
import type { ConnectionSource } from '../../../lib/pool/connection-source.js';
import { rowStatement } from '../../../lib/stream/row-statement.js';
import { PgRowStream } from '../../../lib/stream/row-stream.js';
import { settle } from '../../support/manual-clock.js';

/** A source whose portal answers what the test says, when it says so. */
class FakeSource implements ConnectionSource {
  borrows = 0;
  releases: unknown[] = [];
  reads = 0;
  closes = 0;
  #answers: ((batch: PortalBatch) => void)[] = [];

  readonly #portal = {
    isAsked: false,
    read: (): Promise<PortalBatch> => {
      this.reads++;
      this.#portal.isAsked = true;
      return new Promise((resolve) => this.#answers.push(resolve));
    },
    close: (): void => void this.closes++,
  };

  readonly #isInTransaction: boolean;

  constructor(isInTransaction = false) {
    this.#isInTransaction = isInTransaction;
  }

  borrow(): ReturnType<ConnectionSource['borrow']> {
    this.borrows++;
    const client = { portal: () => this.#portal, isReady: true, isClosed: false } as unknown as PgClient;
    return Promise.resolve({
      client,
      isInTransaction: this.#isInTransaction,
      release: (error) => void this.releases.push(error),
    });
  }

  /** Rows from `first` on, so many of them. */
  async answer(first: number, count: number, hasMore = true, error?: Error): Promise<void> {
    await settle();
    this.#portal.isAsked = false;
    this.#answers.shift()?.({ rows: Array.from({ length: count }, (_, at) => first + at), hasMore, error });
    await settle();
  }
}

const statement = rowStatement('SELECT 1', undefined, {});
const value = (row: number): unknown => ({ done: false, value: row });
const done = { done: true, value: undefined };

describe('the options of a stream', () => {
  it.each([
    ['batchSize 0', () => rowStatement('SELECT 1', [], { batchSize: 0 }), 'batchSize is 0'],
    ['a batchSize of 1.5', () => rowStatement('SELECT 1', [], { batchSize: 1.5 }), 'an integer from 1 to 2147483647'],
    ['values that are no array', () => rowStatement('SELECT 1', 'x' as never, {}), 'values has to be an array'],
    ['no text', () => rowStatement({} as never, [], {}), 'the text of the statement has to be a string'],
    ['nothing', () => rowStatement(undefined as never, [], {}), 'the statement has to be a text or { text, values }'],
    ['a name', () => rowStatement({ text: 'SELECT 1', name: 'x' } as never, [], {}), 'name is nothing that a stream'],
    ['COPY', () => rowStatement('/* all */ COPY t TO STDOUT', [], {}), 'use copyTo() or copyFrom()'],
  ])('%s is refused', (_, call, text) => {
    expect(call).toThrow(expect.objectContaining({ code: 'PG_CONFIG_INVALID' }));
    expect(call).toThrow(text);
  });

  it('may stand in a config, whose values and signal give way to the arguments', () => {
    const [inner, outer] = [new AbortController().signal, new AbortController().signal];
    const config = { text: 'SELECT 1', values: [1], signal: inner, rowMode: 'array', query_timeout: 5 } as const;
    expect(rowStatement(config, undefined, {})).toMatchObject({
      request: { text: 'SELECT 1', values: [1], isArrayMode: true, queryTimeoutMillis: 5, batchSize: 1000 },
      signal: inner,
    });
    expect(rowStatement(config, [2], { signal: outer, batchSize: 7 })).toMatchObject({
      request: { values: [2], batchSize: 7 },
      signal: outer,
    });
  });
});

describe('a stream of rows', () => {
  it('takes nothing before its first row is asked for', async () => {
    const source = new FakeSource();
    const stream = new PgRowStream<number>(source, statement);
    stream.batches();
    await settle();
    await stream.return();
    expect(await stream.next()).toEqual(done);
    expect(source.borrows).toBe(0);
  });

  it('has at most two batches in memory, however slow its consumer is', async () => {
    const source = new FakeSource();
    const stream = new PgRowStream<number>(source, statement);
    const first = stream.next();
    await source.answer(1, 2);
    expect(await first).toEqual(value(1));
    // The second is fetched while the first is being read, and no third.
    expect(source.reads).toBe(2);
    await source.answer(3, 2);
    expect(await stream.next()).toEqual(value(2));
    await settle();
    expect(source.reads).toBe(2);
    expect(await stream.next()).toEqual(value(3));
    expect(source.reads).toBe(3);
    await stream.return();
  });

  it('fetches nothing ahead in a transaction, and keeps its connection only meanwhile', async () => {
    const source = new FakeSource(true);
    const stream = new PgRowStream<number>(source, statement);
    const first = stream.next();
    await source.answer(1, 1);
    expect(await first).toEqual(value(1));
    expect([source.borrows, source.reads, source.releases.length]).toEqual([1, 1, 1]);
    const second = stream.next();
    await source.answer(2, 1, false);
    expect(await second).toEqual(value(2));
    expect(await stream.next()).toEqual(done);
    expect([source.borrows, source.reads, source.releases.length, source.closes]).toEqual([2, 2, 2, 1]);
  });

  it('serves calls of next() in their order, however many there are at once', async () => {
    const source = new FakeSource();
    const stream = new PgRowStream<number>(source, statement);
    const all = Promise.all(Array.from({ length: 6 }, () => stream.next()));
    await source.answer(1, 2);
    await source.answer(3, 2);
    await source.answer(0, 0, false);
    expect(await all).toEqual([value(1), value(2), value(3), value(4), done, done]);
    expect(source.releases).toEqual([false]);
  });

  it('gives an error behind the rows before it, once', async () => {
    const source = new FakeSource();
    const stream = new PgRowStream<number>(source, statement);
    const both = Promise.allSettled([stream.next(), stream.next(), stream.next()]);
    const error = new Error('in the middle');
    await source.answer(1, 1, false, error);
    expect(await both).toEqual([
      { status: 'fulfilled', value: value(1) },
      { status: 'rejected', reason: error },
      { status: 'fulfilled', value: done },
    ]);
    expect(source.releases).toEqual([false]);
  });

  it('read() gives up to so many rows, and keeps an error for the next call', async () => {
    const source = new FakeSource();
    const stream = new PgRowStream<number>(source, statement);
    const three = stream.read(3);
    await source.answer(1, 2);
    await source.answer(3, 2, false, new Error('late'));
    expect(await three).toEqual([1, 2, 3]);
    expect(await stream.read(3)).toEqual([4]);
    await expect(stream.read(3)).rejects.toThrow('late');
    expect(await stream.read(3)).toEqual([]);
  });

  it('return() ends what waits, and gives the connection back', async () => {
    const source = new FakeSource();
    const stream = new PgRowStream<number>(source, statement);
    const first = stream.next();
    await source.answer(1, 2);
    await first;
    const rest = Promise.all([stream.next(), stream.next()]);
    await stream.return();
    expect(await rest).toEqual([value(2), done]);
    expect(await stream.next()).toEqual(done);
    expect([source.closes, source.releases]).toEqual([1, [false]]);
    await stream.return();
    expect(source.releases).toEqual([false]);
  });

  it('gives back a connection that comes when nobody wants it any more', async () => {
    const source = new FakeSource();
    const stream = new PgRowStream<number>(source, statement);
    const first = stream.next();
    await stream.close();
    expect(await first).toEqual(done);
    await settle();
    expect([source.reads, source.releases]).toEqual([0, [false]]);
  });

  it('throw() ends it and throws', async () => {
    const source = new FakeSource();
    const stream = new PgRowStream<number>(source, statement);
    const first = stream.next();
    await source.answer(1, 2);
    await first;
    await expect(stream.throw(new Error('mine'))).rejects.toThrow('mine');
    expect(source.releases).toEqual([false]);
  });

  it('rejects at once when its signal fires, without the rows that it has', async () => {
    const source = new FakeSource();
    const controller = new AbortController();
    const stream = new PgRowStream<number>(source, rowStatement('SELECT 1', [], { signal: controller.signal }));
    const first = stream.next();
    await source.answer(1, 2);
    await first;
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(stream.next()).rejects.toMatchObject({ code: 'PG_ABORTED', cause: reason });
    expect(await stream.next()).toEqual(done);
    expect(source.releases).toEqual([false]);
  });

  it('borrows nothing where its signal has fired before', async () => {
    const source = new FakeSource();
    const stream = new PgRowStream<number>(source, rowStatement('SELECT 1', [], { signal: AbortSignal.abort() }));
    await expect(stream.next()).rejects.toMatchObject({ code: 'PG_ABORTED' });
    expect(source.borrows).toBe(0);
  });

  it('says why there is no portal', async () => {
    const released: unknown[] = [];
    const source: ConnectionSource = {
      borrow: () =>
        Promise.resolve({
          client: { portal: () => undefined } as unknown as PgClient,
          isInTransaction: false,
          release: (error) => void released.push(error),
        }),
    };
    const stream = new PgRowStream<number>(source, statement);
    await expect(stream.next()).rejects.toMatchObject({ code: 'PG_CONFIG_INVALID' });
    expect(released).toEqual([false]);
  });
});
