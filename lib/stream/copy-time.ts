import pg from 'pg';
import type { ByteWriter } from '../util/byte-writer.js';

/** 2000-01-01T00:00:00Z, from which PostgreSQL counts. */
const EPOCH_MILLIS = 946_684_800_000;
const DAY_MILLIS = 86_400_000;
const MINUTE_MILLIS = 60_000;
const WORD = 2 ** 32;
/** The first day that a timestamp can have, 4714-11-24 BC. What comes before it is the server's to refuse. */
const FIRST_MILLIS = -210_866_803_200_000;
/** Since then all time zones differ from UTC by whole minutes. Before, pg leaves the seconds out of what it sends. */
const WHOLE_MINUTES_MILLIS = 94_694_400_000;

const CLOCK = '([01]\\d|2[0-3]):([0-5]\\d)(?::([0-5]\\d)(?:\\.(\\d{1,6}))?)?';
const MOMENT = new RegExp(
  `^(\\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])(?:[T ]${CLOCK}(?:(Z)|([+-])(0\\d|1[0-4])(?::([0-5]\\d))?)?)?$`,
);
const TIME = new RegExp(`^${CLOCK}$`);

/** What a text in ISO 8601 says. */
interface Moment {
  /** The wall clock, read as if it were UTC's, from 1970 on. */
  readonly millis: number;
  readonly micros: number;
  readonly offsetMinutes: number | undefined;
}

export function writeDate(out: ByteWriter, value: string | Date): boolean {
  if (isInfinite(value)) return writeInfinite32(out, value);
  const millis = typeof value === 'string' ? moment(value)?.millis : wallClock(value);
  if (millis === undefined || !(millis >= FIRST_MILLIS)) return false;
  out.int32(4);
  out.int32(Math.floor((millis - EPOCH_MILLIS) / DAY_MILLIS));
  return true;
}

/** Without a time zone: the wall clock. */
export function writeTimestamp(out: ByteWriter, value: string | Date): boolean {
  if (isInfinite(value)) return writeInfinite64(out, value);
  if (typeof value !== 'string') return writeMoment(out, wallClock(value), 0);
  const read = moment(value);
  return read !== undefined && writeMoment(out, read.millis, read.micros);
}

export function writeTimestamptz(out: ByteWriter, value: string | Date): boolean {
  if (isInfinite(value)) return writeInfinite64(out, value);
  if (typeof value !== 'string') return writeMoment(out, instant(value), 0);
  const read = moment(value);
  // Without an offset the time zone of the session counts.
  if (read?.offsetMinutes === undefined) return false;
  return writeMoment(out, read.millis - read.offsetMinutes * MINUTE_MILLIS, read.micros);
}

export function writeTime(out: ByteWriter, value: string): boolean {
  const match = TIME.exec(value);
  if (!match) return false;
  const [, hours, minutes, seconds, fraction] = match;
  const { millis, micros } = clock(hours, minutes, seconds, fraction);
  out.int32(8);
  writeMicros(out, millis, micros);
  return true;
}

function writeMoment(out: ByteWriter, millis: number, micros: number): boolean {
  if (!(millis >= FIRST_MILLIS)) return false;
  out.int32(8);
  writeMicros(out, millis - EPOCH_MILLIS, micros);
  return true;
}

/** `millis` thousands of microseconds and `micros`: more than a double can count exactly. */
function writeMicros(out: ByteWriter, millis: number, micros: number): void {
  const high = Math.floor(millis / WORD);
  const low = (millis - high * WORD) * 1_000 + micros;
  const carry = Math.floor(low / WORD);
  out.int64(high * 1_000 + carry, low - carry * WORD);
}

function isInfinite(value: string | Date): value is 'infinity' | '-infinity' {
  return value === 'infinity' || value === '-infinity';
}

function writeInfinite32(out: ByteWriter, value: string): boolean {
  out.int32(4);
  out.int32(value === 'infinity' ? 0x7fffffff : -0x80000000);
  return true;
}

function writeInfinite64(out: ByteWriter, value: string): boolean {
  out.int32(8);
  if (value === 'infinity') out.int64(0x7fffffff, 0xffffffff);
  else out.int64(-0x80000000, 0);
  return true;
}

/** What pg writes of a Date before its offset, read as if it were UTC's. */
function wallClock(date: Date): number {
  const millis = date.getTime();
  if (sendsUtc()) return millis;
  if (millis >= WHOLE_MINUTES_MILLIS) return millis - date.getTimezoneOffset() * MINUTE_MILLIS;
  const local = new Date(0);
  local.setUTCFullYear(date.getFullYear(), date.getMonth(), date.getDate());
  local.setUTCHours(date.getHours(), date.getMinutes(), date.getSeconds(), date.getMilliseconds());
  return local.getTime();
}

/** What pg writes of a Date, its offset included. */
function instant(date: Date): number {
  const millis = date.getTime();
  if (millis >= WHOLE_MINUTES_MILLIS || sendsUtc()) return millis;
  return wallClock(date) + date.getTimezoneOffset() * MINUTE_MILLIS;
}

function sendsUtc(): boolean {
  return pg.defaults.parseInputDatesAsUTC === true;
}

function moment(text: string): Moment | undefined {
  const match = MOMENT.exec(text);
  if (!match) return undefined;
  const [, year, month, day, hours, minutes, seconds, fraction, utc, sign, offsetHours, offsetMinutes = '0'] = match;
  const date = new Date(0);
  date.setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  // Before year 1 comes year 1 BC; and there is no 30th of February.
  if (year === '0000' || date.getUTCDate() !== Number(day)) return undefined;
  const { millis, micros } = clock(hours, minutes, seconds, fraction);
  const offset = offsetHours === undefined ? undefined : Number(offsetHours) * 60 + Number(offsetMinutes);
  return {
    millis: date.getTime() + millis,
    micros,
    offsetMinutes: utc ? 0 : offset && sign === '-' ? -offset : offset,
  };
}

function clock(
  hours = '0',
  minutes = '0',
  seconds = '0',
  fraction = '',
): { readonly millis: number; readonly micros: number } {
  const digits = fraction.padEnd(6, '0');
  return {
    millis: ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1_000 + Number(digits.slice(0, 3)),
    micros: Number(digits.slice(3)),
  };
}
