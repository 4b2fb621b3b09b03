import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

let collect: (() => void) | undefined;

/** The bytes that living objects take on the heap. */
export async function heapBytes(): Promise<number> {
  if (!collect) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  // What finalizers let go of in the first is taken by the second.
  for (let times = 0; times < 2; times++) {
    await turn();
    collect();
  }
  return process.memoryUsage().heapUsed;
}
