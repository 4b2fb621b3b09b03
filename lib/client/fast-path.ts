import pg from 'pg';
import type { MessageHandler } from './message-reader.js';
import { isWellFormed } from './message-shape.js';
import { FastQuery } from './fast-query.js';
import { Flight, type FlightCallback } from './flight.js';
import { Portal, type PortalConnection, type PortalKeeper, type PortalRequest } from './portal.js';
import { PreparedStatements } from './prepared-statements.js';
import { plainQuery, type PlainQuery } from './plain-query.js';
import { callBack, ProtocolQuery, type QueryCallback } from './protocol-query.js';
import { ProtocolViolation } from './protocol-violation.js';
import type { ReadyConnection } from './ready-connection.js';
import type { TypeParsers } from './row-decoder.js';
import type { StatementCatalog } from './statement-catalog.js';

/** The parts of pg's Client that its types do not name; see {@link ReadyConnection} for the rule. */
interface ClientInternals {
  _activeQuery: object | null | undefined;
  readonly _queryQueue: object[];
  readonly _types: TypeParsers;
  readonly binary: boolean;
  _handleReadyForQuery(message: object): void;
  getTransactionStatus(): 'I' | 'T' | 'E' | null;
}

const PARSE_COMPLETE = 0x31;
const BIND_COMPLETE = 0x32;
const CLOSE_COMPLETE = 0x33;
const COMMAND_COMPLETE = 0x43;
const DATA_ROW = 0x44;
const EMPTY_QUERY = 0x49;
const ROW_DESCRIPTION = 0x54;
const READY_FOR_QUERY = 0x5a;
const NO_DATA = 0x6e;
const PORTAL_SUSPENDED = 0x73;
/** What is answered to a query of ours, but for its description and its error: those go the way through pg. */
const TAKEN: readonly boolean[] = Array.from({ length: 256 }, (_, type) =>
  [
    ...[PARSE_COMPLETE, BIND_COMPLETE, CLOSE_COMPLETE, COMMAND_COMPLETE, DATA_ROW, READY_FOR_QUERY, NO_DATA],
    ...[PORTAL_SUSPENDED, EMPTY_QUERY],
  ].includes(type),
);

/** Its description and its error, and what may come at any time: notice, notification, parameter status. */
const LEFT_TO_PG: ReadonlySet<number> = new Set(Buffer.from('TENAS'));

/** All that a server may send. */
const BACKEND: ReadonlySet<number> = new Set(Buffer.from('123ACDEGHIKNRSTVWZcdnstv'));

const READY = Object.fromEntries(
  ['I', 'T', 'E'].map((status) => [status, { name: 'readyForQuery', length: 5, status }]),
);

/** The short way of plain statements through one connection: past pg's Query, parser and events, through pg's queue. */
export class FastPath implements MessageHandler, PortalConnection {
  readonly prepared: PreparedStatements;
  readonly #client: ClientInternals;
  readonly #connection: ReadyConnection;
  readonly #catalog: StatementCatalog;
  #active: ProtocolQuery | undefined;

  constructor(client: pg.Client, connection: ReadyConnection, catalog: StatementCatalog) {
    this.#client = client as unknown as ClientInternals;
    this.#connection = connection;
    this.#catalog = catalog;
    this.prepared = new PreparedStatements(catalog);
    connection.handleBy(this);
    connection.on('deallocated', () => this.prepared.clear());
  }

  /** The part of pg that this way needs and does not find, if there is one. */
  static obstacle(client: pg.Client): string | undefined {
    const { Result, utils } = pg as unknown as { Result?: { prototype: object }; utils?: object };
    const inClient = ['_activeQuery', '_queryQueue', '_sentQueryQueue', '_types', '_handleReadyForQuery', 'binary'];
    const missing = [
      ...[...inClient, 'getTransactionStatus'].filter((name) => !(name in client)).map((name) => `Client.${name}`),
      ...(Result ? [] : ['pg.Result']),
      ...(Result && !('addCommandComplete' in Result.prototype) ? ['Result.addCommandComplete'] : []),
      ...(utils && 'prepareValue' in utils ? [] : ['pg.utils.prepareValue']),
    ];
    return missing[0];
  }

  get types(): TypeParsers {
    return this.#client._types;
  }

  get isOutside(): boolean {
    return this.#client.getTransactionStatus() === 'I';
  }

  query(plain: PlainQuery, callback: QueryCallback): FastQuery | undefined {
    return this.#client.binary ? undefined : new FastQuery(this, plain, callback);
  }

  /** Several statements in one request; `undefined` where they have to be sent one by one. */
  flight(plains: readonly PlainQuery[], callback: FlightCallback): Flight | undefined {
    return this.#client.binary ? undefined : new Flight(this, plains, callback);
  }

  /** A statement whose rows are asked for in batches; `keeper` looks after its turn and its time. */
  portal(request: PortalRequest, keeper: PortalKeeper): Portal | undefined {
    return this.#client.binary ? undefined : new Portal(this, request, keeper);
  }

  /** See {@link plainQuery}. */
  plain(config: unknown, values: unknown): PlainQuery | undefined {
    return plainQuery(this.#catalog, config, values);
  }

  send(request: Buffer): void {
    this.#connection.sendSoon(request);
  }

  sendNow(request: Buffer): void {
    const { stream } = this.#connection;
    if (stream.writable) stream.write(request);
  }

  again(query: ProtocolQuery): void {
    this.#client._queryQueue.unshift(query);
  }

  takes(type: number, bytes: Buffer, start: number, end: number): boolean {
    // Rows of ours are checked as they are read.
    const active = this.#connection.isAhead ? undefined : this.#client._activeQuery;
    if (!(active instanceof ProtocolQuery)) {
      if (!BACKEND.has(type)) throw new ProtocolViolation(`a message of type ${type}, which there is not`);
      checkShape(type, bytes, start, end);
      return false;
    }
    this.#active = active;
    if (type !== DATA_ROW) checkShape(type, bytes, start, end);
    if (TAKEN[type] === true) return true;
    if (!LEFT_TO_PG.has(type)) throw new ProtocolViolation(`a message of type ${type} in answer to a plain statement`);
    return type === ROW_DESCRIPTION && active.onDescription(bytes, start, end);
  }

  take(type: number, bytes: Buffer, start: number, end: number): void {
    const active = this.#active;
    switch (type) {
      case DATA_ROW:
        active?.onRow(bytes, start, end);
        return;
      case COMMAND_COMPLETE:
        active?.onComplete(bytes.toString('latin1', start, end - 1));
        return;
      case READY_FOR_QUERY:
        active?.onReady();
        this.#ready(READY[String.fromCharCode(bytes[start] ?? 0)] ?? {});
        return;
      case BIND_COMPLETE:
        active?.onBound();
        return;
      case PARSE_COMPLETE:
        active?.onParsed();
        return;
      case CLOSE_COMPLETE:
        // Of a statement that has made room, or of a cursor's portal.
        return;
      case NO_DATA:
        active?.onNoData();
        return;
      case PORTAL_SUSPENDED:
        active?.onSuspended();
        return;
      case EMPTY_QUERY:
        active?.onEmpty();
        return;
    }
  }

  #ready(message: object): void {
    // One is pg's own. A cursor that is being closed listens as well.
    if (this.#connection.listenerCount('readyForQuery') > 1) this.#connection.emit('readyForQuery', message);
    else callBack(() => this.#client._handleReadyForQuery(message));
  }
}

function checkShape(type: number, bytes: Buffer, start: number, end: number): void {
  if (!isWellFormed(type, bytes, start, end)) throw new ProtocolViolation(`a malformed message of type ${type}`);
}
