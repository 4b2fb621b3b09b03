import { Controller, Get, Header, HttpCode, Post } from '@nestjs/common';
import { describeConnection, InjectConnectionFactory, PgConnectError, type ConnectionFactory } from 'nestjs-pg';
import { optionsOf } from './app.module.js';
import { Database } from './database.module.js';

/** https://www.postgresql.org/docs/18/monitoring-stats.html#MONITORING-PG-STAT-SSL-VIEW */
const SESSION = `
  select version as "tlsVersion", client_dn as "ourCertificate", client_serial::text as "itsSerialNumber"
  from pg_stat_ssl where pid = pg_backend_pid()`;

@Controller()
export class TlsController {
  constructor(
    @InjectConnectionFactory() private readonly connect: ConnectionFactory,
    private readonly database: Database,
  ) {}

  /** A new connection each time, so that a rotation shows at once. */
  @Get()
  async session(): Promise<unknown> {
    const client = await this.connect();
    try {
      const { rows } = await client.query(SESSION);
      return { ...rows[0], serverIdentity: client.security.verified };
    } finally {
      await client.close();
    }
  }

  @Get('settings')
  @Header('content-type', 'text/plain; charset=utf-8')
  settings(): string {
    return describeConnection(optionsOf(this.database)).text;
  }

  @Post('rotate')
  @HttpCode(200)
  async rotate(): Promise<unknown> {
    await this.database.rotate();
    return this.session();
  }

  @Post('impostor')
  @HttpCode(200)
  impostor(): Promise<unknown> {
    return this.database.whileImpersonated(() =>
      this.session().catch((error: unknown) => {
        if (error instanceof PgConnectError) return { refused: error.message };
        throw error;
      }),
    );
  }
}
