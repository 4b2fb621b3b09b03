import type { ByteWriter } from '../util/byte-writer.js';

const DECIMAL = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?$/;
/** Longer ones are left to the server. */
const MOST_DIGITS = 1_000;
const NEGATIVE = 0x4000;
const SPECIAL: Readonly<Record<string, number>> = { NaN: 0xc000, Infinity: 0xd000, '-Infinity': 0xf000 };

/** Writes a numeric in binary: groups of four digits, as numeric_recv() of the server reads them. */
export function writeNumeric(out: ByteWriter, text: string): boolean {
  const special = SPECIAL[text];
  if (special !== undefined) {
    write(out, '', 0, special, 0);
    return true;
  }
  const match = text.length <= MOST_DIGITS ? DECIMAL.exec(text) : null;
  if (!match) return false;
  const [, sign, whole = '', fraction = '', exponent = '0'] = match;
  if (whole === '' && fraction === '') return false;
  const scale = fraction.length - Number(exponent);
  let digits = whole + fraction + '0'.repeat(Math.max(0, -scale));
  // How many digits stand before the point.
  let before = digits.length - Math.max(0, scale);
  const ahead = before < 0 ? -before : (4 - (before % 4)) % 4;
  digits = '0'.repeat(ahead) + digits;
  before += ahead;
  digits += '0'.repeat((4 - ((digits.length - before) % 4)) % 4);
  let start = 0;
  let end = digits.length;
  while (start < end && digits.startsWith('0000', start)) start += 4;
  while (end > start && digits.endsWith('0000', end)) end -= 4;
  const significant = digits.slice(start, end);
  const isNegative = sign === '-' && significant !== '';
  const weight = significant === '' ? 0 : (before - start) / 4 - 1;
  write(out, significant, weight, isNegative ? NEGATIVE : 0, Math.max(0, scale));
  return true;
}

function write(out: ByteWriter, digits: string, weight: number, sign: number, scale: number): void {
  out.int32(8 + digits.length / 2);
  out.int16(digits.length / 4);
  out.int16(weight);
  out.int16(sign);
  out.int16(scale);
  for (let at = 0; at < digits.length; at += 4) out.int16(Number(digits.slice(at, at + 4)));
}
