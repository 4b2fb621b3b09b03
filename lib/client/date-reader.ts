const ZERO = 0x30;
const NINE = 0x39;
const PLUS = 0x2b;
const MINUS = 0x2d;
const DOT = 0x2e;
const COLON = 0x3a;
const SPACE = 0x20;

/**
 * Reads `2026-11-22`, `2026-11-22 12:34:56.789` and `2026-11-22 12:34:56+05:30` as pg does: what has no offset is local
 * time. Years from 100 to 9999.
 *
 * @returns `undefined` for anything else
 */
export function readDate(bytes: Buffer, start: number, end: number): Date | undefined {
  const length = end - start;
  if (length < 10 || bytes[start + 4] !== MINUS || bytes[start + 7] !== MINUS) return undefined;
  const year = digits(bytes, start, 2) * 100 + digits(bytes, start + 2, 2);
  const month = digits(bytes, start + 5, 2) - 1;
  const day = digits(bytes, start + 8, 2);
  if (!(year >= 100) || Number.isNaN(month + day)) return undefined;
  if (length === 10) return new Date(year, month, day);
  if (length < 19 || bytes[start + 10] !== SPACE) return undefined;
  if (bytes[start + 13] !== COLON || bytes[start + 16] !== COLON) return undefined;
  const hour = digits(bytes, start + 11, 2);
  const minute = digits(bytes, start + 14, 2);
  const second = digits(bytes, start + 17, 2);
  if (Number.isNaN(hour + minute + second)) return undefined;
  let at = start + 19;
  let millis = 0;
  if (at < end && bytes[at] === DOT) {
    const from = ++at;
    let fraction = 0;
    while (at < end && isDigit(bytes[at])) fraction = fraction * 10 + ((bytes[at++] ?? 0) - ZERO);
    // As pg does it: the same double, truncated by Date.
    millis = 1000 * (fraction / 10 ** (at - from));
  }
  if (at === end) return new Date(year, month, day, hour, minute, second, millis);
  const offset = readOffset(bytes, at, end);
  if (offset === undefined) return undefined;
  return new Date(Date.UTC(year, month, day, hour, minute, second, millis) - offset);
}

/** `+05`, `-03:30`, `+00:19:32`, in milliseconds. */
function readOffset(bytes: Buffer, start: number, end: number): number | undefined {
  const sign = bytes[start] === PLUS ? 1000 : bytes[start] === MINUS ? -1000 : 0;
  const length = end - start;
  if (sign === 0 || (length !== 3 && length !== 6 && length !== 9)) return undefined;
  let seconds = digits(bytes, start + 1, 2) * 3600;
  if (length > 3) seconds += digits(bytes, start + 4, 2) * 60;
  if (length > 6) seconds += digits(bytes, start + 7, 2);
  if (Number.isNaN(seconds) || (length > 3 && bytes[start + 3] !== COLON) || (length > 6 && bytes[start + 6] !== COLON))
    return undefined;
  return seconds * sign;
}

/** NaN where something else stands. */
function digits(bytes: Buffer, start: number, count: number): number {
  let value = 0;
  for (let at = start; at < start + count; at++) {
    if (!isDigit(bytes[at])) return NaN;
    value = value * 10 + ((bytes[at] ?? 0) - ZERO);
  }
  return value;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE;
}
