import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

interface Example {
  /** Like `packages/attest/README.md:8`, where its code begins. */
  readonly name: string;
  readonly code: string;
}

/** The fenced blocks of TypeScript in a page. */
function examplesIn(path: string, page: string): Example[] {
  return [...page.matchAll(/^```ts\n(.*?)^```$/gms)].map((block) => {
    const line = page.slice(0, block.index).split('\n').length + 1;
    return { name: `${path}:${line}`, code: block[1]! };
  });
}

function examplesOfPackages(): Example[] {
  return readdirSync(join(root, 'packages')).flatMap((name) => {
    const path = `packages/${name}/README.md`;
    if (!existsSync(join(root, path))) return [];
    return examplesIn(path, readFileSync(join(root, path), 'utf8'));
  });
}

/**
 * What the compiler says of examples, each a module of a client that has the packages installed as
 * they were built: one text each, empty if it compiles.
 */
function compile(examples: readonly Example[]): string[] {
  const home = mkdtempSync(join(tmpdir(), 'readme-examples-'));
  try {
    mkdirSync(join(home, 'src'));
    symlinkSync(join(root, 'node_modules'), join(home, 'node_modules'));
    writeFileSync(join(home, 'package.json'), JSON.stringify({ type: 'module' }));
    const { compilerOptions } = JSON.parse(
      readFileSync(join(root, 'tsconfig.base.json'), 'utf8'),
    ) as { compilerOptions: Record<string, unknown> };
    const options = {
      ...compilerOptions,
      composite: false,
      declaration: false,
      declarationMap: false,
      noEmit: true,
      // An example may show what it gets without using it.
      noUnusedLocals: false,
    };
    const project = { compilerOptions: options, include: ['src'] };
    writeFileSync(join(home, 'tsconfig.json'), JSON.stringify(project));
    const files = examples.map(({ code }, i) => {
      const file = join(home, 'src', `example-${i}.ts`);
      writeFileSync(file, code);
      return basename(file);
    });
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    const run = spawnSync(process.execPath, [tsc, '-p', home, '--pretty', 'false'], {
      cwd: home,
      encoding: 'utf8',
    });
    const lines = run.stdout.split('\n');
    const said = files.map((file) => lines.filter((line) => line.includes(file)).join('\n'));
    // Whatever went wrong besides is not to be taken for success.
    const isExplained = run.status === 0 || said.some((text) => text !== '');
    if (!isExplained) throw new Error(`${run.error ?? ''}${run.stdout}${run.stderr}`);
    return said;
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

const examples = examplesOfPackages();

test('examples in the READMEs of packages compile against what was built', () => {
  expect(examples.map(({ name }) => name)).toContainEqual(
    expect.stringContaining('packages/attest/README.md'),
  );
  const said = compile(examples);
  const faults = examples.map(({ name }, i) => `${name}: ${said[i]}`);
  expect(faults.filter((_, i) => said[i] !== '')).toEqual([]);
});

test('an example with a wrong name, a wrong type or a missing import is found', () => {
  const page = [
    "```ts\nimport { nothing } from '@bridgekeeper/attest';\n```",
    "```ts\nimport { readPolicy } from '@bridgekeeper/attest';\nreadPolicy(1, 'x');\n```",
    '```ts\nverifyEvidence();\n```',
    "```ts\nimport { readPolicy } from '@bridgekeeper/attest';\nreadPolicy('{}', 'x');\n```",
    '```json\n{}\n```',
  ].join('\n\n');
  const made = examplesIn('page.md', page);
  expect(made.map(({ name }) => name)).toEqual([2, 6, 11, 15].map((line) => `page.md:${line}`));
  const [unknown, mistyped, unimported, good] = compile(made);
  expect(unknown).toContain('nothing');
  expect(mistyped).toContain('number');
  expect(unimported).toContain('verifyEvidence');
  expect(good).toBe('');
});
