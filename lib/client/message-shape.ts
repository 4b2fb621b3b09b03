const PARSE_COMPLETE = 0x31;
const BIND_COMPLETE = 0x32;
const CLOSE_COMPLETE = 0x33;
const COMMAND_COMPLETE = 0x43;
const DATA_ROW = 0x44;
const ERROR = 0x45;
const NOTICE = 0x4e;
const NO_DATA = 0x6e;
const NOTIFICATION = 0x41;
const PARAMETER_STATUS = 0x53;
const READY_FOR_QUERY = 0x5a;
const ROW_DESCRIPTION = 0x54;

/**
 * Whether the body of a message, from `start` to `end`, has the form that its type asks for (PostgreSQL's protocol,
 * "Message Formats"). pg's parser believes what it is told, and reads on past the end of a message that is too short, some
 * of them for ever.
 */
export function isWellFormed(type: number, bytes: Buffer, start: number, end: number): boolean {
  switch (type) {
    case READY_FOR_QUERY:
      return end === start + 1 && isStatus(bytes[start]);
    case COMMAND_COMPLETE:
      return afterStrings(1, bytes, start, end) === end;
    case PARAMETER_STATUS:
      return afterStrings(2, bytes, start, end) === end;
    case NOTIFICATION:
      return afterStrings(2, bytes, start + 4, end) === end;
    case ERROR:
    case NOTICE:
      return hasFields(bytes, start, end);
    case ROW_DESCRIPTION:
      return hasColumns(bytes, start, end, 18);
    case DATA_ROW:
      return hasValues(bytes, start, end);
    case PARSE_COMPLETE:
    case BIND_COMPLETE:
    case CLOSE_COMPLETE:
    case NO_DATA:
      return start === end;
    default:
      return true;
  }
}

/** I, T or E. */
function isStatus(byte: number | undefined): boolean {
  return byte === 0x49 || byte === 0x54 || byte === 0x45;
}

/** Where so many strings have come to their end; -1 if they have not. */
function afterStrings(count: number, bytes: Buffer, start: number, end: number): number {
  let at = start;
  for (let index = 0; index < count; index++) {
    const terminator = bytes.indexOf(0, at);
    if (terminator === -1 || terminator >= end) return -1;
    at = terminator + 1;
  }
  return at;
}

/** A type and a string each, and a zero behind the last. */
function hasFields(bytes: Buffer, start: number, end: number): boolean {
  let at = start;
  while (at < end && bytes[at] !== 0) {
    at = afterStrings(1, bytes, at + 1, end);
    if (at === -1) return false;
  }
  return at === end - 1;
}

/** A name each, and `size` bytes. */
function hasColumns(bytes: Buffer, start: number, end: number, size: number): boolean {
  if (start + 2 > end) return false;
  let at = start + 2;
  for (let left = bytes.readUInt16BE(start); left > 0; left--) {
    at = afterStrings(1, bytes, at, end);
    if (at === -1) return false;
    at += size;
  }
  return at === end;
}

/** A length each, -1 for null, and so many bytes. */
function hasValues(bytes: Buffer, start: number, end: number): boolean {
  if (start + 2 > end) return false;
  let at = start + 2;
  for (let left = bytes.readUInt16BE(start); left > 0; left--) {
    if (at + 4 > end) return false;
    const length = bytes.readInt32BE(at);
    if (length < -1) return false;
    at += 4 + Math.max(0, length);
    if (at > end) return false;
  }
  return at === end;
}
