import type { QueryCallback } from './pooled-statement.js';
import { isSubmittable, type Submittable } from './pooled-submittable.js';

/** Who runs what a call of query() asks for. */
export interface QueryRunner {
  /** `isPromise` = the caller is told by a promise, and not by a callback of his own. */
  run(config: object | string, values: unknown, tell: QueryCallback, isPromise: boolean): void;
  submit(submittable: Submittable, args: unknown[]): void;
  /** The promise that the caller of the last `run` gets. */
  promised?(answer: Promise<unknown>): void;
}

/** pg's ways to call query(): a promise, a callback in one of two places, something that is submitted. */
export function queryInAnyForm(runner: QueryRunner, config: unknown, values: unknown, callback: unknown): unknown {
  if (isSubmittable(config)) {
    runner.submit(
      config,
      [values, callback].filter((argument) => argument !== undefined),
    );
    return config;
  }
  if (typeof config === 'function' || config == null) {
    throw new TypeError('query() needs a statement: text, a query config, or something that can be submitted');
  }
  const tell = (typeof values === 'function' ? values : callback) as QueryCallback | undefined;
  const parameters = typeof values === 'function' ? undefined : values;
  if (tell) {
    runner.run(config, parameters, tell, false);
    return undefined;
  }
  const answer = new Promise((resolve, reject) => {
    const settle: QueryCallback = (error, result) => {
      if (error) reject(error);
      else resolve(result);
    };
    runner.run(config, parameters, settle, true);
  }).catch((error: unknown) => {
    // Where the application asked, instead of where the socket was read; as pg's own client does.
    if (error instanceof Error) Error.captureStackTrace(error);
    throw error;
  });
  runner.promised?.(answer);
  return answer;
}
