import type { FaultRecord, Sample } from './program/protocol.js';
import type { Run } from './run.js';

type Cell = string | number;

export function describeRun(run: Run): string {
  const { seed, seconds, borrowers, faults, samples, report, violations, peakConnections } = run;
  const { kinds, stats, journal, warnings } = report;
  const total = kinds.reduce((sum, { done, intended, refused, failed }) => sum + done + intended + refused + failed, 0);
  return [
    `chaos: ${seconds.toFixed(0)} s, ${borrowers} borrowers, seed ${seed} (CHAOS_SEED=${seed} for the same again)`,
    table(
      ['operations', 'done', 'failed as meant', 'pool closed', 'failed by a fault', 'longest'],
      kinds.map(({ kind, done, intended, refused, failed, longestMillis }) => [
        kind,
        done,
        intended,
        refused,
        failed,
        millis(longestMillis),
      ]),
    ),
    `${total} operations, ${(total / seconds).toFixed(0)} a second; ${journal.acknowledged} transfers committed, ` +
      `${journal.unknown.length} with the answer lost`,
    table(['fault', 'times', 'seconds', 'failed', 'at most', 'recovery: median', 'longest'], faultRows(faults)),
    counts('failures by error', merged(faults)),
    table(
      ['sample at', 'heap', 'external', 'rss', 'descriptors', 'event loop held by'],
      [
        sampleRow('before', report.first),
        ...thinned(samples).map((sample) => sampleRow('', sample)),
        sampleRow('ended', report.last),
      ],
    ),
    `heap: ${describeSlope(samples)}; at most ${peakConnections} connections through the proxy at once; ` +
      `longest stall of the event loop ${millis(report.longestStallMillis)}`,
    `pool: ${stats.acquires} acquires, ${stats.waits} waits, ${stats.connects} connects, ${stats.connectFailures} failed; ` +
      `${stats.resets} resets; retired: ${describeCounts(stats.retired)}`,
    counts('warnings', warnings),
    violations.length === 0 ? 'violations: none' : `VIOLATIONS:\n  ${violations.join('\n  ')}`,
  ].join('\n\n');
}

/** Growth of the heap in bytes a minute, by least squares. */
export function heapSlope(samples: readonly Sample[]): number {
  const mean = (pick: (sample: Sample) => number): number =>
    samples.reduce((sum, sample) => sum + pick(sample), 0) / samples.length;
  const time = mean(({ atSeconds }) => atSeconds);
  const heap = mean((sample) => sample.heap);
  const covariance = mean((sample) => (sample.atSeconds - time) * (sample.heap - heap));
  const variance = mean((sample) => (sample.atSeconds - time) ** 2);
  return variance === 0 ? 0 : (covariance / variance) * 60;
}

function describeSlope(samples: readonly Sample[]): string {
  const heaps = samples.map(({ heap }) => heap);
  return (
    `${megabytes(heaps[0] ?? 0)} after the warm-up, ${megabytes(heaps.at(-1) ?? 0)} at the end, ` +
    `${megabytes(Math.min(...heaps))} to ${megabytes(Math.max(...heaps))} between, ` +
    `${megabytes(heapSlope(samples))} a minute`
  );
}

function faultRows(faults: readonly FaultRecord[]): Cell[][] {
  const kinds = [...new Set(faults.map(({ kind }) => kind))];
  return kinds.map((kind) => {
    const own = faults.filter((fault) => fault.kind === kind);
    const sum = (pick: (fault: FaultRecord) => number): number => own.reduce((total, fault) => total + pick(fault), 0);
    const recoveries = own.map(({ recoveredMillis }) => recoveredMillis).sort((one, other) => one - other);
    return [
      kind,
      own.length,
      sum(({ seconds }) => seconds).toFixed(1),
      sum(({ failed }) => failed),
      sum(({ atMost }) => atMost),
      millis(recoveries[recoveries.length >> 1] ?? 0),
      millis(recoveries.at(-1) ?? 0),
    ];
  });
}

function merged(faults: readonly FaultRecord[]): Record<string, number> {
  const all: Record<string, number> = {};
  for (const { failures } of faults) {
    for (const [name, count] of Object.entries(failures)) all[name] = (all[name] ?? 0) + count;
  }
  return all;
}

/** Some twenty of them, the first and the last among them. */
function thinned(samples: readonly Sample[]): Sample[] {
  const step = Math.max(1, Math.ceil(samples.length / 20));
  return samples.filter((_, index) => index % step === 0 || index === samples.length - 1);
}

function sampleRow(name: string, { atSeconds, heap, external, rss, descriptors, resources }: Sample): Cell[] {
  const at = `${atSeconds.toFixed(0)} s ${name}`.trimEnd();
  const sizes = [heap, external, rss].map(megabytes);
  return [at, ...sizes, descriptors ?? '?', describeCounts(resources)];
}

function counts(title: string, record: Readonly<Record<string, number>>): string {
  const entries = Object.entries(record);
  if (entries.length === 0) return `${title}: none`;
  return [`${title}:`, ...entries.map(([name, count]) => `  ${String(count).padStart(6)}  ${name}`)].join('\n');
}

function describeCounts(record: Readonly<Record<string, number>>): string {
  const entries = Object.entries(record).map(([name, count]) => `${count} ${name}`);
  return entries.join(', ') || 'nothing';
}

function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const lines = [head, ...rows].map((cells) => cells.map(String));
  const widths = head.map((_, column) => Math.max(...lines.map((cells) => cells[column]?.length ?? 0)));
  const last = head.length - 1;
  return lines
    .map((cells) =>
      cells
        .map((cell, column) =>
          column === 0 || column === last ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function millis(value: number): string {
  return Number.isFinite(value) ? `${value.toFixed(0)} ms` : 'never';
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(2)} MB`;
}
