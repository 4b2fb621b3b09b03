import type { Suite } from '../harness/suite.js';

const SUITES: Readonly<Record<string, () => Promise<Suite>>> = {
  pool: async () => (await import('./pool/index.js')).poolSuite,
};

export const SUITE_NAMES = Object.keys(SUITES);

export function suiteNamed(name: string): Promise<Suite> {
  const load = SUITES[name];
  if (!load) return Promise.reject(new Error(`There is no suite ${name}; there are: ${SUITE_NAMES.join(', ')}.`));
  return load();
}
