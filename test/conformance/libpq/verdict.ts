import { inspect, isDeepStrictEqual } from 'node:util';
import { PgConnectError } from '../../../lib/connect/connect.error.js';
import { PgModuleError } from '../../../lib/errors/pg-module.error.js';
import { DELIBERATE, type Bout, type Deliberate } from './deliberate.js';
import { SECRETS } from './material.js';

/** What bouts have come to, all groups of a file together. */
export class Verdict {
  readonly #bouts: Bout[] = [];
  readonly #applied = new Map<Deliberate, Bout[]>();

  /** What is wrong with these bouts, one text each. */
  judge(bouts: readonly Bout[]): string[] {
    this.#bouts.push(...bouts);
    return bouts.flatMap((bout) => [...this.#difference(bout), ...badWords(bout).map((fault) => tell(fault, bout))]);
  }

  /** Bouts in which libpq got as far as the network. */
  get connections(): number {
    return this.#bouts.filter(({ theirs }) => theirs.connections.length > 0 || theirs.connected).length;
  }

  get summary(): string {
    const differing = [...this.#applied.values()].reduce((sum, { length }) => sum + length, 0);
    return (
      `${this.#bouts.length} settings, ${this.connections} of them with connections; ` +
      `${differing} deliberate differences of ${this.#applied.size} kinds`
    );
  }

  /** Entries of the table that nothing has shown, or not in the way they say. */
  stale(server: Deliberate['server']): string[] {
    return DELIBERATE.filter((entry) => entry.server === server).flatMap((entry) => {
      const bouts = this.#applied.get(entry) ?? [];
      const theirs = bouts.some((bout) => bout.theirs.connected);
      const ours = bouts.some((bout) => bout.ours.connected);
      const shown = theirs ? 'libpq' : ours ? 'we' : bouts.length > 0 ? 'nobody' : 'never';
      return shown === entry.connects ? [] : [`${entry.what}: connects ${shown}, not ${entry.connects}`];
    });
  }

  #difference(bout: Bout): string[] {
    const isSame = isDeepStrictEqual(bout.theirs, bout.ours);
    const entry = DELIBERATE.find(({ applies }) => applies(bout));
    if (!entry) return isSame ? [] : [tell('not the same', bout)];
    this.#applied.set(entry, [...(this.#applied.get(entry) ?? []), bout]);
    if (isSame) return [tell(`the same, though "${entry.what}" is deliberately not`, bout)];
    const isStricter = !bout.ours.connected;
    return isStricter || entry.connects === 'we' ? [] : [tell(`"${entry.what}" must not connect`, bout)];
  }
}

/** What is wrong with the words of our refusal. */
function badWords({ ours, ourError }: Bout): string[] {
  if (ours.connected) return [];
  if (!(ourError instanceof PgModuleError)) return ['no PgModuleError'];
  const everything = [ourError.stack, inspect(ourError, { depth: 10, showHidden: true }), JSON.stringify(ourError)];
  const faults = Object.entries(SECRETS)
    .filter(([, secret]) => everything.join().includes(secret))
    .map(([name]) => `the ${name} is in the error`);
  const { message } = ourError;
  if (/[\r\n]/.test(message)) faults.push('the message has more than one line');
  if (!(ourError instanceof PgConnectError)) return faults;
  for (const { host, port, address, encryption, phase, error } of ourError.attempts) {
    const where = address === undefined || address === host ? `${host}:${port}` : `${host}:${port} (${address})`;
    const start = `${where}, ${encryption === 'tls' ? 'TLS' : 'unencrypted'}, ${phase}: `;
    const cause = error.message.replace(/\.$/, '');
    if (cause === '' || !message.includes(start + cause)) faults.push(`the message does not have "${start}${cause}"`);
  }
  if (ourError.attempts.length === 0) faults.push('no attempt is listed');
  return faults;
}

function tell(what: string, { group, settings, theirs, ours, theirError, ourError }: Bout): string {
  const message = ourError instanceof Error ? ourError.message : undefined;
  return `${what}: ${inspect({ group, settings, theirs, ours, theirError, message }, { depth: 4, breakLength: 160 })}`;
}
