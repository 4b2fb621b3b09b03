import { kindOf } from '../config/unknown-option.js';
import { PgModuleError } from '../errors/pg-module.error.js';

/** What somebody has sent by NOTIFY or `notify()`, as the server delivers it when the sender's transaction has committed. */
export interface PgNotification {
  readonly kind: 'notification';
  readonly channel: string;
  /** Empty where none was given. */
  readonly payload: string;
  /** The backend of the session that has sent it. */
  readonly pid: number;
}

/** LISTEN is in force: what is committed from now on arrives. Whoever needs a state to begin with reads it now. */
export interface PgListening {
  readonly kind: 'listening';
  readonly channel: string;
}

/**
 * The connection was lost and LISTEN is in force again: what was committed in between has not arrived, and will not. Whoever
 * holds a state reads it again now.
 */
export interface PgGap {
  readonly kind: 'gap';
  readonly channel: string;
}

/**
 * What a subscription to a channel delivers: `listening` first, then notifications in the order of their commits, and a
 * `gap` wherever some may be missing.
 */
export type PgNotificationEvent = PgNotification | PgListening | PgGap;

/** NAMEDATALEN - 1: the server would cut a longer name off, and listen on another channel than it was told. */
const MAX_CHANNEL_BYTES = 63;
/** NOTIFY_PAYLOAD_MAX_LENGTH - 1 of a server with pages of 8 kB, which is nearly any (src/backend/commands/async.c). */
const MAX_PAYLOAD_BYTES = 7_999;

/** @throws PgModuleError `PG_NOTIFICATION_INVALID` for a name that the server would refuse or change */
export function assertChannel(channel: unknown): asserts channel is string {
  if (typeof channel !== 'string') throw invalid(`The name of a channel must be a string; it is ${kindOf(channel)}.`);
  if (channel === '') throw invalid('The name of a channel must not be empty.');
  if (channel.includes('\0')) throw invalid('The name of a channel must not contain the character U+0000.');
  const bytes = Buffer.byteLength(channel);
  if (bytes <= MAX_CHANNEL_BYTES) return;
  throw invalid(
    `The name of the channel "${channel.slice(0, MAX_CHANNEL_BYTES)}..." is too long: ${bytes} bytes in UTF-8, and the ` +
      `server takes ${MAX_CHANNEL_BYTES}.`,
  );
}

/** @throws PgModuleError `PG_NOTIFICATION_INVALID` for a payload that the server would refuse */
export function assertPayload(channel: string, payload: unknown): asserts payload is string {
  const subject = `The payload for the channel "${channel}"`;
  if (typeof payload !== 'string') {
    throw invalid(`${subject} must be a string; it is ${kindOf(payload)}. Send JSON.stringify(value).`);
  }
  if (payload.includes('\0'))
    throw invalid(`${subject} contains the character U+0000, which PostgreSQL has no text for.`);
  const bytes = Buffer.byteLength(payload);
  if (bytes <= MAX_PAYLOAD_BYTES) return;
  throw invalid(
    `${subject} is too long: ${bytes} bytes in UTF-8, and the server takes ${MAX_PAYLOAD_BYTES}. Store what is to be sent ` +
      'in a table, and notify of its key.',
  );
}

/** A channel's name as LISTEN and UNLISTEN take it: any characters, upper and lower case kept. */
export function quoteChannel(channel: string): string {
  return `"${channel.replaceAll('"', '""')}"`;
}

function invalid(message: string): PgModuleError {
  return new PgModuleError('PG_NOTIFICATION_INVALID', message);
}
