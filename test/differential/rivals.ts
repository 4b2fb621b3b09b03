import type pg from 'pg';
import type { PgPool } from 'nestjs-pg';
import { expect } from 'vitest';
import { difference } from './difference.js';

/** What a client and a pool have in common: every way to call query(). */
export interface Rival {
  query(...args: unknown[]): unknown;
}

export interface Rivals {
  readonly stock: pg.Client;
  readonly ours: Pick<PgPool, 'query'>;
}

/** Once without a name, once as a name that is new, and once as one that is known. */
const USES = 3;

/** What a call has come to; of an error, all that it carries besides the lines of its stack. */
export async function outcomeOf(call: () => unknown): Promise<{ result: unknown } | { error: unknown }> {
  try {
    return { result: await call() };
  } catch (error) {
    return { error: unnamed(error) };
  }
}

const OUR_NAME = /nestjs_pg_[0-9a-f]{12}_\d+/;

/** The one difference that is documented: a message in which the server quotes the statement's name. */
function unnamed(error: unknown): unknown {
  const failure = error as Partial<pg.DatabaseError> | null;
  const [name] = OUR_NAME.exec(failure?.message ?? '') ?? [];
  if (failure === null || name === undefined) return error;
  failure.message = failure.message?.replace(name, '') ?? '';
  Object.assign(failure, { length: (failure.length ?? 0) - name.length });
  return failure;
}

/**
 * Makes a call to stock pg, and to ours as often as it takes to come to know the statement. Fails where they differ.
 *
 * @returns what it has come to
 */
export async function expectSame(
  { stock, ours }: Rivals,
  what: string,
  call: (rival: Rival) => unknown,
): Promise<{ result?: unknown; error?: unknown }> {
  const expected = await outcomeOf(() => call(stock));
  for (let use = 1; use <= USES; use++) {
    const outcome = await outcomeOf(() => call(ours));
    expect(difference(outcome, expected), `${what}, use ${use}`).toBeUndefined();
  }
  return expected;
}
