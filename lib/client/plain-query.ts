import type { Statement, StatementCatalog } from './statement-catalog.js';
import { isUtility } from './statement-kind.js';

/** A statement that needs none of pg's special ways, with its parameters. */
export interface PlainQuery {
  readonly statement: Statement;
  readonly values: readonly unknown[] | undefined;
  readonly isArrayMode: boolean;
  readonly queryTimeoutMillis: number | undefined;
}

/** What pg itself knows to do with a config, and we do not. */
const PG_ONLY = ['name', 'types', 'rows', 'binary', 'portal', 'queryMode', 'callback'] as const;
/** What we know to do with it. */
const OURS: ReadonlySet<string> = new Set(['text', 'values', 'rowMode', 'query_timeout', 'signal', ...PG_ONLY]);

interface PlainConfig extends Partial<Record<(typeof PG_ONLY)[number], unknown>> {
  text?: unknown;
  values?: unknown;
  rowMode?: string;
  query_timeout?: number;
}

const NOTHING: PlainConfig = {};

/**
 * What was asked for, if it is a plain query; counts the use of its text. `utilities` = a single utility statement is
 * welcome as well: it goes the way of the extended protocol.
 */
export function plainQuery(
  catalog: StatementCatalog,
  config: unknown,
  values: unknown,
  utilities = false,
): PlainQuery | undefined {
  let text = config;
  let parameters = values;
  let plain = NOTHING;
  if (typeof config === 'object' && config !== null) {
    plain = config;
    for (const name in plain) if (!OURS.has(name)) return undefined;
    // Read, and not looked for: they may stand behind a getter.
    for (const name of PG_ONLY) if (plain[name] !== undefined) return undefined;
    text = plain.text;
    parameters = values ?? plain.values;
  }
  if (typeof text !== 'string') return undefined;
  if (parameters != null && !Array.isArray(parameters)) return undefined;
  const statement = catalog.use(text);
  if (statement.kind === 'other' && !(utilities && isUtility(text))) return undefined;
  return {
    statement,
    values: (parameters as unknown[] | null | undefined) ?? undefined,
    isArrayMode: plain.rowMode === 'array',
    queryTimeoutMillis: plain.query_timeout,
  };
}
