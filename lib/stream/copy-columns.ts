import type { PgClient } from '../client/pg-client.js';

/** A column of a table, with what it takes to write its values. */
export interface CopyColumn {
  readonly name: string;
  /** Its type, and what that is made of: the type under a domain, the elements of an array. */
  readonly types: readonly CopyType[];
}

export interface CopyType {
  readonly oid: number;
  /** The function that reads its binary format, which says what that format is. Undefined where there is none. */
  readonly receive: string | undefined;
}

/** From each column's type down to what it is made of; a type has one thing below it at the most. */
const TYPES = `
WITH RECURSIVE made (name, oid, depth) AS (
  SELECT attname, atttypid, 0
  FROM pg_catalog.pg_attribute
  WHERE attrelid = $1::pg_catalog.regclass AND attname = ANY ($2) AND attnum > 0 AND NOT attisdropped
  UNION ALL
  SELECT name, CASE typtype WHEN 'd' THEN typbasetype ELSE typelem END, depth + 1
  FROM made JOIN pg_catalog.pg_type AS whole USING (oid)
  WHERE typtype = 'd' OR typreceive = 'pg_catalog.array_recv'::pg_catalog.regproc
)
SELECT made.name, made.oid, proname
FROM made
  JOIN pg_catalog.pg_type AS kind ON kind.oid = made.oid
  LEFT JOIN pg_catalog.pg_proc ON pg_proc.oid = typreceive
ORDER BY depth`;

/** Whatever parsers the application has, here is text. */
const AS_TEXT = { getTypeParser: () => String } as never;

/**
 * Looks the columns up. One that does not exist has no types, and the server will say so.
 *
 * @param table quoted
 * @throws pg.DatabaseError if there is no such table
 */
export async function copyColumns(client: PgClient, table: string, columns: readonly string[]): Promise<CopyColumn[]> {
  const { rows } = await client.query<[string, string, string | null]>({
    text: TYPES,
    values: [table, columns],
    rowMode: 'array',
    types: AS_TEXT,
  });
  return columns.map((name) => ({
    name,
    types: rows
      .filter(([column]) => column === name)
      .map(([, oid, receive]) => ({ oid: Number(oid), receive: receive ?? undefined })),
  }));
}
