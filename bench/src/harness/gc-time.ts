import { PerformanceObserver } from 'node:perf_hooks';
import { setImmediate as turn } from 'node:timers/promises';

/** How long the work took, and for how much of that it stood still for garbage collections, in milliseconds. */
export async function timeWithGc(work: () => Promise<void>): Promise<{ millis: number; gcMillis: number }> {
  let gcMillis = 0;
  let began = Infinity;
  const observer = new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) if (startTime >= began) gcMillis += duration;
  });
  observer.observe({ entryTypes: ['gc'] });
  began = performance.now();
  await work();
  const millis = performance.now() - began;
  // The observer hears of a collection in a later turn.
  for (let times = 0; times < 2; times++) await turn();
  observer.disconnect();
  return { millis, gcMillis: Math.min(gcMillis, millis) };
}
