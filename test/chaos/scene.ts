import type { PostgresServer } from 'nestjs-pg/testing';
import type { FaultProxy } from '../support/proxy.js';
import type { Child } from './child.js';
import type { ClientFiles, Generation } from './material.js';

/** Connections that the pool keeps, and may have. */
export const MIN = 6;
export const MAX = 12;
/** How long a statement may stay without an answer. A silent network is found by this, and by validation. */
export const QUERY_TIMEOUT_MILLIS = 5_000;
export const KEEPALIVE_MILLIS = 2_000;
export const VALIDATE_TIMEOUT_MILLIS = 1_000;

/** A server, a network in front of it, and a program that uses it. */
export interface Scene {
  readonly server: PostgresServer;
  readonly proxy: FaultProxy;
  readonly child: Child;
  readonly files: ClientFiles;
  /** The certificates that are valid now. */
  generation: Generation;
}
