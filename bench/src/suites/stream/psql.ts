import { execFile } from 'node:child_process';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { MissingError } from '../../harness/missing.js';
import { COLUMNS, items, TARGET } from './database.js';
import type { StreamSubject } from './subject.js';
import { textChunks } from './text-format.js';

const run = promisify(execFile);

/** psql's \copy, from a file that is there before. */
export const psql: StreamSubject = async (connectionString) => {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  if (!folders.some((folder) => existsSync(join(folder, 'psql'))))
    throw new MissingError('there is no psql on the PATH');
  const folder = await mkdtemp(join(tmpdir(), 'nestjs-pg-bench-'));
  const fileOf = (count: number): string => join(folder, `${count}.txt`);
  return {
    prepare: (count) => pipeline(Readable.from(textChunks(items(count))), createWriteStream(fileOf(count))),
    load: async (_, count) => {
      const command = `\\copy ${TARGET} (${COLUMNS.join(', ')}) FROM '${fileOf(count)}'`;
      await run('psql', ['--no-psqlrc', '--quiet', '--command', command, connectionString]);
    },
    close: () => rm(folder, { recursive: true, force: true }),
  };
};
