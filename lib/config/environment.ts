import { KEYWORD_NAMES, KEYWORDS } from './keywords.js';
import type { Values } from './stored-values.js';

/** Parameters of the session that libpq takes from the environment only: `EnvironmentOptions` in fe-connect.c. */
const SESSION_VARIABLES = { PGDATESTYLE: 'datestyle', PGTZ: 'timezone', PGGEQO: 'geqo' } as const;

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The keywords that PG* variables set. A variable that is set to the empty string is set, as in libpq: it hides the
 * compiled default, and where empty is no allowed value it is an error.
 */
export function readEnvironment(env: Environment): Values {
  const values: Values = {};
  for (const keyword of KEYWORD_NAMES) {
    const variable = KEYWORDS[keyword].env;
    const value = variable === undefined ? undefined : env[variable];
    if (value !== undefined) values[keyword] = value;
  }
  // Deprecated since 2003 and still read; PGSSLMODE wins over it.
  if (values.sslmode === undefined && env.PGREQUIRESSL?.startsWith('1')) values.sslmode = 'require';
  return values;
}

export function readSessionEnvironment(env: Environment): Record<string, string> {
  const session: Record<string, string> = {};
  for (const [variable, parameter] of Object.entries(SESSION_VARIABLES)) {
    const value = env[variable];
    if (value !== undefined && value.toLowerCase() !== 'default') session[parameter] = value;
  }
  return session;
}
