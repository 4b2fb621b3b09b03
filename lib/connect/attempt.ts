import type { HostEntry, ResolvedConfig, TargetSessionAttrs } from '../config/resolved-config.js';

/** A host to try, and what its session must be to be kept. */
export interface Attempt {
  readonly entry: HostEntry;
  readonly attrs: Exclude<TargetSessionAttrs, 'prefer-standby'>;
}

/**
 * The hosts in the order in which they are tried. `load_balance_hosts=random` shuffles them; `prefer-standby` is two
 * passes over them: standbys only, then anyone (libpq, PQconnectPoll).
 */
export function attemptsOf(config: ResolvedConfig, random: () => number): Attempt[] {
  const entries = config.loadBalanceHosts === 'random' ? shuffled(config.hosts, random) : config.hosts;
  const pass = (attrs: Attempt['attrs']): Attempt[] => entries.map((entry) => ({ entry, attrs }));
  return config.targetSessionAttrs === 'prefer-standby'
    ? [...pass('standby'), ...pass('any')]
    : pass(config.targetSessionAttrs);
}

/** Fisher-Yates, on a copy. */
export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const result = [...items];
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [result[last], result[other]] = [result[other] as T, result[last] as T];
  }
  return result;
}

/** `db.example:5432`, `[::1]:5432`, `/run/postgresql:5432`: for messages. */
export function formatHost(entry: Pick<HostEntry, 'host' | 'hostaddr' | 'port'>): string {
  const host = entry.host ?? entry.hostaddr ?? 'localhost';
  return `${host.includes(':') ? `[${host}]` : host}:${entry.port}`;
}
