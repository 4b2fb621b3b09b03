import { expect, it } from 'vitest';
import { PooledConnection } from '../../../lib/pool/pooled-connection.js';
import { SharedConnections } from '../../../lib/pool/shared-connections.js';
import { FakeClient } from '../../support/fake-client.js';

type Shared = PooledConnection<FakeClient, 'leased'>;

function shared(count: number): { all: SharedConnections<FakeClient>; connections: Shared[] } {
  const all = new SharedConnections<FakeClient>();
  const connections = Array.from({ length: count }, (_, id) =>
    PooledConnection.opened(new FakeClient(id), Infinity, 0).lend(undefined, 0),
  );
  for (const connection of connections) all.add(connection, 1);
  return { all, connections };
}

const anyone = (): boolean => true;

it('finds each in its turn, and only those with room', () => {
  const { all, connections } = shared(3);
  const [full] = connections;
  all.join(full as Shared, 3);
  const found = [1, 2, 3, 4].map(() => all.find(1, 0, anyone));
  expect(new Set(found)).toEqual(new Set(connections.slice(1)));
});

it('finds the last one again while what it was found for has not left: one more costs no write', () => {
  const { all } = shared(3);
  const first = all.find(0.1, 0, anyone) as Shared;
  all.join(first, 0.1);
  first.client.isCorked = true;
  expect(all.find(0.1, 0, anyone)).toBe(first);

  first.client.isCorked = false;
  expect(all.find(0.1, 0, anyone)).not.toBe(first);
});

it('finds each of those in its turn whose requests are about to leave', () => {
  const { all, connections } = shared(4);
  const leaving = connections.slice(1, 3);
  for (const { client } of leaving) client.isCorked = true;
  const found = [1, 2, 3, 4].map(() => all.find(0.1, 0, anyone));
  expect(found.slice(0, 2)).toEqual(expect.arrayContaining(leaving));
  expect(found.slice(2)).toEqual(found.slice(0, 2));
});

it('does not find the last one again if it has no room, or is unfit', () => {
  const { all } = shared(2);
  const first = all.find(1, 0, anyone) as Shared;
  first.client.isCorked = true;
  expect(all.find(1, 0, (connection) => connection !== first)).not.toBe(first);

  all.join(first, 3);
  const second = all.find(1, 0, anyone);
  expect(second).not.toBe(first);
  expect(second).toBeDefined();
});

it('does not find one whose server has been silent: it may be waiting for a lock', () => {
  const { all, connections } = shared(2);
  const [silent, answering] = connections as [Shared, Shared];
  answering.answeredAt = 10;
  expect([1, 2, 3].map(() => all.find(0.1, 12, anyone))).toEqual([answering, answering, answering]);

  silent.answeredAt = 11;
  expect([1, 2].map(() => all.find(0.1, 12, anyone))).toContain(silent);
});
