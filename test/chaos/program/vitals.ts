import { readdirSync } from 'node:fs';
import { setImmediate as tick } from 'node:timers/promises';
import type { Sample } from './protocol.js';

/** What the process holds when all that can be collected has been. Needs --expose-gc. */
export async function takeSample(startedAt: number): Promise<Sample> {
  if (!gc) throw new Error('start this program with --expose-gc');
  // What has been closed lets go of its memory in the turns after; what is weakly held, in the collection after.
  for (let round = 0; round < 3; round++) {
    await tick();
    gc();
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  const resources: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) resources[kind] = (resources[kind] ?? 0) + 1;
  const atSeconds = (performance.now() - startedAt) / 1000;
  return { atSeconds, heap: heapUsed, external, rss, descriptors: countDescriptors(), resources };
}

function countDescriptors(): number | undefined {
  try {
    return readdirSync('/dev/fd').length;
  } catch {
    return undefined;
  }
}
