import { build } from 'rolldown';

/**
 * What is published. Node.js reads each file of a package by itself when an application starts, so the modules that tsc
 * has made of lib/ (build/) become four: one with nearly everything, and the entry points.
 */
await build({
  input: { index: 'build/index.js', 'cls/index': 'build/cls/index.js', 'testing/index': 'build/testing/index.js' },
  external: (id) => !/^[./]/.test(id),
  platform: 'node',
  output: {
    dir: 'dist',
    format: 'esm',
    minifyInternalExports: false,
    // A folder below dist/, as the modules of lib/ are: lib/util/call-site.ts knows the package's frames by that.
    chunkFileNames: 'internal/[name].js',
    codeSplitting: { groups: [{ name: 'nestjs-pg', test: /build\/(?!cls\/|testing\/)/ }] },
  },
});
