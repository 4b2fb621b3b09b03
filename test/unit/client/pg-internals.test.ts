import { PassThrough } from 'node:stream';
import pg from 'pg';
import { describe, expect, it } from 'vitest';

/**
 * Every private part of pg that lib/client touches, by name. When a version of pg moves one, the test of that name
 * fails, and says where to look.
 */
const client = new pg.Client({
  connection: new pg.Connection({ stream: new PassThrough() as never, ssl: false }),
} as pg.ClientConfig);
const connection = client.connection;

describe('private parts of pg.Client', () => {
  it.each(['_queryable', '_ending', '_ended', '_activeQuery', '_queryQueue', 'processID', 'secretKey'])(
    '%s is a field',
    (name) => {
      expect(Object.keys(client)).toContain(name);
    },
  );

  it('_queryQueue is an array', () => {
    expect(client).toHaveProperty('_queryQueue', []);
  });

  it('getStartupConf makes the startup message', () => {
    expect(pg.Client.prototype).toHaveProperty('getStartupConf', expect.any(Function));
  });

  it('config.connection replaces the connection, and config.password may be a function', () => {
    expect(client.connection).toBe(connection);
    expect(new pg.Client({ password: () => 'x' }).password).toBeTypeOf('function');
  });
});

describe('private parts of pg.Connection', () => {
  it.each(['_ending', 'stream', 'parsedStatements', 'submittedNamedStatements'])('%s is a field', (name) => {
    expect(Object.keys(connection)).toContain(name);
  });

  it.each(['attachListeners', 'connect', 'query'])('%s is a method', (name) => {
    expect(pg.Connection.prototype).toHaveProperty(name, expect.any(Function));
  });

  it('_connecting is what end() goes by', () => {
    const stream = new PassThrough();
    const written: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => written.push(chunk));
    const saysGoodbye = new pg.Connection({ stream: stream as never, ssl: false });
    Object.assign(saysGoodbye, { _connecting: true });
    saysGoodbye.end();
    expect(Buffer.concat(written).toString('latin1')).toBe('X\0\0\0\x04');
  });
});
