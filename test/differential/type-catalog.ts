import type pg from 'pg';
import { LITERALS, type RandomLiterals } from './literals.js';

/** A type that the server knows. */
export interface ServerType {
  readonly oid: number;
  /** With its schema, quoted. */
  readonly name: string;
  readonly typname: string;
  readonly kind: 'base' | 'domain' | 'enum' | 'range' | 'multirange' | 'composite' | 'pseudo' | 'array';
  readonly delimiter: string;
  /** Of an array its elements', of a domain what it is made of, of a range its bounds', of a multirange its ranges'. */
  readonly inner: number | null;
  readonly labels: readonly string[] | null;
  /** The types of a composite's columns. */
  readonly columns: readonly number[] | null;
}

const TYPES = `
  SELECT t.oid::int8::int AS oid, quote_ident(n.nspname) || '.' || quote_ident(t.typname) AS name, t.typname::text,
    CASE WHEN e.oid IS NOT NULL THEN 'array' ELSE
      CASE t.typtype WHEN 'b' THEN 'base' WHEN 'd' THEN 'domain' WHEN 'e' THEN 'enum' WHEN 'r' THEN 'range'
        WHEN 'm' THEN 'multirange' WHEN 'c' THEN 'composite' WHEN 'p' THEN 'pseudo' END END AS kind,
    t.typdelim::text AS delimiter,
    coalesce(e.oid, nullif(t.typbasetype, 0), r.rngsubtype, m.rngtypid)::int8::int AS inner,
    (SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid) AS labels,
    (SELECT array_agg(a.atttypid::int8::int ORDER BY a.attnum) FROM pg_attribute a
     WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_type e ON e.typarray = t.oid
    LEFT JOIN pg_range r ON r.rngtypid = t.oid LEFT JOIN pg_range m ON m.rngmultitypid = t.oid
  WHERE t.typisdefined ORDER BY t.oid`;

/** Candidates for a type that is made of others, at most. */
const MOST = 40;

/** The types of a server, and values for each of them. */
export class TypeCatalog {
  readonly types: readonly ServerType[];
  readonly #client: pg.Client;
  readonly #random: RandomLiterals;
  readonly #perType: number;
  readonly #byOid: ReadonlyMap<number, ServerType>;
  readonly #known = new Map<number, Promise<string[]>>();

  private constructor(client: pg.Client, types: ServerType[], random: RandomLiterals, perType: number) {
    this.#client = client;
    this.types = types;
    this.#random = random;
    this.#perType = perType;
    this.#byOid = new Map(types.map((type) => [type.oid, type]));
  }

  /** `perType` = random values for a base type. */
  static async read(client: pg.Client, random: RandomLiterals, perType: number): Promise<TypeCatalog> {
    const { rows } = await client.query<ServerType>(TYPES);
    return new TypeCatalog(client, rows, random, perType);
  }

  /** What the server reads as values of a type; none if it has no input. */
  literals(oid: number): Promise<string[]> {
    let found = this.#known.get(oid);
    if (!found) {
      found = this.#find(this.#byOid.get(oid)!);
      this.#known.set(oid, found);
    }
    return found;
  }

  async #find(type: ServerType): Promise<string[]> {
    if (type.kind === 'pseudo') return [];
    if (type.kind === 'base') {
      const written = LITERALS[type.typname] ?? [];
      if (written.length === 0) return [];
      const all = [...written, ...this.#random.of(type.typname, this.#perType)];
      const valid = await this.#valid(type, all);
      const refused = all.filter((literal) => !valid.includes(literal));
      if (refused.length > 0) throw new Error(`no ${type.name}: ${JSON.stringify(refused)}`);
      return all;
    }
    const candidates = await this.#candidates(type);
    return candidates.length === 0 ? [] : this.#valid(type, candidates);
  }

  async #candidates({ kind, inner, labels, columns, delimiter }: ServerType): Promise<string[]> {
    if (kind === 'enum') return [...(labels ?? [])];
    if (kind === 'composite') return this.#composites(columns ?? []);
    const inside = await this.literals(inner!);
    if (kind === 'domain') return inside;
    const some = this.#some(inside);
    if (kind === 'array') return inside.length === 0 ? ['{}', '{NULL}'] : arrays(inside, some, delimiter);
    if (kind === 'multirange') return ['{}', ...some.map((range) => `{${range}}`), `{${some.join(',')}}`];
    const bounds = some.map(quoted);
    return [
      ...[
        'empty',
        '(,)',
        ...bounds.slice(0, 3).flatMap((bound) => [`[${bound},)`, `(,${bound})`, `[${bound},${bound}]`]),
      ],
      ...bounds.flatMap((low, at) => bounds.slice(at + 1).flatMap((high) => [`[${low},${high})`, `(${high},${low}]`])),
    ].slice(0, MOST);
  }

  async #composites(columns: readonly number[]): Promise<string[]> {
    const found = [`(${columns.map(() => '').join(',')})`];
    const choices: string[][] = [];
    for (const oid of columns) choices.push(await this.literals(oid));
    for (let count = 0; count < 4 && columns.length > 0; count++) {
      const values = choices.map((literals) => (literals.length === 0 ? '' : quoted(this.#random.pick(literals))));
      found.push(`(${values.join(',')})`);
    }
    return found.filter((literal) => literal.length < 10_000);
  }

  #some(literals: readonly string[]): string[] {
    const short = literals.filter((literal) => literal.length < 300);
    return Array.from({ length: Math.min(6, short.length) }, () => this.#random.pick(short));
  }

  async #valid({ name }: ServerType, literals: readonly string[]): Promise<string[]> {
    const { rows } = await this.#client.query<{ literal: string }>(
      'SELECT literal FROM unnest($1::text[]) AS literal WHERE pg_input_is_valid(literal, $2)',
      [literals, name],
    );
    return rows.map(({ literal }) => literal);
  }
}

function arrays(all: readonly string[], some: readonly string[], delimiter: string): string[] {
  const list = (items: readonly string[]): string => `{${items.join(delimiter)}}`;
  const [a = '', b = a, c = b] = some.map(quoted);
  const short = all.filter((literal) => literal.length < 500);
  return [
    ...['{}', '{NULL}', list([a]), list([a, 'NULL', b]), list([list([a, b]), list(['NULL', c])])],
    ...[`[2:4]=${list([a, b, 'NULL'])}`, `[-1:0][5:5]=${list([list([a]), list([b])])}`, list([list([list([a])])])],
    list(short.map(quoted).slice(0, 60)),
  ];
}

/** A value within the text of an array, a range or a composite. */
function quoted(literal: string): string {
  return `"${literal.replace(/["\\]/g, '\\$&')}"`;
}
