// The one way in. It brings a fresh clone up to date (dependencies, then the build) and becomes
// the task it was asked for. Plain JavaScript, because Node 20 cannot run TypeScript, and nothing
// but Node and npm is assumed. All it says goes to standard error: standard output is the task's.
//
//   node scripts/bootstrap.mjs <task> [arguments for the task]

import { spawnSync } from 'node:child_process';
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

function install(folder) {
  const unmet = firstUnmet(folder);
  if (unmet === undefined) return;
  const what = folder === root ? 'dependencies' : `what ${CLIENT_TESTS} needs`;
  say(`installing ${what} (${unmet} is missing or not as locked): npm ci`);
  // Under npm its own script is known; else it must be on the PATH.
  const npm = process.env.npm_execpath;
  const flags = ['ci', '--include=dev', '--no-audit', '--no-fund'];
  const [command, prefix] = npm?.endsWith('.js') ? [process.execPath, [npm]] : ['npm', []];
  const result = spawnSync(command, [...prefix, ...flags], {
    cwd: folder,
    stdio: ['ignore', 2, 2],
  });
  if (result.error) fail(`npm could not be started (${result.error.message}). Install npm.`);
  if (result.status !== 0) fail(`npm ci failed with status ${result.status}; see its lines above.`);
}

/** The folders that are compiled from src to dist. */
function projectsFor(task) {
  const { references } = JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8'));
  const paths = references.map(({ path }) => path);
  return (task === 'test' ? [...paths, CLIENT_TESTS] : paths).map((path) => join(root, path));
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

function compile(projects) {
  if (projects.some((project) => !existsSync(join(project, 'dist/.tsbuildinfo')))) {
    say('compiling: tsc -b');
  }
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const result = spawnSync(process.execPath, [tsc, '-b', ...projects], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (result.status !== 0) fail('the build failed; see the errors above.');
}

/** The commands in few files, where what was compiled is newer. */
function packProgram() {
  const script = join(root, 'scripts/program.mjs');
  if (!existsSync(script)) return;
  const result = spawnSync(process.execPath, [script], { cwd: root, stdio: ['ignore', 2, 2] });
  if (result.status !== 0) fail('the program could not be put into few files; see above.');
}

/** The console's page, where what it is made from is newer. */
function bundleConsole() {
  const script = join(root, 'scripts/console.mjs');
  if (!existsSync(script)) return;
  const result = spawnSync(process.execPath, [script], { cwd: root, stdio: ['ignore', 2, 2] });
  if (result.status !== 0) fail('the console could not be bundled; see above.');
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
install(root);
if (task === 'test') install(join(root, CLIENT_TESTS));
const projects = projectsFor(task);
removeStale(projects);
compile(projects);
if (task !== 'tidy' && task !== 'mutate') {
  bundleConsole();
  packProgram();
}
if (tasks[task] !== undefined) await become(tasks[task], rest);
