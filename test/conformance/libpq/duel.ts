import { setImmediate as turn } from 'node:timers/promises';
import pg from 'pg';
import { KEYWORDS, isKeyword } from '../../../lib/config/keywords.js';
import { resolveConfig } from '../../../lib/config/resolve-config.js';
import { PgConnectError } from '../../../lib/connect/connect.error.js';
import { openConnection } from '../../../lib/connect/open-connection.js';
import { TlsMaterial } from '../../../lib/tls/tls-material.js';
import { systemClock } from '../../../lib/util/clock.js';
import type { Libpq } from '../../support/libpq.js';
import { waitFor } from '../../support/postgres.js';
import { startProxy, type FaultProxy } from '../../support/proxy.js';
import { clientPackets } from './client-packets.js';

/** libpq's keywords, and variables of the environment in capitals. */
export type Settings = Readonly<Record<string, string>>;

/** What a connect came to, in terms that both sides have. */
export interface Outcome {
  readonly connected: boolean;
  readonly encrypted: boolean;
  readonly tlsVersion: string | undefined;
  /** The host as written and its port; the duel's own port is {@link OWN_PORT}. */
  readonly reached: string | undefined;
  /** One entry for each TCP connection: the packets that could be read on the line. */
  readonly connections: readonly string[];
  /** The errors that the server sent, in order. */
  readonly serverSaid: readonly string[];
}

export interface Duelled {
  readonly settings: Settings;
  readonly theirs: Outcome;
  readonly ours: Outcome;
  readonly theirError: string;
  readonly ourError: unknown;
}

/** Stands in `port` for the port of the server, which each side reaches through a proxy of its own. */
export const OWN_PORT = 'own';

/** Stands in `host` for the server's Unix socket, where nobody listens in. */
export const OWN_SOCKET = 'own socket';

export interface DuelTarget {
  readonly host: string;
  readonly port: number;
  readonly socketDir?: string;
}

const TIMEOUT_MILLIS = 15_000;

/** Connects with the same settings through libpq and through this package to the same server, and watches the lines. */
export class Duel implements AsyncDisposable {
  readonly #libpq: Libpq;
  readonly #lanes: readonly Lane[];
  #count = 0;

  private constructor(libpq: Libpq, lanes: readonly Lane[]) {
    this.#libpq = libpq;
    this.#lanes = lanes;
  }

  static async open(libpq: Libpq, target: DuelTarget, width = 3): Promise<Duel> {
    const lane = async (): Promise<Lane> => ({ theirs: await Line.open(target), ours: await Line.open(target) });
    return new Duel(libpq, await Promise.all(Array.from({ length: width }, lane)));
  }

  /** All of them, some at a time; the results are in the order of the settings. */
  async fight(all: readonly Settings[]): Promise<Duelled[]> {
    const results: Duelled[] = [];
    const waiting = [...all.entries()];
    const work = async (lane: Lane): Promise<void> => {
      for (let next = waiting.shift(); next; next = waiting.shift()) results[next[0]] = await this.#one(next[1], lane);
    };
    await Promise.all(this.#lanes.map(work));
    return results;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#lanes.flatMap(({ theirs, ours }) => [theirs.close(), ours.close()]));
  }

  async #one(settings: Settings, { theirs, ours }: Lane): Promise<Duelled> {
    const dress = DRESSES[this.#count++ % DRESSES.length] ?? asKeywords;
    const their = this.#libpqConnects(dress(theirs.address(settings)), theirs);
    const our = ourselves(dress(ours.address(settings)), ours);
    const [[theirOutcome, theirError], [ourOutcome, ourError]] = await Promise.all([their, our]);
    return { settings, theirs: theirOutcome, ours: ourOutcome, theirError, ourError };
  }

  async #libpqConnects({ text, env }: Dressed, line: Line): Promise<[Outcome, string]> {
    const result = await this.#libpq.connect(text, { env, timeoutMillis: TIMEOUT_MILLIS });
    return [
      {
        connected: result.ok,
        encrypted: result.ok && result.sslInUse,
        tlsVersion: (result.ok && result.sslAttributes.protocol) || undefined,
        reached: result.ok ? line.spell(result.host || result.hostaddr, result.port) : undefined,
        connections: await line.read(),
        serverSaid: [...result.error.matchAll(/(?:FATAL|ERROR): {2}(.*)/g)].map(([, said]) => said ?? ''),
      },
      result.error,
    ];
  }
}

async function ourselves({ text, env }: Dressed, line: Line): Promise<[Outcome, unknown]> {
  const warn = (): void => undefined;
  try {
    const config = resolveConfig({ connectionString: text }, { env, warn });
    const client = await openConnection(
      {
        config,
        tlsMaterial: new TlsMaterial(config.tls, { env, warn }),
        connectTimeoutMillis: config.connectTimeoutMillis ?? TIMEOUT_MILLIS,
        onConnect: undefined,
        warn,
        clock: systemClock,
      },
      { signal: new AbortController().signal, applicationName: undefined, stream: undefined },
    );
    const { encrypted, tlsVersion } = client.security;
    const reached = line.spell(client.host, String(client.port));
    await client.close();
    return [
      { connected: true, encrypted, tlsVersion, reached, connections: await line.read(), serverSaid: [] },
      undefined,
    ];
  } catch (error) {
    const failed = { connected: false, encrypted: false, tlsVersion: undefined, reached: undefined };
    return [{ ...failed, connections: await line.read(), serverSaid: serverErrors(error) }, error];
  }
}

function serverErrors(error: unknown): string[] {
  if (!(error instanceof PgConnectError)) return [];
  return error.attempts.flatMap((attempt) =>
    attempt.error instanceof pg.DatabaseError && attempt.error.code !== undefined ? [attempt.error.message] : [],
  );
}

interface Lane {
  readonly theirs: Line;
  readonly ours: Line;
}

/** A proxy that keeps what the client says. */
class Line {
  readonly #target: DuelTarget;
  readonly #proxy: FaultProxy;
  readonly #said = new Map<number, Buffer[]>();

  private constructor(target: DuelTarget, proxy: FaultProxy) {
    this.#target = target;
    this.#proxy = proxy;
    proxy.onData((chunk, from, { id }) => {
      if (from === 'client') this.#said.set(id, [...(this.#said.get(id) ?? []), chunk]);
      return chunk;
    });
  }

  static async open(target: DuelTarget): Promise<Line> {
    const { host, port } = target;
    return new Line(target, await startProxy({ host, port }));
  }

  address({ host = '', port = OWN_PORT, ...rest }: Settings): Settings {
    const { socketDir = '', port: socketPort } = this.#target;
    if (host === OWN_SOCKET) return { ...rest, host: socketDir, port: String(socketPort) };
    return { ...rest, host, port: port.replaceAll(OWN_PORT, String(this.#proxy.port)) };
  }

  spell(host: string, port: string): string {
    return `${host}:${port === String(this.#proxy.port) ? OWN_PORT : port}`;
  }

  /** What was said since the last time, when everyone has hung up. */
  async read(): Promise<string[]> {
    // What the client did before its result came is in the same poll of the loop, or an earlier one.
    await turn();
    await waitFor(() => this.#proxy.connections === 0, {
      message: 'the end of all connections',
      deadline: TIMEOUT_MILLIS,
      every: 1,
    });
    const spoken = [...this.#said.values()].map((chunks) => clientPackets(Buffer.concat(chunks)).join(' '));
    this.#said.clear();
    return spoken;
  }

  close(): Promise<void> {
    return this.#proxy.close();
  }
}

interface Dressed {
  readonly text: string;
  readonly env: Record<string, string>;
}

/** A way to write settings down. */
type Dress = (settings: Settings) => Dressed;

const DRESSES: readonly Dress[] = [asKeywords, asUri, asEnvironment];

function split(settings: Settings): { keywords: [string, string][]; env: Record<string, string> } {
  const entries = Object.entries(settings);
  const isVariable = ([name]: [string, string]): boolean => name === name.toUpperCase();
  return {
    keywords: entries.filter((entry) => !isVariable(entry)),
    env: Object.fromEntries(entries.filter(isVariable)),
  };
}

function asKeywords(settings: Settings): Dressed {
  const { keywords, env } = split(settings);
  const quote = (value: string): string => `'${value.replace(/[\\']/g, '\\$&')}'`;
  return { text: keywords.map(([name, value]) => `${name}=${quote(value)}`).join(' '), env };
}

function asUri(settings: Settings): Dressed {
  const { keywords, env } = split(settings);
  const pair = ([name, value]: [string, string]): string => `${name}=${encodeURIComponent(value)}`;
  return { text: `postgresql://?${keywords.map(pair).join('&')}`, env };
}

function asEnvironment(settings: Settings): Dressed {
  const { keywords, env } = split(settings);
  const variable = (name: string): string | undefined => (isKeyword(name) ? KEYWORDS[name].env : undefined);
  for (const [name, value] of keywords) {
    const named = variable(name);
    if (named !== undefined) env[named] = value;
  }
  const rest = keywords.filter(([name]) => variable(name) === undefined);
  return { text: asKeywords(Object.fromEntries(rest)).text, env };
}

/** The values of `axes`, each with each, over a common ground; a later axis wins. */
export function cross(ground: Settings, ...axes: (readonly Settings[])[]): Settings[] {
  return axes.reduce<Settings[]>(
    (all, axis) => all.flatMap((one) => axis.map((value) => ({ ...one, ...value }))),
    [ground],
  );
}

/** An axis of one keyword; undefined leaves it unset. */
export function axis(keyword: string, values: readonly (string | undefined)[]): Settings[] {
  return values.map((value): Settings => (value === undefined ? {} : { [keyword]: value }));
}
