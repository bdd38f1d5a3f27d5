import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { adapters, banned } from './allowed.ts';
import { openParser, type Repository, type Rule, readRepository } from './repository.ts';
import { namedExports, noDeadExports, noDeadFiles } from './rules/dead.ts';
import { figuresHaveData, linksResolve, noPrivatePlaces, readmes } from './rules/documents.ts';
import { describeFolders, folderLayers } from './rules/folders.ts';
import { namesAtHome, plainWords } from './rules/names.ts';
import { layering, lightThreads, manifestsAgree, noCycles } from './rules/structure.ts';
import {
  fileLength,
  functionLength,
  lineLength,
  packedLiterals,
  unfinished,
} from './rules/style.ts';
import { report, rulesFor } from './rules.ts';

const parser = openParser();
afterAll(() => parser.close());

/** What a rule says about a made-up repository. */
function verdict(rule: Rule, files: Record<string, string>): string[] {
  return report(rule, repositoryOf(files));
}

const repositoryOf = (files: Record<string, string>): Repository =>
  parser.parse(new Map(Object.entries(files)));

const manifest = (name: string, dependencies: Record<string, string> = {}): string =>
  JSON.stringify({ name, dependencies, exports: { '.': { default: './dist/index.js' } } });
const bridge = { 'packages/bridge/package.json': manifest('@bridgekeeper/bridge') };
const device = {
  'packages/device/package.json': manifest('@bridgekeeper/device', { '@bridgekeeper/bridge': '1' }),
};

test('a thread may load no heavy package, by whatever it imports', () => {
  const rule = lightThreads(['packages/device/src/w.ts'], ['heavy']);
  const files = {
    ...bridge,
    ...device,
    'packages/bridge/src/index.ts': "import { z } from 'heavy/core';",
    'packages/device/src/w.ts': "import type { T } from 'heavy';\nimport { a } from './a.ts';",
    'packages/device/src/a.ts': "import { b } from '@bridgekeeper/bridge';",
  };
  expect(verdict(rule, files)).toEqual([
    expect.stringMatching(/^packages\/bridge.*w\.ts loads heavy\/core/),
  ]);
  expect(verdict(rule, { ...files, 'packages/device/src/a.ts': '' })).toEqual([]);
  expect(verdict(rule, bridge)).toEqual([expect.stringContaining('is no thread')]);
});

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

  test('a folder may use what the rest of its package may not', () => {
    const attest = manifest('@bridgekeeper/attest', { '@bridgekeeper/native': '1' });
    const files = {
      'packages/attest/package.json': attest,
      'packages/native/package.json': manifest('@bridgekeeper/native'),
      'packages/attest/tsconfig.json': JSON.stringify({ references: [{ path: '../native' }] }),
    };
    const text = "import { open } from '@bridgekeeper/native';";
    const node = { ...files, 'packages/attest/src/node/a.ts': text };
    expect([...verdict(layering, node), ...verdict(manifestsAgree, node)]).toEqual([]);
    expect(verdict(layering, { ...files, 'packages/attest/src/nodes.ts': text })).toEqual([
      expect.stringContaining('packages/attest may not import packages/native'),
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

  test('lets only what is for tests import the tools of its own package', () => {
    const text = "import { chromium } from 'playwright-core';";
    const tools = { devDependencies: { 'playwright-core': '1' } };
    const own = { ...JSON.parse(manifest('@bridgekeeper/bridge')), ...tools };
    const files = { 'packages/bridge/package.json': JSON.stringify(own) };
    const at = (path: string, from = files) => verdict(layering, { ...from, [path]: text });
    expect(at('packages/bridge/src/testing/browser.ts')).toEqual([]);
    expect(at('packages/bridge/src/browser.ts')).toHaveLength(1);
    expect(at('packages/bridge/src/testing/browser.ts', { ...bridge })).toHaveLength(1);
  });
});

describe('folder layers', () => {
  const src = 'packages/engine/src';
  const engine = {
    'packages/engine/package.json': manifest('@bridgekeeper/engine'),
    [`${src}/index.ts`]: "export { start } from './runner/start.ts';",
    [`${src}/runner/start.ts`]: "import { page } from '../kv/page.ts';\nimport '../request.ts';",
    [`${src}/kv/page.ts`]: "import type { Request } from '../request.ts';",
    [`${src}/request.ts`]: '',
  };
  const table = { '.': [], kv: ['.'], runner: ['.', 'kv'] };
  const rule = folderLayers({ engine: table });

  test('passes imports up the table, everything at the front, and all that tests do', () => {
    const text = "import '../runner/start.ts';\nimport '../index.ts';";
    const tests = { [`${src}/kv/page.test.ts`]: text, [`${src}/testing/pages.ts`]: text };
    expect(verdict(rule, { ...engine, ...tests })).toEqual([]);
  });

  test.each([
    ['code', "import { start } from '../runner/start.ts';"],
    ['types', "import type { Start } from '../runner/start.ts';"],
    ['code needed later', "await import('../runner/start.ts');"],
    ['what is passed on', "export { start } from '../runner/start.ts';"],
    ['a worker', "new URL('../runner/start.js', import.meta.url);"],
  ])('catches an import down: %s', (_, text) => {
    expect(verdict(rule, { ...engine, [`${src}/kv/page.ts`]: `\n${text}` })).toEqual([
      `${src}/kv/page.ts:2: kv may not import ${src}/runner/start.ts: it may use .`,
    ]);
  });

  test('catches code of the product that stands on what is for tests', () => {
    const files = { ...engine, [`${src}/testing/pages.ts`]: '' };
    const text = "import '../testing/pages.ts';";
    expect(verdict(rule, { ...files, [`${src}/kv/page.ts`]: text })).toEqual([
      `${src}/kv/page.ts:1: kv may not import ${src}/testing/pages.ts: it may use .`,
    ]);
  });

  test('catches a folder that imports the index of its own package', () => {
    expect(verdict(rule, { ...engine, [`${src}/kv/page.ts`]: "import '../index.ts';" })).toEqual([
      `${src}/kv/page.ts:1: ${src}/index.ts is for the outside: import the file that has it`,
    ]);
  });

  test('an index that the manifest exports may use every folder, wherever it lies', () => {
    const exports = {
      '.': { default: './dist/index.js' },
      './kv': { default: './dist/kv/index.js' },
    };
    const named = JSON.stringify({ name: '@bridgekeeper/engine', exports });
    const files = {
      ...engine,
      'packages/engine/package.json': named,
      [`${src}/kv/index.ts`]: "export { start } from '../runner/start.ts';",
    };
    expect(verdict(rule, files)).toEqual([]);
  });

  test('a file beside the folders may have a layer of its own', () => {
    const files = { ...engine, [`${src}/create.ts`]: "import './runner/start.ts';" };
    expect(verdict(rule, files)).toEqual([expect.stringContaining('. may not import')]);
    const named = folderLayers({ engine: { ...table, 'create.ts': ['runner'] } });
    expect(verdict(named, files)).toEqual([]);
  });

  test('a folder of folders may have a table of its own', () => {
    const files = {
      ...engine,
      [`${src}/runner/up/a.ts`]: "import '../down/b.ts';\nimport '../../kv/page.ts';",
      [`${src}/runner/down/b.ts`]: "import '../up/a.ts';",
    };
    const inner = { '.': [], down: [], up: ['down'] };
    expect(verdict(folderLayers({ engine: table, 'engine/runner': inner }), files)).toEqual([
      expect.stringContaining(`b.ts:1: down may not import ${src}/runner/up/a.ts`),
    ]);
  });

  test('catches what a table lacks, has too much, or turns round', () => {
    expect(verdict(folderLayers({}), engine)).toEqual([
      `${src}/: the folders of engine have no layers in tidy/src/allowed.ts`,
    ]);
    expect(verdict(folderLayers({}), { [`${src}/a.ts`]: '' })).toEqual([]);
    const wrong = folderLayers({ engine: { '.': ['kv'], kv: ['.'], seal: [] } });
    expect(verdict(wrong, engine)).toEqual([
      expect.stringContaining('runner has no layer'),
      expect.stringContaining('seal has a layer in tidy/src/allowed.ts and does not exist'),
      expect.stringContaining('. may import kv, which does not stand above it'),
    ]);
  });

  test('are printed as they are, with circles and what closes them', () => {
    expect(describeFolders(repositoryOf(engine))).toBe(
      `${src}/\n  .\n  kv -> . 1\n  runner -> . 1, kv 1\n`,
    );
    const circle = { ...engine, [`${src}/kv/page.ts`]: "import '../runner/start.ts';" };
    expect(describeFolders(repositoryOf(circle))).toContain(
      `circle: kv, runner; without these there would be none:
    kv -> runner: ${src}/kv/page.ts:1 imports ${src}/runner/start.ts`,
    );
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
  const a = 'packages/bridge/src/a.ts';
  const main = { 'packages/bridge/src/main.ts': "import { a } from './a.ts';" };
  const rule = noDeadExports([]);

  test.each([
    ['export const a = 1;\nexport const b = a;', 'a.ts:2: b is exported and never imported'],
    ['const a = 1;\nfunction b() {}\nexport { a, b };', 'a.ts:3: b is exported'],
    ['export class a {}\nexport class B {}', 'a.ts:2: B is exported'],
    ['export const a = 1;\nexport type B = number;', 'a.ts:2: B is exported'],
  ])('catches %j', (text, message) => {
    expect(verdict(rule, { ...main, [a]: text })).toEqual([expect.stringContaining(message)]);
  });

  test('passes the types of what is used', () => {
    const typed = 'export interface Options {}\nexport function a(options: Options) {}';
    expect(verdict(rule, { ...main, [a]: typed })).toEqual([]);
  });

  test.each([
    "const { b: mine } = await import('./a.ts');",
    "(await import('./a.ts')).b();",
    "const all = await import('./a.ts');",
    "import * as all from './a.ts';",
  ])('passes what %s takes', (text) => {
    const files = { 'packages/bridge/src/main.ts': text, [a]: 'export const b = 1;' };
    expect(verdict(rule, files)).toEqual([]);
  });

  test('sees what a dynamic import does not take', () => {
    const text = "const { b } = await import('./a.ts');";
    const files = { 'packages/bridge/src/main.ts': text, [a]: 'export let b = 1, c = 2;' };
    expect(verdict(rule, files)).toEqual([expect.stringContaining('c is exported')]);
  });

  test('what only tests use is dead, except where test helpers live', () => {
    const use = (from: string) => `import { b } from '${from}';`;
    const code = 'export const b = 1;';
    for (const user of ['src/a.test.ts', 'src/testing/a.ts', 'src/testing.ts']) {
      const files = { [`packages/bridge/${user}`]: use('@bridgekeeper/bridge/a'), [a]: code };
      const subpath = {
        name: '@bridgekeeper/bridge',
        exports: { './a': { default: './dist/a.js' } },
      };
      const all = { ...files, 'packages/bridge/package.json': JSON.stringify(subpath) };
      expect(verdict(rule, all), user).toEqual([
        expect.stringContaining('a.ts:1: b is exported and only tests use it'),
      ]);
    }
    const test = { 'packages/bridge/src/a.test.ts': use('./a.ts') };
    expect(verdict(rule, { ...test, [a]: code })).toEqual([
      expect.stringContaining('b is exported for tests only'),
    ]);
    const inUse = `${code}\nexport const a = b;`;
    expect(verdict(rule, { ...main, ...test, [a]: inUse })).toEqual([]);
    const helper = { 'packages/bridge/src/testing/a.ts': code };
    const tested = { 'packages/bridge/src/a.test.ts': use('./testing/a.ts') };
    expect(verdict(rule, { ...helper, ...tested })).toEqual([]);
    expect(verdict(rule, helper)).toHaveLength(1);
  });

  describe('of an index', () => {
    const index = 'packages/bridge/src/index.ts';
    const files = { ...bridge, ...device, [a]: 'export const a = 1, b = 2;' };
    const user = { 'packages/device/src/main.ts': "import { c } from '@bridgekeeper/bridge';" };

    test('passing on is no use: name and origin are dead where no other package takes it', () => {
      const all = { ...files, ...user, [index]: "export { a as c, b } from './a.ts';" };
      expect(verdict(rule, all)).toEqual([
        expect.stringContaining('a.ts:1: b is exported and never imported'),
        expect.stringContaining('index.ts:1: b is exported and no other package uses it'),
      ]);
    });

    test('export * is seen through', () => {
      const barrel = { 'packages/bridge/src/c.ts': "export { a as c, b } from './a.ts';" };
      const all = { ...files, ...user, ...barrel, [index]: "export * from './c.ts';" };
      expect(verdict(rule, all)).toEqual([
        expect.stringContaining('a.ts:1: b'),
        expect.stringContaining('c.ts:1: b'),
        expect.stringContaining('index.ts:1: b'),
      ]);
      expect(verdict(namedExports, all)).toEqual([
        expect.stringContaining("index.ts:1: export * from './c.ts': name what it passes on"),
      ]);
    });

    test('what is listed as public lives, and must exist', () => {
      const all = { ...files, [index]: "export { a, b } from './a.ts';" };
      const listed = (names: readonly string[] | '*') =>
        noDeadExports([{ path: index, names, reason: 'used alone' }]);
      expect(verdict(listed('*'), all)).toEqual([]);
      expect(verdict(listed(['a', 'b']), all)).toEqual([]);
      expect(verdict(listed(['a', 'b', 'z']), all)).toEqual([
        expect.stringContaining('lists z as public, and it is not exported here'),
      ]);
    });

    test('an example is a use', () => {
      const example = "import { a, b } from '@bridgekeeper/bridge';";
      const all = { ...files, [index]: "export { a, b } from './a.ts';" };
      expect(verdict(rule, { ...all, 'examples/a.ts': example })).toEqual([]);
    });
  });
});

describe('names at home', () => {
  const bannedNames = namesAtHome(banned, adapters);

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

  const lanes = namesAtHome(
    [{ name: 'openLane', member: true, instead: 'submit it' }],
    [
      { path: 'packages/engine/src/traffic/', names: ['openLane'], reason: 'opens them' },
      { path: '*.test.ts', names: ['openLane'], reason: 'see both ends' },
    ],
  );

  test.each([
    'device.openLane({});',
    'this.#device?.openLane({});',
    "device['openLane']({});",
    'const { openLane } = device;',
    'const { openLane: open } = device;',
    'function f({ device: { openLane: open } }) {}',
    "import { openLane as open } from '@bridgekeeper/device';",
    'const open = openLane;',
    'const it = { openLane };',
  ])('catches the member in %s, and not where it is at home', (text) => {
    expect(verdict(lanes, { 'packages/engine/src/a.ts': text })).toEqual([
      'packages/engine/src/a.ts:1: openLane is not at home here: submit it',
    ]);
    expect(verdict(lanes, { 'packages/engine/src/traffic/a.ts': text })).toEqual([]);
    expect(verdict(lanes, { 'packages/engine/src/a.test.ts': text })).toEqual([]);
  });

  test.each([
    'interface Device { openLane(): Lane; readonly openLanes: number }',
    'class Stub { openLane() {} }',
    'const stub = { openLane: () => undefined };',
    'const { open: openLane } = device;',
    "export { openLane } from './lanes.ts';",
    'export function openLane() {}',
    "test('openLane opens', () => {});",
  ])('passes %s, which gives the name', (text) => {
    expect(verdict(lanes, { 'packages/engine/src/a.ts': text })).toEqual([]);
  });
});

describe('plain words', () => {
  const rule = plainWords({ door: 'route' });

  test.each(['Door', 'openDoors', 'DOOR_NAMES', 'mainDoor'])('catches %s', (name) => {
    expect(verdict(rule, { 'packages/bridge/src/a.ts': `export const ${name} = 1;` })).toEqual([
      `packages/bridge/src/a.ts:1: ${name}: for "door" say route`,
    ]);
  });

  test.each(['export const Indoors = 1;', 'const door = 1;', "export { Door } from './b.ts';"])(
    'passes %s',
    (text) => expect(verdict(rule, { 'packages/bridge/src/a.ts': text })).toEqual([]),
  );
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

  test('file length: of code that is read as one, without a reason', () => {
    const rule = fileLength({ 'scripts/tables.mjs': 'one table' });
    expect(verdict(rule, { [path]: '\n'.repeat(1000) })).toEqual([]);
    expect(verdict(rule, { [path]: '\n'.repeat(1001) })).toHaveLength(1);
    for (const other of ['packages/device/kernels/a.cu', 'packages/bridge/src/a.test.ts']) {
      expect(verdict(rule, { [other]: '\n'.repeat(1001) })).toEqual([]);
    }
    expect(verdict(rule, { 'scripts/tables.mjs': '\n'.repeat(1001) })).toEqual([]);
  });

  test('function length, not of tests and suites', () => {
    const body = (lines: number): string => `{${'\n'.repeat(lines - 1)}}`;
    expect(verdict(functionLength, { [path]: `function f() ${body(150)}` })).toEqual([]);
    expect(verdict(functionLength, { [path]: `class C { f() ${body(151)} }` })).toHaveLength(1);
    const suite = `describe('x', () => ${body(151)});`;
    expect(verdict(functionLength, { [path]: suite })).toHaveLength(1);
    expect(verdict(functionLength, { 'packages/bridge/src/a.test.ts': suite })).toEqual([]);
    expect(verdict(functionLength, { 'packages/device/src/contract/a.ts': suite })).toEqual([]);
  });

  test.each([
    'const x = { ...{ a: 1, b }, c };',
    'f({ a, ...({ b } as const) });',
    'const x = { ...({ a } satisfies A) };',
  ])('a literal in a literal: %s', (text) => {
    expect(verdict(packedLiterals, { [path]: text })).toEqual([
      `${path}:1: a literal spread into a literal: write the properties out`,
    ]);
  });

  test.each([
    'const x = { ...(c ? { a } : {}), ...(d && { b }) };',
    'const x = { ...options, inner: { a } };',
    "const x = ['a', ...['b', 'c']];",
  ])('no literal in a literal: %s', (text) => {
    expect(verdict(packedLiterals, { [path]: text })).toEqual([]);
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
