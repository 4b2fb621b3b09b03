import { execFileSync } from 'node:child_process';
import type { TestProject } from 'vitest/node';
import { ROOT } from './root.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** Why dist/ could not be built. Only the tests that need it fail then, not the run. */
    buildFailure: string | undefined;
  }
}

/** Global setup of the tests that run dist/: builds the package, then each sample against it. */
export default function build(project: TestProject): void {
  project.provide('buildFailure', undefined);
  try {
    for (const args of [[], ['--workspaces', '--if-present']]) {
      execFileSync('npm', ['run', '--silent', 'build', ...args], { cwd: ROOT, stdio: 'pipe', encoding: 'utf8' });
    }
  } catch (error) {
    project.provide('buildFailure', (error as { stdout?: string }).stdout ?? String(error));
  }
}
