import { setMaxListeners } from 'node:events';
import pg from 'pg';
import { PgModuleError, type PgLease, type PgPool } from 'nestjs-pg';
import type { Journal } from './journal.js';
import { WrongAnswer, type Outcome } from './ledger.js';
import { between, type Random } from './random.js';

export interface Task {
  readonly pool: PgPool;
  readonly random: Random;
  readonly journal: Journal;
  readonly accounts: number;
  /** A number that no other operation has. */
  readonly entry: number;
}

export interface OperationKind {
  readonly name: string;
  /** How many of a hundred operations. */
  readonly share: number;
  /** It may give up waiting. */
  readonly impatient?: true;
  readonly run: (task: Task) => Promise<Outcome>;
}

interface Answer {
  readonly rows: readonly { n?: unknown }[];
}

/** A signal that many operations have in common, and that never fires. It must not gather listeners. */
export const SHARED_SIGNAL: AbortSignal = new AbortController().signal;
// Node would warn of the eleventh operation at a time.
setMaxListeners(0, SHARED_SIGNAL);

/** What people do with a pool, and what they should not. */
export const OPERATIONS: readonly OperationKind[] = [
  { name: 'query, text', share: 15, run: queryText },
  { name: 'query, parameters', share: 15, run: queryParameters },
  { name: 'query, prepared', share: 8, run: queryPrepared },
  { name: 'query, callback', share: 8, run: queryByCallback },
  { name: 'query, signal', share: 6, run: queryWithSignal },
  { name: 'query, slow', share: 5, run: querySlowly },
  { name: 'query, failing', share: 6, run: queryInVain },
  { name: 'query, aborted', share: 3, impatient: true, run: queryAndAbort },
  { name: 'submittable', share: 5, run: submit },
  { name: 'transfer', share: 15, run: transfer },
  { name: 'forgotten COMMIT', share: 3, run: forgetCommit },
  { name: 'withConnection', share: 5, run: queryTwice },
  { name: 'connect, callback', share: 2, run: connectByCallback },
  { name: 'connect, aborted', share: 2, impatient: true, run: connectAndAbort },
  { name: 'release(true)', share: 1, run: releaseTrue },
  { name: 'released while busy', share: 1, run: releaseBusy },
];

async function queryText({ pool, entry }: Task): Promise<Outcome> {
  return check(await pool.query(`SELECT ${entry} AS n`), entry);
}

async function queryParameters({ pool, entry }: Task): Promise<Outcome> {
  return check(await pool.query('SELECT $1::int AS n', [entry]), entry);
}

async function queryPrepared({ pool, entry }: Task): Promise<Outcome> {
  return check(await pool.query({ name: 'chaos', text: 'SELECT $1::int AS n', values: [entry] }), entry);
}

async function queryByCallback({ pool, entry }: Task): Promise<Outcome> {
  return check(await byCallback((tell) => pool.query('SELECT $1::int AS n', [entry], tell)), entry);
}

async function queryWithSignal({ pool, entry }: Task): Promise<Outcome> {
  return check(await pool.query({ text: 'SELECT $1::int AS n', values: [entry], signal: SHARED_SIGNAL }), entry);
}

async function querySlowly({ pool, random, entry }: Task): Promise<Outcome> {
  return check(await pool.query('SELECT $1::int AS n, pg_sleep($2)', [entry, 0.05 + random() * 0.2]), entry);
}

async function queryInVain({ pool, random }: Task): Promise<Outcome> {
  const [text, code] = random() < 0.5 ? (['SELECT 1/0', '22012'] as const) : (['SELEKT', '42601'] as const);
  return intended(pool.query(text), (error) => error instanceof pg.DatabaseError && error.code === code);
}

async function queryAndAbort({ pool, random, entry }: Task): Promise<Outcome> {
  const signal = AbortSignal.timeout(between(random, 1, 150));
  const slow = { text: 'SELECT $1::int AS n, pg_sleep(0.05)', values: [entry], signal };
  return unlessAborted(pool.query(slow), signal, (answer) => check(answer, entry));
}

async function submit({ pool, entry }: Task): Promise<Outcome> {
  const query = 'SELECT $1::int AS n';
  return check(await byCallback((tell) => pool.query(new pg.Query(query, [entry], tell))), entry);
}

/** Both statements meet the same session. */
async function queryTwice({ pool, entry }: Task): Promise<Outcome> {
  return pool.withConnection(async (client) => {
    await client.query("SELECT set_config('chaos.entry', $1, false)", [String(entry)]);
    return check(await client.query("SELECT current_setting('chaos.entry')::int AS n"), entry);
  });
}

async function connectByCallback({ pool, entry }: Task): Promise<Outcome> {
  const answer = await byCallback((tell) =>
    pool.connect((error, client, release) => {
      if (error || !client) {
        tell(error);
        return;
      }
      client.query(`SELECT ${entry} AS n`, (failure: Error | null, rows: Answer) => {
        release(failure ?? undefined);
        tell(failure, rows);
      });
    }),
  );
  return check(answer, entry);
}

async function connectAndAbort({ pool, random, entry }: Task): Promise<Outcome> {
  const signal = AbortSignal.timeout(between(random, 1, 50));
  return unlessAborted(pool.connect({ signal }), signal, (client) => useOnce(client, entry, undefined));
}

async function releaseTrue({ pool, entry }: Task): Promise<Outcome> {
  return useOnce(await pool.connect(), entry, true);
}

async function releaseBusy({ pool }: Task): Promise<Outcome> {
  const client = await pool.connect();
  const forgotten = client.query('SELECT pg_sleep(2)');
  client.release();
  return intended(forgotten, () => true);
}

async function useOnce(client: PgLease, entry: number, retire: true | undefined): Promise<Outcome> {
  try {
    return check(await client.query('SELECT $1::int AS n', [entry]), entry);
  } finally {
    client.release(retire);
  }
}

/** Moves money, and enters it in the journal; every fourth transfer is taken back. */
async function transfer({ pool, random, journal, accounts, entry }: Task): Promise<Outcome> {
  const commits = random() < 0.75;
  const retires = random() < 0.5;
  const client = await pool.connect();
  let failure: Error | undefined;
  try {
    await client.query('BEGIN');
    await move(client, random, accounts);
    await client.query('INSERT INTO journal VALUES ($1)', [commits ? entry : -entry]);
    if (commits) await commit(client, journal, entry);
    else await client.query('ROLLBACK');
    return 'done';
  } catch (error) {
    failure = error as Error;
    throw error;
  } finally {
    client.release(retires ? failure : undefined);
  }
}

async function commit(client: PgLease, journal: Journal, entry: number): Promise<void> {
  try {
    const { command } = await client.query('COMMIT');
    if (command !== 'COMMIT') throw new WrongAnswer(`COMMIT was answered by ${command}`);
  } catch (error) {
    journal.loseSight(entry);
    throw error;
  }
  journal.acknowledge(entry);
}

/** Takes money and gives the connection back without COMMIT: nothing of it may ever be seen. */
async function forgetCommit({ pool, random, accounts, entry }: Task): Promise<Outcome> {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    await client.query('UPDATE account SET balance = balance - 1000 WHERE id = $1', [between(random, 0, accounts)]);
    await client.query('INSERT INTO journal VALUES ($1)', [-entry]);
    return 'done';
  } finally {
    client.release();
  }
}

async function move(client: PgLease, random: Random, accounts: number): Promise<void> {
  const from = between(random, 0, accounts - 1);
  const to = between(random, from + 1, accounts);
  const amount = between(random, -100, 100);
  // In the order of the ids, so that no two transfers wait for each other.
  await client.query('UPDATE account SET balance = balance - $1 WHERE id = $2', [amount, from]);
  await client.query('UPDATE account SET balance = balance + $1 WHERE id = $2', [amount, to]);
}

function check({ rows }: Answer, entry: number): Outcome {
  if (rows.length === 1 && rows[0]?.n === entry) return 'done';
  throw new WrongAnswer(`asked for ${entry}, was told ${JSON.stringify(rows)}`);
}

/** A failure that is meant to be. */
async function intended(work: Promise<unknown>, isMeant: (error: unknown) => boolean): Promise<Outcome> {
  try {
    await work;
  } catch (error) {
    if (isMeant(error)) return 'intended';
    throw error;
  }
  throw new WrongAnswer('succeeded, and should not');
}

async function unlessAborted<T>(
  work: Promise<T>,
  signal: AbortSignal,
  next: (value: T) => Outcome | Promise<Outcome>,
): Promise<Outcome> {
  let value: T;
  try {
    value = await work;
  } catch (error) {
    if (signal.aborted && error instanceof PgModuleError && error.code === 'PG_ABORTED') return 'intended';
    throw error;
  }
  return next(value);
}

/** A second call of the callback is an error of its own, which no promise would show. */
function byCallback(
  start: (tell: (error: Error | null | undefined, answer?: Answer) => void) => void,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let calls = 0;
    start((error, answer) => {
      if (++calls > 1) throw new WrongAnswer(`a callback was called ${calls} times`);
      if (error) reject(error);
      else if (answer) resolve(answer);
      else reject(new WrongAnswer('a callback was given neither error nor answer'));
    });
  });
}
