import { describe, expect, it } from 'vitest';
import { readEnvironment, readSessionEnvironment } from '../../../lib/config/environment.js';
import { KEYWORD_NAMES, KEYWORDS } from '../../../lib/config/keywords.js';

describe('readEnvironment', () => {
  it.each(KEYWORD_NAMES.filter((keyword) => KEYWORDS[keyword].env !== undefined))(
    'reads the variable of %s',
    (keyword) => {
      expect(readEnvironment({ [KEYWORDS[keyword].env ?? '']: 'value' })).toEqual({ [keyword]: 'value' });
    },
  );

  it('reads nothing else that begins with PG', () => {
    expect(readEnvironment({ PGSSLPASSWORD: 'x', PGKEEPALIVES: '1', PGREPLICATION: '1', PGDATESTYLE: 'x' })).toEqual(
      {},
    );
  });

  it('takes an empty variable as set', () => {
    expect(readEnvironment({ PGUSER: '' })).toEqual({ user: '' });
  });

  it.each([
    [{ PGREQUIRESSL: '1' }, { sslmode: 'require' }],
    [{ PGREQUIRESSL: '1yes' }, { sslmode: 'require' }],
    [{ PGREQUIRESSL: '0' }, {}],
    [{ PGREQUIRESSL: '' }, {}],
    [{ PGREQUIRESSL: '1', PGSSLMODE: 'disable' }, { sslmode: 'disable' }],
  ])('reads %j', (env, values) => {
    expect(readEnvironment(env)).toEqual(values);
  });

  it('gives the session what libpq takes for it, unless it says default', () => {
    expect(readSessionEnvironment({ PGTZ: 'UTC', PGDATESTYLE: 'ISO', PGGEQO: 'off' })).toEqual({
      timezone: 'UTC',
      datestyle: 'ISO',
      geqo: 'off',
    });
    expect(readSessionEnvironment({ PGTZ: 'Default', PGUSER: 'x' })).toEqual({});
  });
});
