import { createRequire } from 'node:module';
import type pg from 'pg';

/** The package's folder, from here and from the compiled file. */
export const fromRoot = new URL('../../package.json', import.meta.url);

/**
 * The very pg on which nestjs-pg stands. A peer may bring a pg of its own into bench/node_modules, which a plain import
 * would find first.
 */
export const stockPg = createRequire(fromRoot)('pg') as typeof pg;
