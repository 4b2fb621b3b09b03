import { setTimeout as delay } from 'node:timers/promises';
import type { StopMode } from 'nestjs-pg/testing';
import { adminQuery, waitFor } from '../support/postgres.js';
import { newGeneration, serverSsl } from './material.js';
import { between, type Random } from './program/random.js';
import { KEEPALIVE_MILLIS, MAX, MIN, QUERY_TIMEOUT_MILLIS, VALIDATE_TIMEOUT_MILLIS, type Scene } from './scene.js';

/**
 * Makes a fault and undoes it. Resolves when nothing is broken any more, and the program has seen the end of every
 * connection that this has ended, to how many operations it could hit: those connections, each in one pair of hands.
 */
type Make = (scene: Scene, random: Random) => Promise<number>;

export interface Fault {
  readonly kind: string;
  readonly make: Make;
  /** Made while nobody borrows: then it must not hit anybody. */
  readonly atRest?: true;
}

export const FAULTS: readonly Fault[] = [
  { kind: 'kill one backend', make: killOne },
  { kind: 'kill all backends', make: killAll },
  { kind: 'restart, immediate', make: restartAtOnce },
  { kind: 'restart, fast, and all wait', make: restartLate },
  { kind: 'black hole, short', make: shortBlackHole },
  { kind: 'black hole, long', make: longBlackHole },
  { kind: 'black hole, then reset', make: resetBlackHole },
  { kind: 'latency', make: latency },
  { kind: 'refused connects', make: refuse },
  { kind: 'refused connects, and all wait', make: refuseAll },
  { kind: 'rotation', make: rotate },
  { kind: 'evict()', make: evict },
  { kind: 'resize()', make: resize },
  { kind: 'at rest: kill one backend', make: killOne, atRest: true },
  { kind: 'at rest: kill all backends', make: killAll, atRest: true },
  { kind: 'at rest: restart', make: restartAtOnce, atRest: true },
  { kind: 'at rest: black hole', make: unnoticedBlackHole, atRest: true },
  { kind: 'at rest: reset', make: resetBlackHole, atRest: true },
];

async function killOne(scene: Scene, random: Random): Promise<number> {
  const pids = await scene.child.call('pids');
  const victim = between(random, 0, pids.length);
  return kill(scene, pids.slice(victim, victim + 1));
}

async function killAll(scene: Scene): Promise<number> {
  return kill(scene, await scene.child.call('pids'));
}

/** The program names the victims: the end of a session that it does not have yet is a failed dial. */
async function kill({ server, child }: Scene, pids: readonly number[]): Promise<number> {
  await adminQuery(server, 'SELECT pg_terminate_backend(pid, 5000) FROM unnest($1::int[]) AS pid', [pids]);
  await child.call('gone', pids);
  return pids.length;
}

async function restart({ server, proxy, child }: Scene, mode: StopMode, down: () => Promise<void>): Promise<number> {
  await server.stop(mode);
  try {
    // Not only those that the pool has told of: a session may have begun in the last moment.
    await waitFor(() => proxy.connections === 0, { message: 'the connections to end', deadline: 30_000 });
    await child.call('gone', await child.call('pids'));
    await down();
  } finally {
    await server.start();
  }
  return MAX;
}

async function restartAtOnce(scene: Scene, random: Random): Promise<number> {
  return restart(scene, 'immediate', () => delay(between(random, 0, 500)));
}

async function restartLate(scene: Scene): Promise<number> {
  return restart(scene, 'fast', () => scene.child.call('crowd'));
}

/** Nothing fails: everything arrives, late. */
async function shortBlackHole({ proxy }: Scene, random: Random): Promise<number> {
  proxy.blackHole();
  await delay(between(random, 500, 1_500));
  proxy.heal();
  return 0;
}

async function longBlackHole({ proxy }: Scene, random: Random): Promise<number> {
  proxy.blackHole();
  await delay(QUERY_TIMEOUT_MILLIS + between(random, 500, 1_500));
  proxy.heal();
  return MAX;
}

/** Long enough for the idle connections to be found dead. */
async function unnoticedBlackHole({ proxy }: Scene, random: Random): Promise<number> {
  proxy.blackHole();
  await delay(KEEPALIVE_MILLIS + VALIDATE_TIMEOUT_MILLIS + between(random, 0, 1_000));
  proxy.heal();
  return 0;
}

/** A network that comes back, and has forgotten its connections. */
async function resetBlackHole(scene: Scene, random: Random): Promise<number> {
  scene.proxy.blackHole();
  await delay(between(random, 500, 2_500));
  await cut(scene).finally(() => scene.proxy.heal());
  return MAX;
}

async function latency({ proxy }: Scene, random: Random): Promise<number> {
  proxy.latency(between(random, 20, 80));
  await delay(between(random, 1_500, 3_000));
  proxy.latency(0);
  return 0;
}

async function refuse({ proxy }: Scene, random: Random): Promise<number> {
  await proxy.refuse();
  await delay(between(random, 500, 2_000));
  await proxy.accept();
  return 0;
}

async function refuseAll(scene: Scene): Promise<number> {
  await scene.proxy.refuse();
  try {
    await cut(scene);
    await scene.child.call('crowd');
  } finally {
    await scene.proxy.accept();
  }
  return MAX;
}

async function cut({ proxy, child }: Scene): Promise<void> {
  const pids = await child.call('pids');
  proxy.cut();
  await child.call('gone', pids);
}

/** Authorities, certificates and keys of both sides, in an order in which nobody is ever distrusted. */
async function rotate(scene: Scene): Promise<number> {
  const { server, files, child, generation: old } = scene;
  const next = await newGeneration(old.number + 1);
  await files.trust(old, next);
  await child.call('connects', 3);
  await server.setSsl(serverSsl(next, old, next));
  await child.call('connects', 3);
  await files.show(next);
  await child.call('connects', 3);
  await files.trust(next);
  await server.setSsl(serverSsl(next, next));
  await child.call('evict');
  await child.call('connects', 3);
  scene.generation = next;
  return 0;
}

async function evict({ child }: Scene): Promise<number> {
  const pids = await child.call('pids');
  await child.call('evict');
  await child.call('gone', pids);
  return 0;
}

async function resize({ child }: Scene, random: Random): Promise<number> {
  await child.call('resize', { min: 0, max: between(random, 1, 4) });
  await delay(between(random, 500, 1_500));
  await child.call('resize', { min: MIN, max: MAX });
  return 0;
}
