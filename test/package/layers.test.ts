import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ROOT } from './root.js';

interface Violation {
  readonly from: string;
  readonly to: string;
  readonly rule: { readonly name: string; readonly severity: string };
}

/** Runs dependency-cruiser over the `lib` of a directory, with the rules of this repository. */
async function violationsIn(directory: string): Promise<Violation[]> {
  const depcruise = join(ROOT, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs');
  const config = join(ROOT, '.dependency-cruiser.cjs');
  // It exits with the number of errors; what counts here is the report.
  const run = promisify(execFile)(process.execPath, [depcruise, 'lib', '--config', config, '--output-type', 'json'], {
    cwd: directory,
    maxBuffer: 64 * 1024 * 1024,
  });
  const { stdout } = await run.catch((error: unknown) => error as { stdout: string });
  return (JSON.parse(stdout) as { summary: { violations: Violation[] } }).summary.violations;
}

/** A small lib/ that keeps every rule: the broken ones below differ from it in one file each. */
const KEPT: Record<string, string> = {
  'lib/index.ts': `export * from './pg.module.js';`,
  'lib/pg.module.ts': `import '@nestjs/common'; import 'rxjs'; import './pool/pool.js'; import './stream/listen.js';`,
  'lib/errors/error.ts': `export class PgError extends Error {}`,
  'lib/util/clock.ts': `import '../errors/error.js';`,
  'lib/config/settings.ts': `import '../util/clock.js'; export interface Settings { host: string }`,
  'lib/tls/options.ts': `import '../errors/error.js'; import type { Settings } from '../config/settings.js'; export type T = Settings;`,
  'lib/client/client.ts': `import 'pg'; import '../util/clock.js';`,
  'lib/connect/connect.ts': `import '../client/client.js'; import '../tls/options.js'; import '../config/settings.js'; export type Connect = () => void;`,
  'lib/pool/pool.ts': `import '../client/client.js'; import type { Connect } from '../connect/connect.js'; export type C = Connect;`,
  'lib/stream/listen.ts': `import 'rxjs'; import '../pool/pool.js';`,
  'lib/metrics/metrics.ts': `import '../pool/pool.js';`,
  'lib/testing/index.ts': `import '../pg.module.js'; import '../metrics/metrics.js';`,
};

/** Each: the rule that must bite, the file that breaks it, what it imports, and where that import ends. */
const BROKEN: [rule: string, file: string, text: string, to: string | RegExp][] = [
  ['layer-errors', 'lib/errors/up.ts', `import '../util/clock.js';`, 'lib/util/clock.ts'],
  ['layer-config', 'lib/config/up.ts', `import '../connect/connect.js';`, 'lib/connect/connect.ts'],
  ['layer-tls-types-of-config', 'lib/tls/value.ts', `import '../config/settings.js';`, 'lib/config/settings.ts'],
  ['layer-client', 'lib/client/up.ts', `import '../pool/pool.js';`, 'lib/pool/pool.ts'],
  ['layer-client', 'lib/client/up-type.ts', `export type * from '../connect/connect.js';`, 'lib/connect/connect.ts'],
  ['layer-connect', 'lib/connect/up.ts', `import '../pool/pool.js';`, 'lib/pool/pool.ts'],
  ['layer-pool-types-of-connect', 'lib/pool/value.ts', `import '../connect/connect.js';`, 'lib/connect/connect.ts'],
  ['layer-pool', 'lib/pool/front.ts', `import '../pg.module.js';`, 'lib/pg.module.ts'],
  ['layer-stream', 'lib/stream/sibling.ts', `import '../metrics/metrics.js';`, 'lib/metrics/metrics.ts'],
  ['nest-in-the-front-only', 'lib/pool/nest.ts', `import '@nestjs/common';`, /@nestjs\/common/],
  ['nest-in-the-front-only', 'lib/pool/nest-type.ts', `export type { Type } from '@nestjs/common';`, /@nestjs\/common/],
  ['rxjs-in-stream-and-front-only', 'lib/pool/rx.ts', `import 'rxjs';`, /rxjs/],
  ['front-below-sub-paths', 'lib/pg.more.ts', `import './testing/index.js';`, 'lib/testing/index.ts'],
  ['sub-paths-stand-alone', 'lib/otel/index.ts', `import '../testing/index.js';`, 'lib/testing/index.ts'],
  ['index-is-for-users', 'lib/otel/all.ts', `import '../index.js';`, 'lib/index.ts'],
  ['unknown-folder', 'lib/misc/stuff.ts', `import '../errors/error.js';`, 'lib/errors/error.ts'],
  ['no-dev-dependencies', 'lib/util/test.ts', `import 'vitest';`, /vitest/],
  ['no-undeclared-dependencies', 'lib/util/none.ts', `import 'no-such-package';`, 'no-such-package'],
  ['no-orphans', 'lib/util/dead.ts', `export const dead = 1;`, 'lib/util/dead.ts'],
  ['unreachable-from-an-entry-point', 'lib/pool/unused.ts', `import './pool.js';`, 'lib/pool/unused.ts'],
  ['no-cycles', 'lib/config/circle.ts', `import './settings-of-circle.js';`, /circle/],
  ['no-cycles', 'lib/config/settings-of-circle.ts', `import type {} from './circle.js';`, /circle/],
];

function writeLib(directory: string, files: Record<string, string>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), text);
  }
  cpSync(join(ROOT, 'package.json'), join(directory, 'package.json'));
  cpSync(join(ROOT, 'tsconfig.json'), join(directory, 'tsconfig.json'));
  cpSync(join(ROOT, 'tsconfig.build.json'), join(directory, 'tsconfig.build.json'));
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'), 'dir');
}

describe('the layers of lib/', () => {
  const directory = mkdtempSync(join(tmpdir(), 'nestjs-pg-layers-'));
  let kept: Violation[] = [];
  let broken: Violation[] = [];

  beforeAll(async () => {
    writeLib(join(directory, 'kept'), KEPT);
    writeLib(join(directory, 'broken'), {
      ...KEPT,
      ...Object.fromEntries(BROKEN.map(([, file, text]) => [file, text])),
    });
    [kept, broken] = (await Promise.all(['kept', 'broken'].map((name) => violationsIn(join(directory, name))))) as [
      Violation[],
      Violation[],
    ];
  });

  afterAll(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  it('accept a lib/ that keeps the rules', () => {
    expect(kept).toEqual([]);
  });

  it.each(BROKEN)('%s: %s', (rule, file, _text, to) => {
    const found = broken.filter(
      (violation) =>
        violation.rule.name === rule &&
        (violation.from === file || violation.to === file) &&
        (typeof to === 'string' ? violation.to === to : to.test(violation.to)),
    );
    expect(found.map((violation) => violation.rule.severity)).toContain('error');
  });
});
