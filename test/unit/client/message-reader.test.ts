import { afterEach, describe, expect, it, vi } from 'vitest';
import { MessageReader, type MessageHandler } from '../../../lib/client/message-reader.js';
import { message } from '../../support/scripted-server.js';

/** One message as it came out: to whom, and its bytes. */
type Seen = [to: 'handler' | 'pg', bytes: string];

interface Reading {
  readonly seen: Seen[];
  read(chunk: Buffer): void;
}

/** A reader whose handler takes the given types, and whose rest is cut again as pg's parser does. */
function open(taken: string): Reading {
  const seen: Seen[] = [];
  const handler: MessageHandler = {
    takes: (type) => taken.includes(String.fromCharCode(type)),
    take: (type, bytes, start, end) => {
      if (bytes.readInt32BE(start - 4) !== end - start + 4 || bytes[start - 5] !== type) throw new Error('not whole');
      seen.push(['handler', bytes.toString('latin1', start - 5, end)]);
    },
  };
  const reader = new MessageReader(handler, (messages) => {
    for (const one of cut(messages)) seen.push(['pg', one.toString('latin1')]);
  });
  return { seen, read: (chunk) => reader.read(chunk) };
}

/** Whole messages; anything else would be the reader's fault. */
function cut(bytes: Buffer): Buffer[] {
  const messages: Buffer[] = [];
  for (let start = 0; start < bytes.length;) {
    const end = start + bytes.readInt32BE(start + 1) + 1;
    if (end > bytes.length) throw new Error('pg got a part of a message');
    messages.push(bytes.subarray(start, end));
    start = end;
  }
  return messages;
}

/** A session as servers tell it: the start, a simple query, an extended one, an error, a notice, a notification. */
const STREAM = Buffer.concat([
  message('R', Buffer.alloc(4)),
  message('S', 'server_version\x0018.4\0'),
  message('K', Buffer.alloc(8)),
  message('Z', 'I'),
  message('T', '\0\x01one\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0'),
  message('D', '\0\x01\0\0\0\x011'),
  message('N', 'SNOTICE\0C00000\0Mhear, hear\0\0'),
  message('D', '\0\x01\xff\xff\xff\xff'),
  message('C', 'SELECT 2\0'),
  message('Z', 'T'),
  message('1'),
  message('2'),
  message('n'),
  message('3'),
  message('s'),
  message('I'),
  message('A', '\0\0\0\x01channel\0payload\0'),
  message('E', 'SERROR\0C22012\0Mdivision by zero\0\0'),
  message('Z', 'E'),
  message('D', Buffer.alloc(0)),
  message('C', 'ROLLBACK\0'),
  message('Z', 'I'),
]);
const WHOLE = cut(STREAM).map((one) => one.toString('latin1'));

/** What `taken` must give, however the stream is cut. */
function expected(taken: string): Seen[] {
  return WHOLE.map((one) => [taken.includes(one[0] ?? '') ? 'handler' : 'pg', one]);
}

afterEach(() => void vi.restoreAllMocks());

describe.each(['', '123CDZn', 'D', 'RSKZTDNC123nsIAE', 'TE'])('MessageReader, with %j taken', (taken) => {
  it('gives every message once, whole and in its order', () => {
    const { seen, read } = open(taken);
    read(STREAM);
    expect(seen).toEqual(expected(taken));
  });

  it('gives the same when the stream comes in two pieces, wherever it is cut', () => {
    for (let at = 0; at <= STREAM.length; at++) {
      const { seen, read } = open(taken);
      read(STREAM.subarray(0, at));
      // No message waits for what is not its own.
      const whole = cut(STREAM.subarray(0, endBefore(at))).length;
      assertSame(seen, expected(taken).slice(0, whole), at);
      read(STREAM.subarray(at));
      assertSame(seen, expected(taken), at);
    }
  });

  it('gives the same when the stream comes in three pieces, wherever it is cut', () => {
    for (let one = 0; one <= STREAM.length; one += 2) {
      for (let two = one; two <= STREAM.length; two += 5) {
        const { seen, read } = open(taken);
        read(STREAM.subarray(0, one));
        read(STREAM.subarray(one, two));
        read(STREAM.subarray(two));
        assertSame(seen, expected(taken), [one, two]);
      }
    }
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 11, 64])('gives the same in pieces of %i bytes', (size) => {
    const { seen, read } = open(taken);
    for (let at = 0; at < STREAM.length; at += size) read(STREAM.subarray(at, at + size));
    expect(seen).toEqual(expected(taken));
  });
});

/** `expect` for loops: it is asked only for what it has to tell. */
function assertSame(seen: Seen[], wanted: Seen[], where: unknown): void {
  if (seen.flat().join() !== wanted.flat().join()) expect([where, seen]).toEqual([where, wanted]);
}

/** Where the last message ends that is whole in the stream's first `length` bytes. */
function endBefore(length: number): number {
  let end = 0;
  for (const { length: size } of WHOLE) {
    if (end + size > length) break;
    end += size;
  }
  return end;
}

describe('MessageReader', () => {
  it('asks anew whose a message is after each error and each end of a query', () => {
    let query = 0;
    const seen: string[] = [];
    const reader = new MessageReader(
      { takes: () => query === 1, take: (type) => seen.push(`ours ${String.fromCharCode(type)}`) },
      (messages) => {
        for (const one of cut(messages)) {
          seen.push(one.toString('latin1', 0, 1));
          // As in pg: with these, another query becomes the active one.
          if ('EZ'.includes(one.toString('latin1', 0, 1))) query++;
        }
      },
    );
    reader.read(Buffer.concat([message('C'), message('Z'), message('D'), message('C')]));
    expect(seen).toEqual(['C', 'Z', 'ours D', 'ours C']);
  });

  it('hands what is not taken over in as few pieces as can be', () => {
    const passed: number[] = [];
    const reader = new MessageReader({ takes: () => false, take: () => undefined }, ({ length }) => {
      passed.push(length);
    });
    const notices = Buffer.concat(Array.from({ length: 100 }, () => message('N', 'x')));
    reader.read(notices);
    expect(passed).toEqual([notices.length]);
  });

  it('does not copy what comes whole', () => {
    const concat = vi.spyOn(Buffer, 'concat');
    const { seen, read } = open('D');
    const rows = concatenated(Array.from({ length: 1_000 }, () => message('D', 'a row')));
    concat.mockClear();
    read(rows);
    expect(seen).toHaveLength(1_000);
    expect(concat).not.toHaveBeenCalled();
  });

  it.each([
    ['taken', 'D'],
    ['passed on', ''],
  ])('joins the pieces of a huge message once, when it is %s', (_, taken) => {
    const size = 64 * 2 ** 20;
    const huge = message('D', Buffer.alloc(size, 'x'));
    const stream = Buffer.concat([message('C', 'BEFORE\0'), huge, message('C', 'AFTER\0')]);
    const lengths: number[] = [];
    const reader = new MessageReader(
      {
        takes: (type) => taken.includes(String.fromCharCode(type)),
        take: (_type, __, start, end) => lengths.push(end - start),
      },
      (messages) => {
        for (const one of cut(messages)) lengths.push(one.length - 5);
      },
    );
    const copied = countCopies();
    for (let at = 0; at < stream.length; at += 65_536) reader.read(stream.subarray(at, at + 65_536));
    expect(lengths).toEqual([7, size, 6]);
    expect(copied()).toBeLessThanOrEqual(huge.length + 2 * 65_536);
  });

  it('copies no more than twice what comes in, for messages a little longer than the pieces', () => {
    const stream = concatenated(Array.from({ length: 200 }, () => message('D', Buffer.alloc(70_000, 'x'))));
    let rows = 0;
    const reader = new MessageReader({ takes: () => true, take: () => rows++ }, () => undefined);
    const copied = countCopies();
    for (let at = 0; at < stream.length; at += 65_536) reader.read(stream.subarray(at, at + 65_536));
    expect(rows).toBe(200);
    expect(copied()).toBeLessThanOrEqual(2 * stream.length);
  });

  it('copies no more than twice what comes in, byte for byte', () => {
    const stream = message('D', Buffer.alloc(100_000, 'x'));
    const reader = new MessageReader({ takes: () => true, take: () => undefined }, () => undefined);
    const copied = countCopies();
    for (let at = 0; at < stream.length; at++) reader.read(stream.subarray(at, at + 1));
    expect(copied()).toBeLessThanOrEqual(2 * stream.length);
  });

  describe('a stream that is out of step', () => {
    const header = (type: string, length: number): Buffer => {
      const bytes = Buffer.alloc(5);
      bytes.write(type, 0, 'latin1');
      bytes.writeUInt32BE(length, 1);
      return bytes;
    };

    it.each([0, 1, 2, 3])('is one with a length of %i, which does not even hold itself', (length) => {
      for (const type of 'DTZ1\0') {
        expect(() => open('').read(header(type, length))).toThrow(
          expect.objectContaining({ code: 'PG_CONNECTION_LOST' }),
        );
      }
    });

    it.each(Array.from('123CGHIKRSWZcnstv\0\xff'))('is one with a message %j that is too long for its type', (type) => {
      const { seen, read } = open('Z');
      expect(() => read(Buffer.concat([message('C', 'SELECT 1\0'), header(type, 30_001)]))).toThrow(
        expect.objectContaining({ code: 'PG_CONNECTION_LOST', message: expect.stringContaining('30001') }),
      );
      expect(seen.map(([to]) => to)).not.toContain('handler');
    });

    it.each(Array.from('DdTENAV'))('is not one with a long message %j', (type) => {
      const { seen, read } = open('');
      read(header(type, 100_004));
      read(Buffer.alloc(99_999));
      expect(seen).toEqual([]);
      read(Buffer.alloc(1));
      expect(seen).toHaveLength(1);
    });

    // fe-protocol3.c: the length is a signed number there, and the server sends no message of more than 1 GB.
    it.each([0x80000000, 0xfffffffe, 0xffffffff])(
      'is one with a row of %i bytes, and nobody waits for them',
      (length) => {
        expect(() => open('D').read(header('D', length))).toThrow(
          expect.objectContaining({ code: 'PG_CONNECTION_LOST' }),
        );
      },
    );

    it('names the type and the length', () => {
      expect(() => open('').read(header('Z', 77_777))).toThrow(/type 90 and length 77777/);
    });
  });
});

function concatenated(messages: readonly Buffer[]): Buffer {
  return Buffer.concat(messages);
}

/** Counts the bytes that `Buffer.concat` copies from now on. */
function countCopies(): () => number {
  let bytes = 0;
  const concat = Buffer.concat.bind(Buffer);
  vi.spyOn(Buffer, 'concat').mockImplementation((pieces, length) => {
    const joined = concat(pieces, length);
    bytes += joined.length;
    return joined;
  });
  return () => bytes;
}
