import { Duplex } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import { ReadyConnection } from '../../../lib/client/ready-connection.js';
import { settle } from '../../support/manual-clock.js';
import { message } from '../../support/scripted-server.js';

/** What is written is the server's, and nobody's here; what a test pushes is read. */
class ServerSide extends Duplex {
  override _read(): void {
    return undefined;
  }

  override _write(_: unknown, __: unknown, done: () => void): void {
    done();
  }
}

function open(): { stream: ServerSide; connection: ReadyConnection; errors: Error[] } {
  const stream = new ServerSide();
  const connection = new ReadyConnection(stream);
  const errors: Error[] = [];
  connection.on('error', (error: Error) => errors.push(error));
  connection.connect();
  return { stream, connection, errors };
}

const ready = message('Z', 'I');

describe('ReadyConnection', () => {
  it('ends the session at bytes that are no message, instead of the process', async () => {
    const { stream, errors } = open();
    // AuthenticationGSS, which pg does not know.
    stream.push(message('R', Buffer.from([0, 0, 0, 7])));
    await settle();
    expect(errors).toEqual([expect.objectContaining({ code: 'PG_AUTH_REFUSED' })]);
    expect(stream.destroyed).toBe(true);
  });

  it('hears nothing more of a session that it has refused, not even from the same packet', async () => {
    const { stream, connection, errors } = open();
    const heard = vi.fn();
    connection.on('readyForQuery', heard);
    connection.on('authenticationOk', () => connection.refuse(new Error('mine')));
    stream.push(Buffer.concat([message('R', Buffer.from([0, 0, 0, 0])), ready]));
    await settle();
    expect(heard).not.toHaveBeenCalled();
    expect(errors).toEqual([expect.objectContaining({ message: 'mine' })]);
  });

  it("leaves a listener's exception to the process, and goes on reading", async () => {
    const uncaught = vi.fn();
    const before = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.once('uncaughtException', uncaught);
    const { stream, connection, errors } = open();
    const heard = vi.fn();
    connection.once('notification', () => {
      throw new Error('a bug of the application');
    });
    connection.on('readyForQuery', heard);
    stream.push(Buffer.concat([message('A', Buffer.from('\0\0\0\x01channel\0payload\0')), ready]));
    await settle();
    await settle();
    for (const listener of before) process.on('uncaughtException', listener);
    expect(heard).toHaveBeenCalledTimes(1);
    expect(uncaught).toHaveBeenCalledWith(
      expect.objectContaining({ message: 'a bug of the application' }),
      expect.anything(),
    );
    expect(errors).toEqual([]);
  });

  describe('a statement sent ahead', () => {
    const complete = (tag: string): Buffer => message('C', Buffer.from(`${tag}\0`));
    const notice = message('A', Buffer.from('\0\0\0\x01channel\0payload\0'));

    it('is answered without anybody hearing, but for what is not its answer', async () => {
      const { stream, connection, errors } = open();
      const heard: (string | symbol)[] = [];
      for (const name of ['commandComplete', 'readyForQuery', 'notification']) {
        connection.on(name, () => heard.push(name));
      }
      connection.sendAhead('DISCARD ALL');
      expect(connection.isAhead).toBe(true);
      stream.push(Buffer.concat([complete('DISCARD ALL'), notice, ready]));
      await settle();
      expect(heard).toEqual(['notification']);
      expect(connection.isAhead).toBe(false);
      stream.push(Buffer.concat([complete('SELECT 1'), ready]));
      await settle();
      expect(heard).toEqual(['notification', 'commandComplete', 'readyForQuery']);
      expect(errors).toEqual([]);
    });

    it.each([
      ['fails', Buffer.concat([message('E', Buffer.from('SERROR\0C57014\0Mcanceled\0\0')), ready]), /canceled/],
      ['leaves a transaction open', Buffer.concat([complete('BEGIN'), message('Z', 'T')]), /status T/],
    ])('ends the session when it %s, with all that was sent behind it', async (_, answer, reason) => {
      const { stream, connection, errors } = open();
      const heard = vi.fn();
      connection.on('readyForQuery', heard);
      connection.sendAhead('DISCARD ALL');
      stream.push(Buffer.concat([answer, complete('SELECT 1'), ready]));
      await settle();
      expect(heard).not.toHaveBeenCalled();
      expect(stream.destroyed).toBe(true);
      expect(errors).toEqual([expect.objectContaining({ code: 'PG_CONNECTION_LOST' })]);
      expect(errors[0]?.message).toMatch(reason);
    });
  });

  it.each(['DISCARD ALL', 'DEALLOCATE ALL'])('knows of no prepared statement after %s', async (tag) => {
    const { stream, connection } = open();
    const statements = connection as unknown as Record<string, Record<string, string>>;
    statements['parsedStatements'] = { one: 'SELECT 1' };
    statements['submittedNamedStatements'] = { two: 'SELECT 2' };
    stream.push(message('C', Buffer.from(`${tag}\0`)));
    await settle();
    expect(statements).toMatchObject({ parsedStatements: {}, submittedNamedStatements: {} });
    expect(Object.keys(statements['parsedStatements'] ?? {})).toEqual([]);
    expect(Object.keys(statements['submittedNamedStatements'] ?? {})).toEqual([]);
  });
});
