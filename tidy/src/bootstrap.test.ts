import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
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
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
let home: string;

function write(path: string, content: unknown): void {
  mkdirSync(dirname(join(home, path)), { recursive: true });
  const text = typeof content === 'string' ? content : JSON.stringify(content);
  writeFileSync(join(home, path), text);
}

/** Runs a task in the small repository under `home`, with the real compiler. */
function bootstrap(...args: string[]) {
  const npm = join(home, 'npm.js');
  return spawnSync(process.execPath, ['scripts/bootstrap.mjs', ...args], {
    cwd: home,
    env: { ...process.env, npm_execpath: npm },
    encoding: 'utf8',
  });
}

/** As npm writes it: what is for other platforms is locked, and not among what is installed. */
const installed = (version: string) => ({ 'node_modules/typescript': { version } });
const elsewhere = { 'node_modules/elsewhere': { version: '1.0.0', optional: true } };
const lock = (version: string) => ({ packages: { ...installed(version), ...elsewhere } });

// The one project of the small repository is called tidy, so that the task of that name starts it.
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'bridgekeeper-bootstrap-'));
  mkdirSync(join(home, 'scripts'));
  copyFileSync(join(root, 'scripts/bootstrap.mjs'), join(home, 'scripts/bootstrap.mjs'));
  mkdirSync(join(home, 'node_modules'));
  symlinkSync(join(root, 'node_modules/typescript'), join(home, 'node_modules/typescript'));
  write('npm.js', "console.log('npm ' + process.argv.slice(2).join(' ')); process.exitCode = 7;");
  write('package.json', { type: 'module' });
  write('package-lock.json', lock('7.0.0'));
  write('node_modules/.package-lock.json', { packages: installed('7.0.0') });
  write('tsconfig.json', { files: [], references: [{ path: 'tidy' }] });
  const options = {
    composite: true,
    rootDir: 'src',
    outDir: 'dist',
    module: 'nodenext',
    types: [],
  };
  const compilerOptions = { ...options, tsBuildInfoFile: 'dist/.tsbuildinfo' };
  write('tidy/tsconfig.json', { compilerOptions, include: ['src'] });
  write(
    'tidy/src/main.ts',
    `declare const process: { argv: string[]; exitCode: number };
    declare const console: { log(text: string): void };
    console.log(process.argv.slice(2).join(' '));
    process.exitCode = 3;
    export {};`,
  );
});

afterEach(() => rmSync(home, { recursive: true, force: true }));

test('builds, then becomes the task: arguments, standard output and exit code are its own', () => {
  const first = bootstrap('tidy', '--port', '9000');
  expect(first).toMatchObject({ status: 3, stdout: '--port 9000\n' });
  expect(first.stderr).toContain('compiling: tsc -b');
  expect(bootstrap('tidy')).toMatchObject({ status: 3, stdout: '\n', stderr: '' });
});

test('removes what was compiled from a source that is gone', () => {
  write('tidy/src/old.test.ts', 'export {};');
  expect(bootstrap('build').status).toBe(0);
  expect(existsSync(join(home, 'tidy/dist/old.test.js'))).toBe(true);
  rmSync(join(home, 'tidy/src/old.test.ts'));
  expect(bootstrap('build').stderr).toContain('old.test.js');
  expect(existsSync(join(home, 'tidy/dist/old.test.js'))).toBe(false);
  expect(existsSync(join(home, 'tidy/dist/main.js'))).toBe(true);
});

test('stops at a type error, before the task', () => {
  write('tidy/src/main.ts', "export const count: number = 'one';");
  const run = bootstrap('tidy');
  expect(run).toMatchObject({ status: 1, stdout: '' });
  expect(run.stderr).toContain('TS2322');
});

test.each([
  ['another version is installed', () => write('package-lock.json', lock('7.0.1'))],
  ['nothing was ever installed', () => rmSync(join(home, 'node_modules/.package-lock.json'))],
  ['a folder is gone', () => rmSync(join(home, 'node_modules/typescript'))],
])('installs when %s, and stops when npm fails', (_, spoil) => {
  spoil();
  const run = bootstrap('build');
  expect(run).toMatchObject({ status: 1, stdout: '' });
  expect(run.stderr).toContain('npm ci --include=dev');
  expect(run.stderr).toContain('npm ci failed with status 7');
});

describe('what only tests need', () => {
  const openai = { packages: { 'node_modules/openai': { version: '6.0.0' } } };

  beforeEach(() => {
    write('tests/clients/package-lock.json', openai);
    write('tests/clients/src/openai.test.ts', 'export {};');
    const tsconfig = readFileSync(join(home, 'tidy/tsconfig.json'), 'utf8');
    write('tests/clients/tsconfig.json', tsconfig);
    write('node_modules/vitest/vitest.mjs', "console.log('tested');");
  });

  test('is neither installed nor compiled for another task', () => {
    expect(bootstrap('build')).toMatchObject({ status: 0 });
    expect(existsSync(join(home, 'tests/clients/dist'))).toBe(false);
  });

  test('is installed for them once, and compiled', () => {
    const first = bootstrap('test');
    expect(first).toMatchObject({ status: 1, stdout: '' });
    expect(first.stderr).toContain('installing what tests/clients needs (node_modules is missing');
    write('tests/clients/node_modules/.package-lock.json', openai);
    write('tests/clients/node_modules/openai/package.json', {});
    const second = bootstrap('test');
    expect(second).toMatchObject({ status: 0, stdout: 'tested\n' });
    expect(second.stderr).not.toContain('installing');
    expect(existsSync(join(home, 'tests/clients/dist/openai.test.js'))).toBe(true);
  });
});

test('says which tasks there are', () => {
  const run = bootstrap('strat');
  expect(run).toMatchObject({ status: 2, stdout: '' });
  expect(run.stderr).toContain('unknown task "strat"; one of build, start, test');
});
