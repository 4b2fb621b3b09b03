import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readDate } from '../../../lib/client/date-reader.js';

const parse = pg.types.getTypeParser(pg.types.builtins.TIMESTAMPTZ, 'text') as (text: string) => unknown;

function read(text: string): Date | undefined {
  const bytes = Buffer.from(`1-${text}+05`, 'utf8');
  return readDate(bytes, 2, bytes.length - 3);
}

/** What the reader makes of a text is what pg makes of it, or nothing. */
function same(text: string): boolean {
  const ours = read(text);
  if (ours === undefined) return true;
  const theirs = parse(text);
  return theirs instanceof Date && Object.is(ours.getTime(), theirs.getTime());
}

const pad = (value: number, width = 2): string => String(value).padStart(width, '0');

/** What ISO output of a server looks like (datetime.c, EncodeDateTime). */
const iso = fc
  .record({
    year: fc.oneof(
      fc.integer({ min: 100, max: 9999 }),
      fc.integer({ min: 1, max: 294_276 }),
      fc.integer({ min: 1900, max: 2100 }),
    ),
    month: fc.integer({ min: 1, max: 12 }),
    day: fc.integer({ min: 1, max: 31 }),
    hour: fc.integer({ min: 0, max: 24 }),
    minute: fc.integer({ min: 0, max: 59 }),
    second: fc.integer({ min: 0, max: 60 }),
    fraction: fc.option(fc.stringMatching(/^\d{1,6}$/)),
    zone: fc.option(
      fc.oneof(
        fc.tuple(fc.constantFrom('+', '-'), fc.integer({ min: 0, max: 15 })).map(([sign, hours]) => sign + pad(hours)),
        fc.stringMatching(/^[+-](?:0\d|1[0-5]):[0-5]\d$/),
        fc.stringMatching(/^[+-](?:0\d|1[0-5]):[0-5]\d:[0-5]\d$/),
      ),
    ),
    isBC: fc.boolean(),
    isDate: fc.boolean(),
  })
  .map(({ year, month, day, hour, minute, second, fraction, zone, isBC, isDate }) => {
    const date = `${pad(year, 4)}-${pad(month)}-${pad(day)}`;
    const time = ` ${pad(hour)}:${pad(minute)}:${pad(second)}${fraction === null ? '' : `.${fraction}`}${zone ?? ''}`;
    return `${date}${isDate ? '' : time}${isBC ? ' BC' : ''}`;
  });

describe.each(['UTC', 'Europe/Berlin', 'Asia/Kolkata', 'America/St_Johns', 'Pacific/Apia'])(
  'readDate in %s',
  (zone) => {
    const before = process.env['TZ'];
    beforeAll(() => void (process.env['TZ'] = zone));
    afterAll(() => {
      if (before === undefined) delete process.env['TZ'];
      else process.env['TZ'] = before;
    });

    it.each([
      '2026-11-22',
      '2026-11-22 12:34:56',
      '2026-11-22 12:34:56.7',
      '2026-11-22 12:34:56.789',
      '2026-11-22 12:34:56.789012',
      '2026-11-22 12:34:56+00',
      '2026-11-22 12:34:56-00',
      '2026-11-22 12:34:56.789012+05:30',
      '2026-11-22 12:34:56-03:30',
      '1883-11-18 12:03:57-00:19:32',
      '0100-01-01',
      '0100-01-01 00:00:00',
      '0100-01-01 00:00:00+00',
      '9999-12-31 23:59:59.999999+00',
      '1969-12-31 23:59:59.999999+00',
      '1969-12-31 23:59:59.0005+00',
      '2026-03-29 02:30:00',
      '2026-10-25 02:30:00',
      '2011-12-30 12:00:00',
      '2026-02-31',
      '2026-11-22 24:00:00',
      '2016-12-31 23:59:60+00',
      '1900-01-01 00:00:00',
    ])('reads %s as pg does', (text) => {
      expect(read(text)).toBeInstanceOf(Date);
      expect(read(text)).toEqual(parse(text));
    });

    it('reads what servers write as pg does', () => {
      fc.assert(fc.property(iso, same), { numRuns: 4_000 });
    });

    it('reads every day of 300 years as pg does', () => {
      for (let day = Date.UTC(1850, 0, 1); day < Date.UTC(2150, 0, 1); day += 86_400_000) {
        const text = new Date(day).toISOString().slice(0, 10);
        if (read(text)?.getTime() !== (parse(text) as Date).getTime()) expect(read(text)).toEqual(parse(text));
      }
    });
  },
);

describe('readDate', () => {
  it.each([
    ['2026-11-22 12:34:56', '+00', 1],
    ['1969-12-31 23:59:59', '+00', 7],
    ['2026-11-22 12:34:56', '', 7],
    ['2026-11-22 12:34:56', '-03:30', 7],
  ])(
    'reads every microsecond of a second as pg does: %s, zone %j, in steps of %i',
    (second, zone, step) => {
      for (let micros = 0; micros < 1_000_000; micros += step) {
        // As the server does it: without zeros at the end.
        const fraction = pad(micros, 6).replace(/0+$/, '');
        const text = `${second}${fraction && `.${fraction}`}${zone}`;
        if (read(text)?.getTime() !== (parse(text) as Date).getTime()) {
          expect([text, read(text)]).toEqual([text, parse(text)]);
        }
      }
    },
    120_000,
  );

  it.each([
    'infinity',
    '-infinity',
    '0044-03-15 BC',
    '0044-03-15 12:00:00 BC',
    '0044-03-15 12:00:00+00 BC',
    '0099-01-01',
  ])('leaves %s to pg', (text) => expect(read(text)).toBeUndefined());

  it.each(['12026-11-22', '294276-12-31 23:59:59.999999+00', '10000-01-01'])(
    'leaves years of five digits to pg: %s',
    (text) => expect(read(text)).toBeUndefined(),
  );

  // DateStyle.
  it.each([
    ...['11/22/2026', '11/22/2026 12:34:56.789 UTC', '22.11.2026', '22.11.2026 12:34:56 CET'],
    ...['11-22-2026', 'Sun Nov 22 12:34:56 2026 UTC', '2026-11-22T12:34:56', '20261122'],
  ])('leaves other styles to pg: %s', (text) => expect(read(text)).toBeUndefined());

  it.each([
    ...['', '2026', '2026-11', '2026-11-2', '2026-11-22 ', '2026-11-22 12', '2026-11-22 12:34', '2026-11-22 12:34:5'],
    ...['2026-11-22 12:34:56+', '2026-11-22 12:34:56+5', '2026-11-22 12:34:56+05:3', '2026-11-22 12:34:56 UTC'],
    ...['2026-11-22 12:34:56Z', '2026-11-22 12:34:56.5x', '2026-11-22 12:34:56+aa', '2026-11-22 12:34:56+05 30'],
    ...['2026-1a-22', '2026-11-2b', '2O26-11-22', '2026-11-22 1c:34:56', '2026-11-22 12:3d:56', '2026-11-22 12:34:e6'],
    ...['2026-11-22 12.34.56', '2026-11-22 12:34:56+05-30', '2026-11-22 12:34:56+05:30-15', '    -  -  ', '2026-xx-yy'],
  ])('leaves what is no date to pg: %j', (text) => expect(read(text)).toBeUndefined());

  it('reads nothing differently, whatever stands there', () => {
    const characters = fc.constantFrom(...Array.from('0123456789-+:. BCZ/x'));
    const mutated = fc
      .tuple(iso, fc.array(fc.tuple(fc.nat(30), fc.option(characters)), { minLength: 1, maxLength: 3 }))
      .map(([text, changes]) =>
        changes.reduce(
          (now, [at, put]) => now.slice(0, at) + (put ?? '') + now.slice(put === null ? at + 1 : at + 1),
          text,
        ),
      );
    fc.assert(fc.property(mutated, same), { numRuns: 20_000 });
  });
});
