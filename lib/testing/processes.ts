import { execFile } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { errorCode } from './failure.js';

const POLL_MS = 2;

interface ProcessState {
  /** R, S, D, T (stopped), Z (dead, not yet collected by its parent), ... */
  readonly state: string;
  readonly parent: number;
}

/** Sends a signal; false if there is no such process any more. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch (error) {
    if (errorCode(error) === 'ESRCH') return false;
    throw error;
  }
}

/** Whether a process exists and has not ended. */
export async function isAlive(pid: number): Promise<boolean> {
  const state = await stateOf(pid);
  return state !== undefined && !state.state.startsWith('Z');
}

/** Stops a process and returns when it has stopped: the signal alone arrives some time later. */
export async function suspend(pid: number): Promise<void> {
  if (!signal(pid, 'SIGSTOP')) return;
  await until(async () => /^(T|Z|$)/.test((await stateOf(pid))?.state ?? ''));
}

/** Kills processes and returns when all are gone. */
export async function killAll(pids: readonly number[]): Promise<void> {
  for (const pid of pids) signal(pid, 'SIGKILL');
  for (const pid of pids) await until(async () => !(await isAlive(pid)));
}

export async function childrenOf(pid: number): Promise<number[]> {
  if (process.platform !== 'linux') {
    return (await run('pgrep', ['-P', String(pid)])).split('\n').filter(Boolean).map(Number);
  }
  const all = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const states = await Promise.all(all.map(stateOf));
  return all.filter((_, i) => states[i]?.parent === pid);
}

/** Removes a System V segment of a killed server, 56 bytes that only the next server in its folder would collect. */
export async function removeSharedMemory(id: number): Promise<void> {
  await run('ipcrm', ['-m', String(id)]);
}

async function stateOf(pid: number): Promise<ProcessState | undefined> {
  let fields: string[] | undefined;
  if (process.platform === 'linux') {
    const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
    // The name before these fields is in parentheses and may itself contain any character.
    fields = text === '' ? undefined : text.slice(text.lastIndexOf(')') + 2).split(' ');
  } else {
    const text = (await run('ps', ['-o', 'state=,ppid=', '-p', String(pid)])).trim();
    fields = text === '' ? undefined : text.split(/\s+/);
  }
  return fields && { state: fields[0] ?? '', parent: Number(fields[1]) };
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await delay(POLL_MS);
}

/** A program's output; empty if it fails or does not exist, which for these programs means "nothing found". */
function run(program: string, args: string[]): Promise<string> {
  return new Promise((resolve) => execFile(program, args, (error, stdout) => resolve(error ? '' : stdout)));
}
