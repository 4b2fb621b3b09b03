import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const lib = (path: string): string => fileURLToPath(new URL(`./lib/${path}`, import.meta.url));

/** These run what is built (dist/) instead of lib/, so a build comes before them. */
const needBuild = ['test/package/tarball.test.ts', 'test/e2e/sample*.test.ts'];

export default defineConfig({
  // Nest reads constructor types from decorator metadata; naming it here makes files outside the tsconfig work too.
  oxc: { target: 'es2023', decorator: { legacy: true, emitDecoratorMetadata: true } },
  resolve: {
    alias: [
      { find: /^nestjs-pg$/, replacement: lib('index.ts') },
      { find: /^nestjs-pg\/(.+)$/, replacement: lib('$1/index.ts') },
    ],
  },
  test: {
    pool: 'forks',
    // The tests wait for servers more than they compute.
    maxWorkers: '100%',
    // For what hangs, not for what is slow.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: { name: 'lib', include: ['test/**/*.test.ts'], exclude: ['test/unit/**', ...needBuild] },
      },
      {
        extends: true,
        // They have nothing of the process to themselves, so they need none to themselves: three times as fast.
        test: { name: 'unit', include: ['test/unit/**/*.test.ts'], isolate: false },
      },
      {
        extends: true,
        test: { name: 'dist', include: needBuild, globalSetup: 'test/package/build.ts' },
      },
    ],
  },
});
