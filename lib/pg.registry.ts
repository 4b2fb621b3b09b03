import { Injectable, Module } from '@nestjs/common';
import { PgModuleError } from './errors/pg-module.error.js';

/** What the registry knows of a PgModule: how to close it. */
export interface Closable {
  close(): Promise<void>;
}

/** The pools of one application. Each application has its own; nothing is static. */
@Injectable()
export class PgRegistry {
  readonly #pools = new Map<string, Closable>();

  /** @throws PgModuleError `PG_CONFIG_INVALID` for a name that is taken */
  register(name: string, pool: Closable): void {
    if (this.#pools.has(name)) {
      throw new PgModuleError(
        'PG_CONFIG_INVALID',
        `PgModule is registered twice under the name "${name}" in one application. Import it once, in the root module ` +
          '(its pool is global), or give the second one another name: PgModule.forRoot({ name: ..., ... }).',
      );
    }
    this.#pools.set(name, pool);
  }

  /** For a bootstrap that has failed: Nest calls no shutdown hook then. */
  async closeAll(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.close()));
  }
}

/** One instance per application, whatever number of PgModules import it. */
@Module({ providers: [PgRegistry], exports: [PgRegistry] })
export class PgRegistryModule {}
