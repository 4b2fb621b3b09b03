import type { DatabaseError, FieldDef, QueryResult } from 'pg';
import pg from 'pg';
import type { PlainQuery } from './plain-query.js';
import type { Described, PreparedStatement, PreparedStatements } from './prepared-statements.js';
import { callBack, outOfOrder, ProtocolQuery, type QueryCallback } from './protocol-query.js';
import { ProtocolViolation } from './protocol-violation.js';
import { prepareValues, requests, type Parameter, type RequestWriter } from './request-writer.js';
import { RowDecoder, type TypeParsers } from './row-decoder.js';
import type { Statement } from './statement-catalog.js';

/** What a query needs of the connection that runs it. */
export interface FastConnection {
  readonly types: TypeParsers;
  readonly prepared: PreparedStatements;
  /** No transaction is open. */
  readonly isOutside: boolean;
  send(request: Buffer): void;
  /** Runs a query again, ahead of those that have not been sent. */
  again(query: ProtocolQuery): void;
}

/** pg's result, with the fields that its types do not name. */
type Result = QueryResult & {
  _parsers: readonly unknown[] | undefined;
  _prebuiltEmptyResultObject: object | null;
};
const { Result: ResultOf } = pg as unknown as { Result: new (rowMode: string | undefined, types: unknown) => Result };

/** How often a statement is run again. */
const MAX_HEALED = 2;
const PARAMETER = /\$\d/;
const UNKNOWN_STATEMENT = '26000';
const FEATURE_NOT_SUPPORTED = '0A000';
/** Where the server finds that a plan's rows have changed (plancache.c). */
const REVALIDATION = 'RevalidateCachedQuery';
/** What a value of the wrong type is answered with, or a statement whose parameters have become of another. */
const PARAMETER_ERRORS: ReadonlySet<string> = new Set([
  ...['22003', '22007', '22008', '22018', '22P02', '22P03'],
  ...['42725', '42804', '42846', '42883', 'XX000'],
]);
const DUPLICATE_STATEMENT = '42P05';

/** How far the answer to a request has come: each message must follow from the one before. */
enum Step {
  Sent,
  Parsed,
  Bound,
  Described,
  Complete,
}

/**
 * One run of a statement, as pg's client keeps it in its queue. Unlike pg's own Query it is sent in one write, named by
 * itself if the text comes back, and its rows are read straight from the messages.
 */
export class FastQuery extends ProtocolQuery {
  readonly text: string;
  readonly values: readonly unknown[] | undefined;
  callback: QueryCallback;
  /** pg's name for it. */
  readonly query_timeout: number | undefined;
  readonly #statement: Statement;
  readonly #connection: FastConnection;
  readonly #isArrayMode: boolean;
  #prepared: PreparedStatement | undefined;
  #decoder: RowDecoder | undefined;
  #result: Result | undefined;
  /** The body of the RowDescription that pg is reading. */
  #description: Buffer | undefined;
  #parameters: Parameter[] | undefined;
  #rowError: Error | undefined;
  /** Statements that were to be closed before it. */
  #closed: readonly string[] = [];
  /** What the server's answer has come to, and what belongs to it. */
  #step: Step = Step.Sent;
  #isExtended = false;
  #isParsing = false;
  /** How often it has been run again. */
  #healed = 0;

  constructor(
    connection: FastConnection,
    { statement, values, isArrayMode, queryTimeoutMillis }: PlainQuery,
    callback: QueryCallback,
  ) {
    super();
    this.#connection = connection;
    this.#statement = statement;
    this.text = statement.text;
    this.values = values;
    this.query_timeout = queryTimeoutMillis;
    this.#isArrayMode = isArrayMode;
    this.callback = callback;
  }

  /** pg calls this when it is the query's turn. */
  submit(): Error | null {
    let request: Buffer;
    try {
      request = this.#request();
    } catch (error) {
      // pg would take anything falsy for success.
      return error instanceof Error ? error : new Error(`A parameter could not be converted: ${String(error)}`);
    }
    this.#connection.send(request);
    return null;
  }

  #request(): Buffer {
    // Once: what the application does to its values after this is none of the statement's, run again or not.
    const values = (this.#parameters ??= prepareValues(this.values ?? []));
    const { prepared: statements } = this.#connection;
    // Without values pg uses the simple protocol, in which a $1 is an error of its own, and rules may add rows.
    const isSimple = values.length === 0 && (this.#statement.mayHaveRules || PARAMETER.test(this.text));
    const named = isSimple ? undefined : statements.use(this.#statement);
    const writer = requests.begin();
    this.#begins(named?.prepared, named !== undefined || values.length > 0);
    if (this.#isExtended)
      return this.#write(writer, values, named?.isNew ?? true)
        .sync()
        .end();
    statements.writeCloses(writer);
    return writer.query(this.text).end();
  }

  /** Calls the application, as {@link prepareValues} says. */
  prepare(): void {
    this.#parameters ??= prepareValues(this.values ?? []);
  }

  /** Writes it without a Sync: what follows in the same request is passed over if this fails. Prepared before. */
  write(writer: RequestWriter): void {
    const named = this.#connection.prepared.use(this.#statement);
    this.#begins(named?.prepared, true);
    this.#write(writer, this.#parameters ?? [], named?.isNew ?? true);
  }

  #begins(prepared: PreparedStatement | undefined, isExtended: boolean): void {
    this.#prepared = prepared;
    this.#decoder = undefined;
    this.#step = Step.Sent;
    this.#isExtended = isExtended;
    this.#isParsing = false;
  }

  #write(writer: RequestWriter, values: readonly Parameter[], isNew: boolean): RequestWriter {
    this.#closed = this.#connection.prepared.writeCloses(writer);
    const name = this.#prepared?.name ?? '';
    this.#isParsing = isNew;
    if (isNew) writer.parse(name, this.text);
    // Described each time: tables change, and a pooler may have another session behind the same name.
    return writer.bind(name, values).describePortal().execute();
  }

  /** Where the decoder of its rows is left for the next run. */
  #described(): Described {
    return this.#prepared ?? this.#connection.prepared.unnamed;
  }

  onParsed(): void {
    if (this.#step !== Step.Sent || !this.#isParsing) throw outOfOrder('ParseComplete');
    this.#step = Step.Parsed;
    if (this.#prepared) this.#prepared.isParsed = true;
  }

  onBound(): void {
    const before = this.#isParsing ? Step.Parsed : Step.Sent;
    if (this.#step !== before || !this.#isExtended) throw outOfOrder('BindComplete');
    this.#step = Step.Bound;
    if (this.#prepared) this.#prepared.hasRun = true;
  }

  /** The statement has no rows. */
  onNoData(): void {
    if (this.#step !== Step.Bound) throw outOfOrder('NoData');
    this.#step = Step.Described;
  }

  /**
   * Looks at a RowDescription.
   *
   * @returns whether it is known; if not, pg reads it
   */
  onDescription(bytes: Buffer, start: number, end: number): boolean {
    // In the simple protocol a rule may add rows of another description.
    const isDue = this.#isExtended ? this.#step === Step.Bound : this.#step < Step.Complete;
    if (!isDue) throw outOfOrder('RowDescription');
    this.#step = Step.Described;
    const known = this.#described().decoder;
    if (known?.description && bytes.compare(known.description, 0, known.description.length, start, end) === 0) {
      this.#decoder = known;
      return true;
    }
    this.#description = Buffer.from(bytes.subarray(start, end));
    return false;
  }

  handleRowDescription({ fields }: { fields: FieldDef[] }): void {
    this.#decoder = new RowDecoder(fields, this.#connection.types, this.#description);
    this.#described().decoder = this.#decoder;
    if (this.#result) describe(this.#result, this.#decoder);
  }

  onRow(bytes: Buffer, start: number, end: number): void {
    if (!this.#decoder || this.#step !== Step.Described) throw outOfOrder('DataRow');
    const result = (this.#result ??= this.#begin());
    if (this.#rowError) return;
    try {
      result.rows.push(this.#decoder.decode(bytes, start, end, this.#isArrayMode));
    } catch (error) {
      if (error instanceof ProtocolViolation) throw error;
      this.#rowError = error as Error;
    }
  }

  onComplete(tag: string): void {
    if (tag === '') throw outOfOrder('an empty CommandComplete');
    const isDue = this.#step === Step.Described || (!this.#isExtended && this.#step === Step.Sent);
    if (!isDue) throw outOfOrder('CommandComplete');
    this.#step = Step.Complete;
    const result = (this.#result ??= this.#begin());
    (result as unknown as { addCommandComplete(message: { text: string }): void }).addCommandComplete({ text: tag });
  }

  onReady(): void {
    if (this.#step !== Step.Complete) throw outOfOrder('ReadyForQuery');
  }

  /** The server has done it. */
  get isComplete(): boolean {
    return this.#step === Step.Complete;
  }

  /** Why its rows could not be read: a parser of the application threw. */
  get rowError(): Error | undefined {
    return this.#rowError;
  }

  get result(): Result {
    return (this.#result ??= this.#begin());
  }

  handleReadyForQuery(): void {
    const { result } = this;
    callBack(() => {
      if (this.#rowError) this.callback(this.#rowError);
      else this.callback(null, result);
    });
  }

  /** It failed where it cannot run again, or was passed over since one before it failed (`error` undefined). */
  giveUp(error: Error | undefined): void {
    // The server may have passed over their closing.
    this.#connection.prepared.closeLater(this.#closed);
    const prepared = this.#prepared;
    if (!prepared) return;
    if (error) this.#heals(error as DatabaseError, prepared, false);
    else if (!prepared.isParsed) this.#connection.prepared.forget(this.#statement, prepared);
  }

  handleError(error: Error): void {
    if (this.#prepared && this.#heals(error as DatabaseError, this.#prepared, this.#connection.isOutside)) {
      this.#result = undefined;
      this.#connection.again(this);
      return;
    }
    this.callback(this.#rowError ?? error);
  }

  /**
   * Whether the statement fails only because of its name, and has not done anything: then it can run again, once. In a
   * transaction it cannot, since the failure has ended that.
   */
  #heals(error: DatabaseError, prepared: PreparedStatement, isRepeatable: boolean): boolean {
    const { prepared: statements } = this.#connection;
    const isStale = error.code === FEATURE_NOT_SUPPORTED && error.routine === REVALIDATION;
    const isUnknown = error.code === UNKNOWN_STATEMENT && error.message.includes(prepared.name);
    const isTaken = error.code === DUPLICATE_STATEMENT && error.message.includes(prepared.name);
    // The types of its parameters were settled when it was parsed, and tables may have changed since.
    const isOutdated = prepared.hasRun && this.#step < Step.Bound && PARAMETER_ERRORS.has(error.code ?? '');
    if ((isUnknown && prepared.isParsed) || isTaken) statements.distrust(error.message);
    else if (isStale || isUnknown || isOutdated || !prepared.isParsed) statements.forget(this.#statement, prepared);
    const isCurable = isStale || isUnknown || isTaken || isOutdated;
    if (!isCurable || this.#healed === MAX_HEALED) return false;
    if (!isRepeatable) {
      if (isStale) this.#statement.failures++;
      return false;
    }
    // A pooler may have one statement of its own for all that we prepare of a text: the last try goes without a name.
    if (++this.#healed === MAX_HEALED) this.#statement.failures = Infinity;
    return true;
  }

  #begin(): Result {
    const { types } = this.#connection;
    const result = new ResultOf(this.#isArrayMode ? 'array' : undefined, types);
    if (!this.#decoder) return result;
    if (!this.#decoder.isCurrent(types)) {
      this.#decoder = new RowDecoder(this.#decoder.fields, types, this.#decoder.description);
      this.#described().decoder = this.#decoder;
    }
    describe(result, this.#decoder);
    return result;
  }
}

/** What pg's Result knows of its columns. */
function describe(result: Result, { fields, parsers, emptyRow }: RowDecoder): void {
  result.fields = fields.map(copyOf);
  if (fields.length > 0) result._parsers = parsers;
  result._prebuiltEmptyResultObject = emptyRow;
}

type FieldClass = new (...args: [string, number, number, number, number, number, string]) => FieldDef;

/** Each result's fields are its own, and pg's. */
function copyOf(field: FieldDef): FieldDef {
  const Field = field.constructor as FieldClass;
  const { name, tableID, columnID, dataTypeID, dataTypeSize, dataTypeModifier, format } = field;
  return new Field(name, tableID, columnID, dataTypeID, dataTypeSize, dataTypeModifier, format);
}
