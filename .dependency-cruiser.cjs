/**
 * A folder of lib/ is a layer, and imports run downwards only:
 *
 *   errors, util <- config, tls, client <- connect <- pool <- transaction, stream, metrics <- lib/*.ts <- sub-paths
 *
 * `npm run lint:layers` reports every import that breaks this; test/package/layers.test.ts breaks each rule once.
 */
const layers = [
  { name: 'errors', mayImport: [] },
  { name: 'util', mayImport: ['errors'] },
  { name: 'config', mayImport: ['errors', 'util'] },
  { name: 'tls', mayImport: ['errors', 'util'], mayImportTypesOf: ['config'] },
  { name: 'client', mayImport: ['errors', 'util'], mayImportTypesOf: ['config'] },
  { name: 'connect', mayImport: ['errors', 'util', 'config', 'tls', 'client'] },
  { name: 'pool', mayImport: ['errors', 'util', 'config', 'client'], mayImportTypesOf: ['connect'] },
  ...['transaction', 'stream', 'metrics'].map((name) => ({
    name,
    mayImport: ['errors', 'util', 'config', 'client', 'pool'],
    mayImportTypesOf: ['connect'],
  })),
];
/** Entry points of the package beside lib/index.ts. They see the layers and the front files, never one another. */
const subPaths = ['testing', 'terminus', 'otel', 'cls'];

const layerNames = layers.map((layer) => layer.name);
const inLayers = `^lib/(${layerNames.join('|')})/`;
const folder = (names) => `^lib/(${names.join('|')})/`;
const entryPoints = `^lib/(index|(${subPaths.join('|')})/index)\\.ts$`;
const npmPackage = (name) => `(^|/)node_modules/${name}(/|$)|^${name}(/|$)`;

/** One rule for what a layer may import, and one for the layers of which it may only name the types. */
const layerRules = layers.flatMap(({ name, mayImport, mayImportTypesOf = [] }) => [
  {
    name: `layer-${name}`,
    comment: `${name}/ may import ${[...mayImport, ...mayImportTypesOf.map((at) => `types of ${at}`)].join(', ') || 'nothing else of lib/'}.`,
    severity: 'error',
    from: { path: folder([name]) },
    to: { path: '^lib/', pathNot: folder([name, ...mayImport, ...mayImportTypesOf]) },
  },
  ...mayImportTypesOf.map((at) => ({
    name: `layer-${name}-types-of-${at}`,
    comment: `${name}/ may import from ${at}/ with \`import type\` only.`,
    severity: 'error',
    from: { path: folder([name]) },
    to: { path: folder([at]), dependencyTypesNot: ['type-only'] },
  })),
]);

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...layerRules,
    {
      name: 'unknown-folder',
      comment: 'A new folder of lib/ is a new layer or a new sub-path: name it in .dependency-cruiser.cjs.',
      severity: 'error',
      from: { path: '^lib/[^/]+/', pathNot: folder([...layerNames, ...subPaths]) },
      to: {},
    },
    {
      name: 'nest-in-the-front-only',
      comment: 'Nest stands in lib/*.ts and the sub-paths. The layers are plain TypeScript.',
      severity: 'error',
      from: { path: inLayers },
      to: { path: npmPackage('@nestjs') },
    },
    {
      name: 'rxjs-in-stream-and-front-only',
      comment: 'rxjs stands in stream/, lib/*.ts and the sub-paths.',
      severity: 'error',
      from: { path: inLayers, pathNot: '^lib/stream/' },
      to: { path: npmPackage('rxjs') },
    },
    {
      name: 'front-below-sub-paths',
      comment: 'A sub-path costs an optional peer dependency; nothing outside of it may import it.',
      severity: 'error',
      from: { path: '^lib/[^/]+$' },
      to: { path: folder(subPaths) },
    },
    {
      name: 'sub-paths-stand-alone',
      comment: 'One sub-path does not import another.',
      severity: 'error',
      from: { path: `^lib/(${subPaths.join('|')})/` },
      to: { path: folder(subPaths), pathNot: '^lib/$1/' },
    },
    {
      name: 'index-is-for-users',
      comment: 'lib/index.ts is the public list; inside, import the file that defines the thing.',
      severity: 'error',
      from: { path: '^lib/' },
      to: { path: '^lib/index\\.ts$' },
    },
    {
      name: 'no-cycles',
      comment: 'Types count as well: a cycle of types is a layer in the wrong place.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-orphans',
      comment: 'A file that nobody imports and that imports nobody is dead.',
      severity: 'error',
      from: { orphan: true, path: '^lib/' },
      to: {},
    },
    {
      name: 'unreachable-from-an-entry-point',
      comment: 'Whatever the package ships is reached from lib/index.ts or from the index.ts of a sub-path.',
      severity: 'error',
      from: { path: entryPoints },
      to: { path: '^lib/', pathNot: entryPoints, reachable: false },
    },
    {
      name: 'no-dev-dependencies',
      comment: 'A user of the package has its dependencies and peers, and nothing else.',
      severity: 'error',
      from: { path: '^lib/' },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['npm-peer', 'npm', 'npm-optional', 'type-only'] },
    },
    {
      name: 'no-undeclared-dependencies',
      comment: 'Not in package.json, or not to be found.',
      severity: 'error',
      from: { path: '^lib/' },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown', 'unknown', 'undetermined'] },
    },
    {
      name: 'no-tests-in-lib',
      comment: 'lib/ does not know test/, sample/ or bench/.',
      severity: 'error',
      from: { path: '^lib/' },
      to: { path: '^(test|sample|bench|dist)/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.build.json' },
    tsPreCompilationDeps: true,
    combinedDependencies: true,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'types', 'node', 'default'] },
  },
};
