// The one way in. It brings a fresh clone up to date (dependencies, then the build) and becomes
// the task it was asked for. Plain JavaScript, because Node 20 cannot run TypeScript, and nothing
// but Node and npm is assumed. All it says goes to standard error: standard output is the task's.
//
//   node scripts/bootstrap.mjs <task> [arguments for the task]

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const application = 'packages/bridgekeeper/bin/bridgekeeper.mjs';

/** What a task runs once everything is built: a script, and the arguments before the user's own. */
const tasks = {
  build: undefined,
  start: [application, 'serve'],
  test: ['node_modules/vitest/vitest.mjs', 'run', '--root', root],
  'test:gpu': [
    ...[application, 'selftest', '--device', 'cuda', '--models', 'all'],
    ...['--peer', 'python3', '--sanitizer', 'all'],
  ],
  tidy: ['tidy/dist/main.js'],
  mutate: ['scripts/mutate/main.mjs'],
  golden: ['scripts/golden.mjs'],
  bundle: ['packages/bridgekeeper/dist/bundle/main.js'],
  page: ['scripts/page.mjs'],
  chaos: ['packages/bridgekeeper/dist/testing/chaos/main.js', 'chaos'],
  soak: ['packages/bridgekeeper/dist/testing/chaos/main.js', 'soak'],
  'demo:fleet': ['scripts/fleet-demo.mjs'],
  simulate: ['packages/simulator/dist/main.js'],
};

/** Tests with the client libraries of others, which no other task installs or compiles. */
const CLIENT_TESTS = 'tests/clients';

const say = (text) => process.stderr.write(`bridgekeeper: ${text}\n`);

function fail(text) {
  say(text);
  process.exit(1);
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    say(`needs Node 20.19 or later, and this is ${process.versions.node} (${process.execPath}).`);
    fail('Install a newer Node, or use the offline bundle, which brings its own.');
  }
}

/** The first package locked in a folder that is not installed so, or undefined when all are. */
function firstUnmet(folder) {
  const read = (name) => JSON.parse(readFileSync(join(folder, name), 'utf8')).packages;
  if (!existsSync(join(folder, 'node_modules/.package-lock.json'))) return 'node_modules';
  const installed = read('node_modules/.package-lock.json');
  for (const [path, locked] of Object.entries(read('package-lock.json'))) {
    if (!path.startsWith('node_modules/')) continue;
    const found = installed[path];
    // Optional packages for other platforms are locked but never installed.
    if (found === undefined && locked.optional) continue;
    const same = found?.version === locked.version && found?.integrity === locked.integrity;
    if (!same || !existsSync(join(folder, path, 'package.json'))) return path;
  }
  return undefined;
}

/** Runs a program, whose output goes to standard error and which ends with this. Its status. */
async function run(command, args, cwd = root) {
  const child = spawn(command, args, { cwd, stdio: ['ignore', 2, 2] });
  const end = () => child.kill();
  process.once('exit', end);
  const [status] = await once(child, 'close');
  process.off('exit', end);
  return status;
}

async function install(folder) {
  const unmet = firstUnmet(folder);
  if (unmet === undefined) return;
  const what = folder === root ? 'dependencies' : `what ${CLIENT_TESTS} needs`;
  say(`installing ${what} (${unmet} is missing or not as locked): npm ci`);
  // Under npm its own script is known; else it must be on the PATH.
  const npm = process.env.npm_execpath;
  const flags = ['ci', '--include=dev', '--no-audit', '--no-fund'];
  const [command, prefix] = npm?.endsWith('.js') ? [process.execPath, [npm]] : ['npm', []];
  const status = await run(command, [...prefix, ...flags], folder).catch(({ message }) => {
    fail(`npm could not be started (${message}). Install npm.`);
  });
  if (status !== 0) fail(`npm ci failed with status ${status}; see its lines above.`);
}

/** The folders that are compiled from src to dist. */
function packages() {
  const { references } = JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8'));
  return references.map(({ path }) => join(root, path));
}

/** The compiler never deletes: what outlived its source would still be run as a test. */
function removeStale(projects) {
  for (const project of projects) {
    const dist = join(project, 'dist');
    if (!existsSync(dist)) continue;
    const stale = readdirSync(dist, { recursive: true }).filter((name) => {
      const stem = /^(.*)\.(?:d\.ts|js)(?:\.map)?$/.exec(name)?.[1];
      const isSource = (ending) => existsSync(join(project, 'src', `${stem}.${ending}`));
      return stem !== undefined && !isSource('ts') && !isSource('tsx');
    });
    if (stale.length === 0) continue;
    say(`removing from ${dist}, as their sources are gone: ${stale.join(', ')}`);
    for (const name of stale) rmSync(join(dist, name));
  }
}

async function compile(projects) {
  removeStale(projects);
  if (projects.some((project) => !existsSync(join(project, 'dist/.tsbuildinfo')))) {
    say('compiling: tsc -b');
  }
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const status = await run(process.execPath, [tsc, '-b', ...projects]);
  if (status !== 0) fail('the build failed; see the errors above.');
}

/** What is made of what was compiled, where that is newer. */
async function make(name, what) {
  const script = join(root, 'scripts', name);
  if (!existsSync(script)) return;
  const status = await run(process.execPath, [script]);
  if (status !== 0) fail(`${what} could not be made; see above.`);
}

/** Dependencies, what is compiled, and what is made of that. */
async function build(task) {
  await install(root);
  await compile(packages());
  if (task === 'tidy' || task === 'mutate') return;
  await Promise.all([
    make('console.mjs', "the console's page"),
    make('program.mjs', 'the program'),
  ]);
}

/** What tests with the clients of others need takes as long, and waits for none of it. */
async function bringUpToDate(task) {
  if (task !== 'test') return build(task);
  const clients = join(root, CLIENT_TESTS);
  await Promise.all([build(task), install(clients)]);
  await compile([clients]);
}

/** Runs the script in this very process, so that signals and the exit code need no forwarding. */
async function become([script, ...before], after) {
  const path = join(root, script);
  if (!existsSync(path)) fail(`${script} was not built.`);
  process.argv = [process.execPath, path, ...before, ...after];
  await import(pathToFileURL(path).href);
}

checkNode();
const [task, ...rest] = process.argv.slice(2);
if (!Object.hasOwn(tasks, task ?? '')) {
  say(`unknown task ${JSON.stringify(task ?? '')}; one of ${Object.keys(tasks).join(', ')}.`);
  process.exit(2);
}
await bringUpToDate(task);
if (tasks[task] !== undefined) await become(tasks[task], rest);
