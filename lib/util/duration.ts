/** `340 ms`, `1.2 s`, `3 min`: for messages. */
export function formatMillis(millis: number): string {
  if (millis < 1000) return `${Math.round(millis)} ms`;
  if (millis < 120_000) return `${(millis / 1000).toFixed(1).replace(/\.0$/, '')} s`;
  return `${Math.round(millis / 60_000)} min`;
}
