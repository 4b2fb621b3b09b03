import { readdirSync, readFileSync } from 'node:fs';

/** The unit of /proc/stat: USER_HZ is 100 on every Linux that Node runs on. */
const MICROS_PER_TICK = 10_000;

/** CPU time used since this process began, in microseconds. */
export function clientCpuMicros(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** CPU time of the processes that this one has started, living and gone, in microseconds; 0 where /proc is missing. */
export function childrenCpuMicros(): number {
  if (process.platform !== 'linux') return 0;
  try {
    return goneMicros(process.pid) + sumOf(childrenOf(process.pid).map(runMicros));
  } catch {
    return 0;
  }
}

/**
 * CPU time that the server has used, in microseconds: of its main process, and of all backends, living and gone. The
 * living are counted to the nanosecond, the gone to ten milliseconds. `undefined` where Linux's /proc is missing.
 */
export function serverCpuMicros(pid: number | undefined): number | undefined {
  if (pid === undefined || process.platform !== 'linux') return undefined;
  try {
    return goneMicros(pid) + sumOf([pid, ...childrenOf(pid)].map(runMicros));
  } catch {
    return undefined;
  }
}

/** CPU time that was used on the whole machine, or taken from it by its host, in microseconds. */
export function machineCpuMicros(): number | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    const [, ...fields] = (readFileSync('/proc/stat', 'utf8').split('\n', 1)[0] ?? '').split(/\s+/);
    const [user = 0, nice = 0, system = 0, , , irq = 0, softIrq = 0, steal = 0] = fields.map(Number);
    return (user + nice + system + irq + softIrq + steal) * MICROS_PER_TICK;
  } catch {
    return undefined;
  }
}

/** The fields of /proc/<pid>/stat from the third on; the second is a name that may hold anything. */
function statFields(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** What the children of a process used that it has waited for. */
function goneMicros(pid: number): number {
  return sumOf(statFields(pid).slice(13, 15).map(Number)) * MICROS_PER_TICK;
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return text.split(' ').filter(Boolean).map(Number);
  } catch {
    // A kernel without that file.
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((candidate) => parentOf(candidate) === pid);
  }
}

function parentOf(pid: number): number | undefined {
  try {
    return Number(statFields(pid)[1]);
  } catch {
    return undefined;
  }
}

/** 0 for one that has just gone. */
function runMicros(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ', 1)[0]) / 1000;
  } catch {
    return 0;
  }
}
