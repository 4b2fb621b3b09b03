import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { ROOT } from './root.js';

interface Block {
  /** README.md:12 */
  readonly at: string;
  /** The info string: `ts`, `sh`, `ts fragment`. */
  readonly info: string;
  readonly text: string;
}

const guides = existsSync(join(ROOT, 'docs'))
  ? readdirSync(join(ROOT, 'docs'))
      .filter((name) => name.endsWith('.md'))
      .map((name) => join('docs', name))
  : [];
const documents = ['README.md', 'CONTRIBUTING.md', ...guides];

function blocksOf(document: string): Block[] {
  const text = readFileSync(join(ROOT, document), 'utf8');
  return [...text.matchAll(/^(`{3,})([^\n`]*)\n([\s\S]*?)^\1[^\S\n]*$/gm)].map((match) => ({
    at: `${document}:${text.slice(0, match.index).split('\n').length}`,
    info: match[2]!.trim(),
    text: match[3]!,
  }));
}

const blocks = documents.filter((document) => existsSync(join(ROOT, document))).flatMap(blocksOf);
const typescript = blocks.filter(({ info }) => /^(ts|typescript)$/.test(info));
const shell = blocks.filter(({ info }) => /^(sh|bash|shell)$/.test(info));

/** Compiles all blocks in one program, each as a file of its own, with `nestjs-pg` standing for lib/. */
function diagnosticsOf(sources: readonly Block[]): Map<string, string[]> {
  const configFile = join(ROOT, 'tsconfig.json');
  const config = ts.parseJsonConfigFileContent(ts.readConfigFile(configFile, ts.sys.readFile).config, ts.sys, ROOT);
  const options: ts.CompilerOptions = {
    ...config.options,
    moduleDetection: ts.ModuleDetectionKind.Force,
    // An example names things only to show them.
    noUnusedLocals: false,
    noUnusedParameters: false,
    // Readers write `import { PgPool }` in a constructor of a decorated class, as every Nest example does.
    verbatimModuleSyntax: false,
  };
  const files = new Map(sources.map((block) => [join(ROOT, `${block.at.replace(/[/:.]/g, '-')}.ts`), block]));
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (path) => files.has(path) || fileExists(path);
  host.readFile = (path) => files.get(path)?.text ?? readFile(path);
  host.getSourceFile = (path, languageVersion, ...rest) => {
    const block = files.get(path);
    return block
      ? ts.createSourceFile(path, block.text, languageVersion, true)
      : getSourceFile(path, languageVersion, ...rest);
  };
  const program = ts.createProgram({ rootNames: [...files.keys()], options, host });
  const found = new Map<string, string[]>();
  for (const [path, block] of files) {
    const file = program.getSourceFile(path)!;
    const diagnostics = [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)];
    found.set(
      block.at,
      diagnostics.map(({ start = 0, messageText }) => {
        const { line } = file.getLineAndCharacterOfPosition(start);
        return `line ${line + 1} of the block: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
      }),
    );
  }
  return found;
}

interface Manifest {
  readonly name: string;
  readonly scripts: Readonly<Record<string, string>>;
  readonly workspaces: readonly string[];
}

function manifestOf(folder: string): Manifest {
  return JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8')) as Manifest;
}

const { name, scripts, workspaces } = manifestOf('.');

/** What a shell block may say: each form is one that exists, so that a renamed script or folder shows here. */
function isKnownCommand(command: string): boolean {
  const [, elsewhere, itsScript] = /^npm (?:ci|run) --prefix (\S+)(?: ([\w:-]+))?$/.exec(command) ?? [];
  if (elsewhere !== undefined) {
    return existsSync(join(ROOT, elsewhere)) && (itsScript === undefined || itsScript in manifestOf(elsewhere).scripts);
  }
  const script = /^npm run (?:--silent )?([\w:-]+)/.exec(command)?.[1];
  if (script !== undefined) return script in scripts;
  const folder = /^cd (\S+)$/.exec(command)?.[1];
  if (folder !== undefined) return folder === name || existsSync(join(ROOT, folder));
  const tests = /^npx vitest run(?: (test\/\S+))?(?: -t .+)?$/.exec(command);
  if (tests) return tests[1] === undefined || existsSync(join(ROOT, tests[1]));
  const sample = /^npm start (?:-w|--workspace) (\S+)$/.exec(command)?.[1];
  if (sample !== undefined) return workspaces.includes(`${dirname(sample)}/*`) && existsSync(join(ROOT, sample));
  return [
    /^(?:[A-Z_]+=\S+ )*npm (?:ci|start|test|cit)$/,
    /^npm ci && npm (?:start|test)$/,
    /^npm (?:i|install) (?:--?[\w-]+ )*(?:@?[\w./-]+(?:@[\w.^-]+)? ?)+$/,
    /^npx --yes --package node-[\w-]+@\d+ --call 'npm test'$/,
    /^npx (?:eslint|prettier|tsc|depcruise) /,
    /^curl .*\/(?:tasks|slow|health)?/,
    /^git (?:clone|commit|checkout|restore) /,
    /^(?:kill|psql) /,
    /^\.ci\/run$/,
  ].some((form) => form.test(command));
}

describe('the documentation', () => {
  it('exists', () => {
    expect(documents.filter((document) => !existsSync(join(ROOT, document)))).toEqual([]);
  });

  describe('TypeScript blocks compile', () => {
    const found = diagnosticsOf(typescript);

    it.each(typescript.map(({ at }) => at))('%s', (at) => {
      expect(found.get(at)).toEqual([]);
    });
  });

  describe('shell blocks say what exists', () => {
    it.each(shell)('$at', ({ text }) => {
      const commands = text
        .replace(/\\\n\s*/g, ' ')
        .split('\n')
        .map((line) =>
          line
            .replace(/(^|\s)#.*$/, '')
            .replace(/^\$ /, '')
            .trim(),
        )
        .filter((line) => line !== '');
      expect(commands.filter((command) => !isKnownCommand(command))).toEqual([]);
    });
  });

  it('links to files that exist', () => {
    const broken = documents
      .filter((document) => existsSync(join(ROOT, document)))
      .flatMap((document) =>
        [...readFileSync(join(ROOT, document), 'utf8').matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)/g)]
          .filter((link) => !existsSync(join(ROOT, dirname(document), link[1]!)))
          .map((link) => `${document}: ${link[1]!}`),
      );
    expect(broken).toEqual([]);
  });
});
