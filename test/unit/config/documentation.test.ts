import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { KEYWORD_NAMES, KEYWORDS } from '../../../lib/config/keywords.js';

const guide = readFileSync(new URL('../../../docs/connection.md', import.meta.url), 'utf8');

describe('docs/connection.md', () => {
  it.each(KEYWORD_NAMES)('has a row for %s, with its variable, default and treatment', (keyword) => {
    const rows = guide.split('\n').map((line) => line.split('|').map((cell) => cell.trim()));
    const row = rows.find((cells) => cells[1] === `\`${keyword}\``);
    const { env, compiled, treatment } = KEYWORDS[keyword];
    expect(row?.slice(2, 5)).toEqual([
      env === undefined ? '' : `\`${env}\``,
      compiled === undefined || compiled === '' ? '' : `\`${compiled}\``,
      treatment,
    ]);
  });
});
