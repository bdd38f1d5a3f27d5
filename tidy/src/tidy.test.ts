import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { openParser, type Rule, readRepository } from './repository.ts';
import { figuresHaveData, linksResolve, noPrivatePlaces, readmes } from './rules/documents.ts';
import {
  layering,
  manifestsAgree,
  noCycles,
  noDeadExports,
  noDeadFiles,
} from './rules/structure.ts';
import { bannedNames, fileLength, functionLength, lineLength, unfinished } from './rules/style.ts';
import { report, rulesFor } from './rules.ts';

const parser = openParser();
afterAll(() => parser.close());

/** What a rule says about a made-up repository. */
function verdict(rule: Rule, files: Record<string, string>): string[] {
  return report(rule, parser.parse(new Map(Object.entries(files))));
}

const manifest = (name: string, dependencies: Record<string, string> = {}): string =>
  JSON.stringify({ name, dependencies, exports: { '.': { default: './dist/index.js' } } });
const bridge = { 'packages/bridge/package.json': manifest('@bridgekeeper/bridge') };
const device = {
  'packages/device/package.json': manifest('@bridgekeeper/device', { '@bridgekeeper/bridge': '1' }),
};

describe('layering', () => {
  test('passes an import down the layers and a builtin', () => {
    const text = "import { a } from '@bridgekeeper/bridge';\nimport fs from 'node:fs';";
    expect(verdict(layering, { ...bridge, ...device, 'packages/device/src/a.ts': text })).toEqual(
      [],
    );
  });

  test.each([
    ['up', "import type { D } from '@bridgekeeper/device';", 'may not import packages/device'],
    ['out of the package', "import '../../device/src/d.ts';", 'leaves the package'],
    ['not listed', "import { z } from 'zod';", 'zod is not a dependency of packages/bridge'],
    ['lazily', "await import('hono/client');", 'hono is not a dependency of packages/bridge'],
  ])('catches an import that goes %s', (_, text, message) => {
    const files = { ...bridge, ...device, 'packages/bridge/src/a.ts': text };
    expect(verdict(layering, files)).toEqual([expect.stringContaining(message)]);
  });

  test('catches an import of the inside of another package', () => {
    const text = "import { a } from '@bridgekeeper/bridge/dist/a.js';";
    const files = { ...bridge, ...device, 'packages/device/src/a.ts': text };
    expect(verdict(layering, files)).toEqual([
      expect.stringContaining("not among that one's exports"),
    ]);
  });

  test('lets only tests import the tools of the root', () => {
    const text = "import { test } from 'vitest';";
    const root = {
      'package.json': JSON.stringify({ devDependencies: { vitest: '1' } }),
      ...bridge,
    };
    expect(verdict(layering, { ...root, 'packages/bridge/src/a.test.ts': text })).toEqual([]);
    expect(verdict(layering, { ...root, 'packages/bridge/src/a.ts': text })).toHaveLength(1);
  });
});

describe('manifests agree', () => {
  const use = { 'packages/device/src/a.ts': "import '@bridgekeeper/bridge';" };
  const references = (...paths: string[]) => ({
    'packages/device/tsconfig.json': JSON.stringify({
      references: paths.map((path) => ({ path })),
    }),
  });

  test('passes when imports, manifest and references say the same', () => {
    const files = { ...bridge, ...device, ...use, ...references('../bridge') };
    expect(verdict(manifestsAgree, files)).toEqual([]);
  });

  test('catches a missing reference, an unused dependency, a wrong layer, an unknown one', () => {
    expect(verdict(manifestsAgree, { ...bridge, ...device, ...use })).toEqual([
      expect.stringContaining('tsconfig.json refers to []'),
    ]);
    expect(verdict(manifestsAgree, { ...bridge, ...device, ...references('../bridge') })).toEqual([
      expect.stringContaining('@bridgekeeper/bridge is listed and never imported'),
    ]);
    const upward = manifest('@bridgekeeper/bridge', { '@bridgekeeper/device': '1' });
    const wrong = verdict(manifestsAgree, { ...device, 'packages/bridge/package.json': upward });
    expect(wrong).toContainEqual(expect.stringContaining('may not depend on packages/device'));
    expect(verdict(manifestsAgree, { 'packages/other/package.json': manifest('other') })).toEqual([
      expect.stringContaining('packages/other has no layer'),
    ]);
  });
});

describe('no import cycles', () => {
  const b = { 'packages/bridge/src/b.ts': "import { a } from './a.ts';" };

  test('catches files that need each other', () => {
    const files = { ...b, 'packages/bridge/src/a.ts': "export { b } from './b.ts';" };
    expect(verdict(noCycles, files)).toEqual([
      expect.stringContaining('src/a.ts > packages/bridge/src/b.ts > packages/bridge/src/a.ts'),
    ]);
  });

  test.each(["import type { B } from './b.ts';", "const later = () => import('./b.ts');"])(
    'passes %s',
    (text) => {
      expect(verdict(noCycles, { ...b, 'packages/bridge/src/a.ts': text })).toEqual([]);
    },
  );
});

describe('no dead files', () => {
  test('catches a file that nothing leads to', () => {
    const files = {
      ...bridge,
      'packages/bridge/src/index.ts': "export * from './a.ts';",
      'packages/bridge/src/a.ts': "new Worker(new URL('./a-worker.js', import.meta.url));",
      'packages/bridge/src/a-worker.ts': "import type { B } from './b.ts';",
      'packages/bridge/src/b.ts': '',
      'packages/bridge/src/dead.ts': "import './b.ts';",
    };
    expect(verdict(noDeadFiles, files)).toEqual([expect.stringContaining('src/dead.ts')]);
  });
});

describe('no dead exports', () => {
  const index = { ...bridge, 'packages/bridge/src/index.ts': "import { a } from './a.ts';" };

  test.each([
    ['export const a = 1;\nexport const b = a;', 'a.ts:2: b is exported'],
    ['const a = 1;\nfunction b() {}\nexport { a, b };', 'a.ts:3: b is exported'],
    ['export class a {}\nexport class B {}', 'a.ts:2: B is exported'],
    ['export const a = 1;\nexport type B = number;', 'a.ts:2: B is exported'],
  ])('catches %j', (text, message) => {
    const files = { ...index, 'packages/bridge/src/a.ts': text };
    expect(verdict(noDeadExports, files)).toEqual([expect.stringContaining(message)]);
  });

  test('passes the types of what is used, and files re-exported whole', () => {
    const typed = 'export interface Options {}\nexport function a(options: Options) {}';
    expect(verdict(noDeadExports, { ...index, 'packages/bridge/src/a.ts': typed })).toEqual([]);
    const files = {
      'packages/bridge/src/index.ts': "export * from './a.ts';",
      'packages/bridge/src/a.ts': 'export const b = 1;',
    };
    expect(verdict(noDeadExports, files)).toEqual([]);
  });
});

describe('banned names', () => {
  test.each([
    'const t = Date.now();',
    'const t = new Date();',
    'const t = Date();',
    'const t = globalThis.performance.now();',
    'const t = process.hrtime.bigint();',
    'setTimeout(() => {}, 1);',
    'const later = globalThis.setTimeout;',
    'const clock = { setInterval };',
    "import { setTimeout as sleep } from 'node:timers/promises';",
    'const s = AbortSignal.timeout(5);',
    'const x = { value: Math.random() };',
    'console.log(1);',
  ])('catches %s', (text) => {
    expect(verdict(bannedNames, { 'packages/bridge/src/a.ts': text })).toHaveLength(1);
  });

  test.each([
    'const t = new Date(0).toISOString() + Date.UTC(2026);',
    'function f(now: Date): Date { return now; }',
    "const text = 'Date.now() and console.log';",
    'server.setTimeout(0);',
    'const timers = { setTimeout: 1 };',
  ])('passes %s', (text) => {
    expect(verdict(bannedNames, { 'packages/bridge/src/a.ts': text })).toEqual([]);
  });
});

describe('size and finish', () => {
  const path = 'packages/bridge/src/a.ts';

  test('line length counts characters and forgives addresses', () => {
    const wide = `// ${'ü'.repeat(97)}`;
    expect(verdict(lineLength, { [path]: wide })).toEqual([]);
    expect(verdict(lineLength, { [path]: `${wide}ü` })).toHaveLength(1);
    expect(verdict(lineLength, { [path]: `// https://example.org/${'x'.repeat(100)}` })).toEqual(
      [],
    );
  });

  test('file length', () => {
    expect(verdict(fileLength, { [path]: '\n'.repeat(500) })).toEqual([]);
    expect(verdict(fileLength, { [path]: '\n'.repeat(501) })).toHaveLength(1);
    expect(verdict(fileLength, { 'packages/device/kernels/a.cu': '\n'.repeat(501) })).toHaveLength(
      1,
    );
  });

  test('function length, of suites only in tests', () => {
    const body = (lines: number): string => `{${'\n'.repeat(lines - 1)}}`;
    expect(verdict(functionLength, { [path]: `function f() ${body(70)}` })).toEqual([]);
    expect(verdict(functionLength, { [path]: `class C { f() ${body(71)} }` })).toHaveLength(1);
    const suite = `describe('x', () => ${body(71)});`;
    expect(verdict(functionLength, { [path]: suite })).toHaveLength(1);
    expect(verdict(functionLength, { 'packages/bridge/src/a.test.ts': suite })).toEqual([]);
  });

  test('nothing unfinished', () => {
    const mark = `TO${'DO'}`;
    expect(verdict(unfinished, { [path]: `// ${mark}: later` })).toHaveLength(1);
    expect(verdict(unfinished, { [path]: `const x = '${mark}S';` })).toEqual([]);
  });
});

describe('documents', () => {
  test('every package has a README', () => {
    expect(verdict(readmes, bridge)).toHaveLength(1);
    expect(verdict(readmes, { ...bridge, 'packages/bridge/README.md': '' })).toEqual([]);
  });

  test('relative links resolve, outside of code', () => {
    const rule: Rule = (repository) => linksResolve(repository, (path) => path === 'docs/a.md');
    const good = '[a](docs/a.md#top) [b](https://example.org) `[c](c.md)`\n```\n[d](d.md)\n```\n';
    expect(verdict(rule, { 'README.md': good })).toEqual([]);
    expect(verdict(rule, { 'docs/x.md': '[a](../docs/a.md) ![b](b.svg)' })).toEqual([
      'docs/x.md:1: no such file: b.svg',
    ]);
  });

  test('a figure has its data beside it', () => {
    const readme = { 'README.md': '![speed](docs/results/speed.svg)' };
    expect(verdict(figuresHaveData, readme)).toHaveLength(1);
    expect(verdict(figuresHaveData, { ...readme, 'docs/results/speed.json': '{}' })).toEqual([]);
  });

  test('no places of one machine', () => {
    const places = [
      ['', 'work', 'main'],
      ['', 'home', 'me', 'x'],
      ['see https:', '', `${'registry'}.npmjs.org`],
      ['http:', '', `10${'.0.0.7:80'}`],
    ].map((parts) => parts.join('/'));
    for (const place of places) {
      expect(verdict(noPrivatePlaces, { 'docs/a.md': place }), place).toHaveLength(1);
    }
    const text = `packages${'/work'}/a ~${'/work'}/b $root/x http://127.0.0.1:8000 10.5 ms`;
    expect(verdict(noPrivatePlaces, { 'docs/a.md': text })).toEqual([]);
  });
});

describe('this repository', () => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const repository = readRepository(root);

  test('is read', () => {
    expect(repository.sources.map(({ path }) => path)).toContain('tidy/src/tidy.test.ts');
  });

  test.each(Object.entries(rulesFor(root)))('%s', (_, rule) => {
    expect(report(rule, repository)).toEqual([]);
  });
});
