import { describe, expect, it } from 'vitest';
import { statementKind } from '../../../lib/client/statement-kind.js';

const READ = [
  'SELECT 1',
  'select 1',
  'SeLeCt 1',
  'SELECT\n1',
  'SELECT*FROM t',
  'SELECT(1)',
  "SELECT'a'",
  'VALUES (1), (2)',
  'TABLE t',
  'WITH x AS (SELECT 1) SELECT * FROM x',
  'WITH RECURSIVE x(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM x WHERE n < 9) TABLE x',
  '(SELECT 1)',
  '((SELECT 1) UNION (SELECT 2)) ORDER BY 1',
  '( ( -- which\n SELECT 1))',
  ' \t\r\n\fSELECT 1',
  'SELECT 1;',
  'SELECT 1 ; \n\t ',
  '-- a comment\nSELECT 1',
  '--\nSELECT 1',
  '--a\n--b\n  --c\nSELECT 1',
  '/* a comment */ SELECT 1',
  '/**/SELECT 1',
  '/* -- */ SELECT 1',
  '-- /*\nSELECT 1',
  '/* one *//* two */--three\n/* four */SELECT 1',
  '/* several\n lines */\nSELECT 1',
  "/* application='x',route='y' */ SELECT 1",
  'SELECT a FROM t WHERE b = $1',
  'SELECT $$ no keyword here $$',
  'SELECT 1 -- at the end',
  'SELECT 1 /* at the end */',
];

const WRITE = [
  'INSERT INTO t VALUES (1)',
  'insert into t default values returning *',
  'UPDATE t SET a = 1',
  'DELETE FROM t',
  'MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE',
  'WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x',
  'WITH x AS (SELECT 1) INSERT INTO t TABLE x',
  'with x as (delete from t returning *) table x',
  'WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x',
  'WITH x AS (MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE RETURNING *) SELECT * FROM x',
  'SELECT * FROM t FOR UPDATE',
  'SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED',
  'select * from t for share',
  'SELECT * FROM t FOR KEY SHARE',
  'SELECT * FROM t FOR/**/UPDATE',
  'SELECT * FROM t FOR--\nUPDATE',
  '(SELECT * FROM t)FOR UPDATE',
  'SELECT 1 INTO s',
  'SELECT 1 AS a INTO TEMP s FROM t',
  'VALUES (1) FOR UPDATE',
  '/* why */ INSERT INTO t VALUES (1)',
  // What only looks as if it wrote is not looked at more closely.
  "SELECT 'wait for me'",
  'SELECT substring(a FROM 1 FOR 2) FROM t',
  'SELECT "update" FROM t',
];

const OTHER = [
  '',
  ' ',
  '\n',
  ';',
  '-- nothing but a comment',
  '-- a comment, and what follows it is still the comment SELECT 1',
  '/* nothing but a comment */',
  '/* a comment that does not end SELECT 1',
  '/* SELECT 1 */',
  '/* nested /* twice */ */ SELECT 1',
  '/* nested /* twice */ SELECT 1 */ DROP TABLE t',
  '()',
  '(',
  ')',
  '1',
  "'SELECT 1'",
  '"SELECT" 1',
  '$1',
  // Words that begin like others.
  'SELECTS 1',
  'VALUESET',
  'TABLES',
  'WITHOUT x',
  'INSERTS',
  // Several.
  'SELECT 1; SELECT 2',
  'SELECT 1;SELECT 2;',
  'SELECT 1;;',
  'SELECT 1; -- and a comment',
  '; SELECT 1',
  'INSERT INTO t VALUES (1); DELETE FROM t',
  // A semicolon in a literal, an identifier, a comment: not worth a parser.
  "SELECT ';'",
  "SELECT 'a;b' AS a",
  'SELECT 1 AS "a;b"',
  'SELECT $$;$$',
  '/* ; */ SELECT 1',
  '-- ;\nSELECT 1',
  // NUL, which the protocol cannot carry.
  'SELECT 1\0',
  "SELECT '\0'",
  '\0SELECT 1',
  // Utility statements.
  ...['BEGIN', 'COMMIT', 'ROLLBACK', 'START TRANSACTION', 'SAVEPOINT s', 'RELEASE s', 'END', 'ABORT'],
  ...['PREPARE TRANSACTION $$x$$', 'COMMIT PREPARED $$x$$', 'SET a = 1', 'RESET ALL', 'SHOW a', 'DISCARD ALL'],
  ...[
    'PREPARE p AS SELECT 1',
    'EXECUTE p',
    'DEALLOCATE ALL',
    'DECLARE c CURSOR FOR SELECT 1',
    'FETCH ALL c',
    'CLOSE c',
  ],
  ...['MOVE c', 'LISTEN a', 'UNLISTEN *', 'NOTIFY a', 'LOCK t', 'VACUUM', 'ANALYZE t', 'CLUSTER', 'REINDEX TABLE t'],
  ...['CREATE TABLE t (a int)', 'CREATE TABLE t AS SELECT 1', 'ALTER TABLE t ADD b int', 'DROP TABLE t', 'TRUNCATE t'],
  ...['GRANT SELECT ON t TO r', 'REVOKE SELECT ON t FROM r', 'COMMENT ON TABLE t IS $$x$$', 'CHECKPOINT', 'LOAD $$x$$'],
  ...['REFRESH MATERIALIZED VIEW v', 'IMPORT FOREIGN SCHEMA s FROM SERVER x INTO y', 'REASSIGN OWNED BY a TO b'],
  ...['DO $$BEGIN END$$', 'CALL p()', 'EXPLAIN SELECT 1', 'EXPLAIN ANALYZE INSERT INTO t VALUES (1)', 'SECURITY LABEL'],
  ...['COPY t FROM STDIN', 'COPY t TO STDOUT', 'COPY (SELECT 1) TO STDOUT', '/* x */ COPY t FROM STDIN'],
];

describe('the kind of a statement', () => {
  it.each(READ)('read: %j', (text) => expect(statementKind(text)).toBe('read'));
  it.each(WRITE)('write: %j', (text) => expect(statementKind(text)).toBe('write'));
  it.each(OTHER)('other: %j', (text) => expect(statementKind(text)).toBe('other'));

  // scan.l: a comment ends at a carriage return as well.
  it.each(['--\rCOPY t FROM STDIN --\nSELECT 1', '-- a\rCALL p() --\n SELECT 1', '--\rEXPLAIN\nSELECT 1'])(
    'knows where the server ends a comment: %j',
    (text) => expect(statementKind(text)).toBe('other'),
  );

  it('remembers nothing of the text before', () => {
    for (const text of ['    SELECT 1', 'COPY t TO STDOUT', '/* */ SELECT 1', 'SELECT 1', 'BEGIN']) {
      expect(statementKind(text)).toBe(READ.includes(text) || text.trim().endsWith('SELECT 1') ? 'read' : 'other');
    }
  });
});

/** A million characters that would cost a careless pattern more than a look at each: hours, where these take milliseconds. */
const LONG = 1_000_000;
const fill = (unit: string): string => unit.repeat(LONG / unit.length);

const LONG_TEXTS: [what: string, text: string, kind: string][] = [
  ['parentheses', `${fill('(')}SELECT 1`, 'read'],
  ['parentheses and nothing else', fill('('), 'other'],
  ['spaces', `${fill(' ')}SELECT 1`, 'read'],
  ['spaces and nothing else', fill(' '), 'other'],
  ['spaces behind a semicolon', `SELECT 1;${fill(' ')}`, 'read'],
  ['spaces behind a semicolon, and then something', `SELECT 1;${fill(' ')}x`, 'other'],
  ['spaces within', `SELECT${fill(' ')}1`, 'read'],
  ['openings of comments', `${fill('/*')}SELECT 1`, 'other'],
  ['openings of comments with spaces', fill('/* '), 'other'],
  ['ends of comments', fill('*/'), 'other'],
  ['empty comments', `${fill('/**/')}SELECT 1`, 'read'],
  ['stars', `/*${fill('*')}*/SELECT 1`, 'other'],
  ['one long comment', `/*${fill('a')}*/SELECT 1`, 'read'],
  ['one comment that does not end', `/*${fill('a')}`, 'other'],
  ['lines of comments', `${fill('--\n')}SELECT 1`, 'read'],
  ['lines of comments and nothing else', fill('--\n'), 'other'],
  ['dashes', fill('--'), 'other'],
  ['semicolons', fill(';'), 'other'],
  ['semicolons with spaces', fill('; '), 'other'],
  ['letters', fill('a'), 'other'],
  ['a long list', `SELECT ${fill('fo,')}1`, 'read'],
  ['a long insert', `INSERT INTO t VALUES ${fill("('x'),")}('x')`, 'write'],
];

describe('texts of a million characters', () => {
  it.each(LONG_TEXTS)('%s', (_, text, kind) => expect(statementKind(text)).toBe(kind), 20_000);
});
