import 'reflect-metadata';
import type { LoggerService, ModuleMetadata } from '@nestjs/common';
import { Test, type TestingModule, type TestingModuleBuilder } from '@nestjs/testing';
import { getConnectionFactoryToken, getPoolToken, type ConnectionFactory, type PgPool } from 'nestjs-pg';

type Level = 'log' | 'warn' | 'error';

interface LogEntry {
  readonly level: Level;
  readonly context: unknown;
  readonly message: string;
}

/** A logger of Nest's that keeps what it is told. */
export class RecordedLog implements LoggerService {
  readonly #entries: LogEntry[] = [];

  log(message: unknown, ...parameters: unknown[]): void {
    this.#add('log', message, parameters);
  }

  warn(message: unknown, ...parameters: unknown[]): void {
    this.#add('warn', message, parameters);
  }

  error(message: unknown, ...parameters: unknown[]): void {
    this.#add('error', message, parameters);
  }

  /** What PgModule has said. */
  lines(level?: Level): string[] {
    return this.#entries
      .filter((entry) => entry.context === 'PgModule' && (level === undefined || entry.level === level))
      .map(({ message }) => message);
  }

  /** Everything that was said by anyone, to search for what must not be in it. */
  get text(): string {
    return this.#entries.map(({ message }) => message).join('\n');
  }

  #add(level: Level, message: unknown, parameters: unknown[]): void {
    const text = message instanceof Error ? `${message.stack}` : String(message);
    this.#entries.push({ level, context: parameters.at(-1), message: text });
  }
}

/** A small application; `await using` closes it. */
export class TestApp implements AsyncDisposable {
  readonly module: TestingModule;
  readonly log: RecordedLog;
  #initialised: Promise<this> | undefined;

  constructor(module: TestingModule, log: RecordedLog) {
    this.module = module;
    this.log = log;
  }

  pool(name?: string): PgPool {
    return this.module.get<PgPool>(getPoolToken(name));
  }

  connectionFactory(name?: string): ConnectionFactory {
    return this.module.get<ConnectionFactory>(getConnectionFactoryToken(name));
  }

  /** Further calls wait for the same end. */
  init(): Promise<this> {
    return (this.#initialised ??= this.module.init().then(() => this));
  }

  close(): Promise<void> {
    return this.module.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** An application whose providers exist, and whose hooks have not run. */
export async function compileApp(
  metadata: ModuleMetadata,
  override: (builder: TestingModuleBuilder) => TestingModuleBuilder = (builder) => builder,
): Promise<TestApp> {
  const log = new RecordedLog();
  const builder = override(Test.createTestingModule(metadata)).setLogger(log);
  return new TestApp(await builder.compile(), log);
}

export async function startApp(
  metadata: ModuleMetadata,
  override?: (builder: TestingModuleBuilder) => TestingModuleBuilder,
): Promise<TestApp> {
  return (await compileApp(metadata, override)).init();
}

/** What a promise rejects with; an error if it does not. */
export async function rejection<E = Error & { code?: string }>(promise: Promise<unknown>): Promise<E> {
  const outcome = await promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  if ('error' in outcome) return outcome.error as E;
  throw new Error(`expected a rejection, got ${String(outcome.value)}`);
}
