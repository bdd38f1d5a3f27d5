import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const home = mkdtempSync(join(tmpdir(), 'bridgekeeper-mutated-'));

const sources = {
  'sum.ts': `import { Worker } from 'node:worker_threads';
export function sum(values: readonly number[]): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i]!;
  return total;
}

export const isFew = (count: number): boolean => count < 10;
export const isMany = (count: number): boolean => count > 99;

export function doubled(value: number): Promise<unknown> {
  const thread = new Worker(new URL('./thread.js', import.meta.url), { workerData: value });
  return new Promise((settle) => thread.once('message', settle));
}
`,
  'thread.ts': `import { parentPort, workerData } from 'node:worker_threads';

parentPort?.postMessage(workerData * 2);
`,
  'sum.test.ts': `import { expect, test } from 'vitest';
import { doubled, isFew, sum } from './sum.js';

test('adds', () => expect(sum([3, 4, 5])).toBe(12));
test('tells few from many', () => expect([isFew(9), isFew(11)]).toEqual([true, false]));
test('doubles in a thread', async () => expect(await doubled(21)).toBe(42));
`,
};

const accepted = [
  {
    file: 'packages/sample/src/sum.ts',
    within: 'isFew',
    original: '10',
    replacement: '20',
    reason: 'noticed in fact',
  },
  {
    file: 'packages/sample/src/sum.ts',
    within: 'isMany',
    original: '99',
    replacement: '198',
    reason: 'never asked',
  },
];

interface Result {
  total: Record<string, number>;
  survivors: Record<string, unknown>[];
  accepted: unknown[];
  stale: unknown[];
}
let result: Result;

function write(path: string, text: string): void {
  mkdirSync(dirname(join(home, path)), { recursive: true });
  writeFileSync(join(home, path), text);
}

beforeAll(() => {
  cpSync(join(root, 'scripts/mutate'), join(home, 'scripts/mutate'), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(home, 'node_modules'));
  write('packages/sample/package.json', '{ "type": "module" }');
  for (const [name, text] of Object.entries(sources)) write(`packages/sample/src/${name}`, text);
  write('accepted.json', JSON.stringify(accepted));
  const flags = '--noCheck --sourceMap --target es2022 --module nodenext --moduleDetection force';
  const paths = Object.keys(sources).map((name) => `packages/sample/src/${name}`);
  run('node_modules/typescript/bin/tsc', [
    ...['--outDir', 'packages/sample/dist', '--rootDir', 'packages/sample/src'],
    ...flags.split(' '),
    ...paths,
  ]);
  run('scripts/mutate/main.mjs', [
    ...['packages/sample/src', '--patience', '1'],
    ...['--accepted', 'accepted.json', '--json', 'result.json'],
  ]);
  result = JSON.parse(readFileSync(join(home, 'result.json'), 'utf8'));
}, 120_000);
afterAll(() => rmSync(home, { recursive: true, force: true }));

function run(script: string, args: string[]): void {
  const child = spawnSync(process.execPath, [script, ...args], { cwd: home, encoding: 'utf8' });
  if (child.status === 2) throw new Error(child.stderr);
}

const survivor = (within: string, replacement: string) =>
  result.survivors.find((one) => one.within === within && one.replacement === replacement);

test('a boundary that no test is at survives, at its line of the source', () => {
  expect(survivor('isFew', 'count <= 10')).toMatchObject({
    file: 'packages/sample/src/sum.ts',
    line: 8,
    original: 'count < 10',
    status: 'survived',
  });
});

test('what no test reaches is told apart', () => {
  expect(survivor('isMany', 'count >= 99')).toMatchObject({ status: 'uncovered', line: 9 });
});

test('what tests notice is killed, in threads too, and a loop without end is cut short', () => {
  expect(survivor('sum', 'total -= values[i]')).toBeUndefined();
  expect(result.survivors.filter(({ file }) => String(file).endsWith('thread.ts'))).toHaveLength(1);
  expect(result.total).toMatchObject({ survived: 2 });
  // A slow machine cuts others short as well: they count as noticed.
  const { timeout, killed } = result.total as { timeout: number; killed: number };
  expect(timeout).toBeGreaterThanOrEqual(1);
  expect(timeout + killed).toBe(19);
});

test('accepted survivors do not count, and an entry without one is stale', () => {
  expect(result.accepted).toMatchObject([{ within: 'isMany', reason: 'never asked' }]);
  expect(result.stale).toMatchObject([{ within: 'isFew' }]);
});
