import type { Item } from './subject.js';

/** What is written at once. */
const CHUNK_LENGTH = 65_536;

/** Rows in COPY's text format, in pieces that are worth a write: as one does it by hand for columns that need no escaping. */
export function* textChunks(items: Iterable<Item>): Generator<string, void, undefined> {
  let chunk = '';
  for (const [id, total, ratio, name, at] of items) {
    chunk += `${id}\t${total}\t${ratio}\t${name}\t${at.toISOString()}\n`;
    if (chunk.length < CHUNK_LENGTH) continue;
    yield chunk;
    chunk = '';
  }
  if (chunk !== '') yield chunk;
}
