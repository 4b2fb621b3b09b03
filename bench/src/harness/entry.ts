import { suiteNamed } from '../suites/index.js';
import type { ServerUnderTest } from './bench.js';
import { PROFILES, type ProfileName } from './profile.js';
import { isMissing } from './missing.js';
import { runEntry, type CellResult } from './run-entry.js';

/** What the runner tells the process of an entry. */
export interface Job {
  readonly suite: string;
  readonly workload: string;
  /** Default: all. */
  readonly cells: readonly string[] | undefined;
  readonly subject: string;
  readonly profile: ProfileName;
  readonly server: ServerUnderTest;
}

/** What the process answers. */
export type Answer = { readonly results: CellResult[] } | { readonly missing: string } | { readonly failure: string };

async function answerTo({ suite, workload, cells, subject, profile, server }: Job): Promise<Answer> {
  try {
    return { results: await runEntry(await suiteNamed(suite), workload, subject, PROFILES[profile], server, cells) };
  } catch (error) {
    if (isMissing(error)) return { missing: error.message };
    return { failure: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

process.once('message', (job: Job) => {
  void answerTo(job).then((answer) => {
    // A subject may leave sockets or timers behind; the next entry must not find them at work.
    process.send?.(answer, () => process.exit(0));
  });
});
