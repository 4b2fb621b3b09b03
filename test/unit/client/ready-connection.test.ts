import { PassThrough } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import { ReadyConnection } from '../../../lib/client/ready-connection.js';
import { settle } from '../../support/manual-clock.js';
import { message } from '../../support/scripted-server.js';

function open(): { stream: PassThrough; connection: ReadyConnection; errors: Error[] } {
  const stream = new PassThrough();
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
    stream.write(message('R', Buffer.from([0, 0, 0, 7])));
    await settle();
    expect(errors).toEqual([expect.objectContaining({ code: 'PG_AUTH_REFUSED' })]);
    expect(stream.destroyed).toBe(true);
  });

  it('hears nothing more of a session that it has refused, not even from the same packet', async () => {
    const { stream, connection, errors } = open();
    const heard = vi.fn();
    connection.on('readyForQuery', heard);
    connection.on('authenticationOk', () => connection.refuse(new Error('mine')));
    stream.write(Buffer.concat([message('R', Buffer.from([0, 0, 0, 0])), ready]));
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
    stream.write(Buffer.concat([message('A', Buffer.from('\0\0\0\x01channel\0payload\0')), ready]));
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
});
