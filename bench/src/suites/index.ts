import type { Suite } from '../harness/suite.js';

const SUITES: Readonly<Record<string, () => Promise<Suite>>> = {
  pool: async () => (await import('./pool/index.js')).poolSuite,
  query: async () => (await import('./query/index.js')).querySuite,
  connect: async () => (await import('./connect/index.js')).connectSuite,
  startup: async () => (await import('./startup/index.js')).startupSuite,
  transaction: async () => (await import('./transaction/index.js')).transactionSuite,
  stream: async () => (await import('./stream/index.js')).streamSuite,
};

export const SUITE_NAMES = Object.keys(SUITES);

export function suiteNamed(name: string): Promise<Suite> {
  const load = SUITES[name];
  if (!load) return Promise.reject(new Error(`There is no suite ${name}; there are: ${SUITE_NAMES.join(', ')}.`));
  return load();
}
