// Mutation testing: changes compiled sources in one place at a time, and tells which changes no
// test notices.
//
//   npm run mutate -- packages/bridge/src/scheduler.ts packages/engine/src/kv/
//     --tests <path>       sources of tests, files or folders (again for more); by default all of
//                          the packages that are changed
//     --slowest <s>        leave out test files that take longer
//     --patience <s>       how long a mutant may hang, 5 without it, besides twice what its tests
//                          take without mutants; what hung is run again with more of it
//     --jobs <n>           so many processes run tests at once, 1 without it
//     --for <s>            judge no further mutant after that time: what is left stays open
//     --failing leave-out  tests that fail without a mutant are left out and named, where the
//                          machine is not one that they pass on; without it they end the run
//     --accepted <file>    survivors with a reason, which do not count
//     --again <file>       of the sources in that result, only what was alive in it; the rest is
//                          counted as it was there (again for more results)
//     --json <file>        write the result there, and every 10 mutants what is known by then:
//                          those still open count as alive, so that --again goes on with it
//
// Progress goes to standard error, scores and survivors to standard output. The exit code is 0 when
// nothing survived that is not accepted, 1 when something did, and 2 when there is no result.

import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { SourceMap } from 'node:module';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { makeJudge, measureTests, OPEN } from './judge.mjs';
import { instrument } from './mutants.mjs';
import { makeSandbox } from './sandbox.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = resolve(here, '../..');
const say = (text) => process.stderr.write(`mutate: ${text}\n`);

function fail(text) {
  say(text);
  process.exit(2);
}

const readJson = (path) => JSON.parse(readFileSync(path, 'utf8'));

/** Sources under the paths, relative to the root; tests, or all but tests. */
function sourcesUnder(paths, areTests) {
  const found = new Set();
  for (const path of paths) {
    const full = resolve(path);
    if (!existsSync(full)) fail(`there is no ${path}`);
    const names = path.endsWith('.ts') ? [''] : readdirSync(full, { recursive: true });
    for (const name of names) {
      const source = relative(root, join(full, name));
      if (!/^packages\/[^/]+\/src\/.*\.ts$/.test(source) || source.endsWith('.d.ts')) continue;
      if (source.endsWith('.test.ts') === areTests) found.add(source);
    }
  }
  return [...found].sort();
}

const compiledOf = (source) => source.replace('/src/', '/dist/').replace(/\.ts$/, '.js');

/** Puts the mutants of all sources into their copies and gives them, in order of place. */
function instrumentAll(sources, sandbox) {
  copyFileSync(join(here, 'switch.mjs'), sandbox.switch);
  const all = [];
  for (const file of sources) {
    const path = join(sandbox.root, compiledOf(file));
    const text = readFileSync(path, 'utf8');
    const { code, mutants } = instrument(text, all.length);
    // In the first line, so that lines in traces stay what they are.
    writeFileSync(path, `import { $m } from '${pathToFileURL(sandbox.switch)}'; ${code}`);
    const lineOf = sourceLines(text, join(root, `${compiledOf(file)}.map`));
    for (const { offset, ...mutant } of mutants) {
      all.push({ ...mutant, file, line: lineOf(offset), status: OPEN });
    }
  }
  return all;
}

/** From an offset in compiled text to a line of its source, from 1; without a map, of the text. */
function sourceLines(text, mapPath) {
  const map = existsSync(mapPath) ? new SourceMap(readJson(mapPath)) : undefined;
  return (offset) => {
    const lines = text.slice(0, offset).split('\n');
    const entry = map?.findEntry(lines.length - 1, lines.at(-1).length);
    return (entry?.originalLine ?? lines.length - 1) + 1;
  };
}

const isAlive = ({ status }) => status !== 'killed' && status !== 'timeout';

/** What tells mutants apart while lines move. */
const keyOf = ({ file, within, original, replacement }) =>
  [file, within, original, replacement].join('\n');

/** Counts what became of mutants, and of those that an earlier result noticed. */
function count(mutants, noticed) {
  const of = (status) => mutants.filter((mutant) => mutant.status === status).length;
  return withScore({
    mutants: mutants.length + noticed.killed + noticed.timeout,
    killed: of('killed') + noticed.killed,
    timeout: of('timeout') + noticed.timeout,
    survived: of('survived'),
    uncovered: of('uncovered'),
    accepted: mutants.filter((mutant) => mutant.reason !== undefined).length,
  });
}

/** The score is in percent, of those that are not accepted. */
function withScore(counts) {
  const { mutants, killed, timeout, accepted } = counts;
  const counted = mutants - accepted;
  const score = counted === 0 ? 100 : Math.floor((1000 * (killed + timeout)) / counted) / 10;
  return { ...counts, score };
}

function sum(all) {
  const names = ['mutants', 'killed', 'timeout', 'survived', 'uncovered', 'accepted'];
  const of = (name) => all.reduce((soFar, counts) => soFar + counts[name], 0);
  return withScore(Object.fromEntries(names.map((name) => [name, of(name)])));
}

function groupedByKey(mutants) {
  const groups = new Map();
  for (const mutant of mutants) {
    const key = keyOf(mutant);
    groups.set(key, [...(groups.get(key) ?? []), mutant]);
  }
  return groups;
}

/**
 * Leaves the mutants out that earlier results noticed, and counts them, by source. What survived
 * there and is accepted by now is not judged again.
 */
function leaveOutNoticed(mutants, results) {
  const left = [];
  const hung = [];
  const noticed = {};
  for (const file of sources) {
    const own = mutants.filter((mutant) => mutant.file === file);
    const result = results.find(({ files }) => Object.hasOwn(files, file));
    const before = result?.files[file] ?? { mutants: own.length, timeout: 0 };
    if (before.mutants !== own.length) fail(`${file} has changed since the result of --again`);
    const alive = result && groupedByKey([...result.survivors, ...result.accepted]);
    const run = own.filter((mutant) => alive?.has(keyOf(mutant)) ?? true);
    const now = groupedByKey(run);
    for (const [key, earlier] of alive ?? []) {
      const same = now.get(key) ?? [];
      // Of several that cannot be told apart, it is not known which was noticed.
      if (!reasons.has(key) || same.length !== earlier.length) continue;
      for (const mutant of same) mutant.status = earlier[0].status;
    }
    const rest = own.length - run.length;
    const timeout = Math.min(before.timeout, rest);
    noticed[file] = { killed: rest - timeout, timeout };
    hung.push(...(result?.hung ?? []).filter((mutant) => mutant.file === file));
    left.push(...run);
  }
  return { left, noticed, hung };
}

const git = (...args) => spawnSync('git', args, { cwd: root, encoding: 'utf8' }).stdout?.trim();

/** The entries about these sources that accept nothing: the mutant is gone, or tests notice it. */
function staleAmong(accepted, sources, mutants) {
  const used = new Set(mutants.filter((mutant) => mutant.reason !== undefined).map(keyOf));
  return accepted.filter((entry) => sources.includes(entry.file) && !used.has(keyOf(entry)));
}

function lineOf({ file, line, within, operator, original, replacement, status }) {
  const change = `${original} -> ${replacement || 'nothing'}`.replace(/\s+/g, ' ');
  return `${file}:${line} ${status} ${operator} in ${within || 'the module'}: ${change}`;
}

function print({ files, total, survivors, stale, leftOut }) {
  const lines = [];
  for (const [name, counts] of [...Object.entries(files), ['all', total]]) {
    const { score, mutants, survived, uncovered, accepted } = counts;
    const detail = `${mutants} mutants, ${survived} survived, ${uncovered} not reached`;
    lines.push(`${score.toFixed(1).padStart(5)} %  ${name}: ${detail}, ${accepted} accepted`);
  }
  for (const survivor of survivors) {
    if (survivor.status !== OPEN) lines.push(lineOf(survivor));
  }
  const open = survivors.filter(({ status }) => status === OPEN).length;
  if (open > 0) lines.push(`${open} were not judged: --again goes on with them`);
  for (const { file, original, replacement } of stale) {
    lines.push(`${file}: accepted, but no survivor: ${original} -> ${replacement}`);
  }
  for (const path of leftOut) lines.push(`left out, too slow or failing: ${path}`);
  process.stdout.write(`${lines.join('\n')}\n`);
}

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tests: { type: 'string', multiple: true },
    slowest: { type: 'string', default: '600' },
    patience: { type: 'string', default: '5' },
    jobs: { type: 'string', default: '1' },
    for: { type: 'string', default: 'Infinity' },
    failing: { type: 'string' },
    accepted: { type: 'string', default: join(root, 'docs/results/mutation/accepted.json') },
    again: { type: 'string', multiple: true, default: [] },
    json: { type: 'string' },
  },
});
const sources = sourcesUnder(positionals, false).filter((source) =>
  existsSync(join(root, compiledOf(source))),
);
if (sources.length === 0) fail('name sources to change, such as packages/bridge/src');
const packages = new Set(sources.map((source) => source.split('/').slice(0, 3).join('/')));
const testPaths = options.tests ?? [...packages].map((path) => join(root, path));
const accepted = existsSync(options.accepted) ? readJson(options.accepted) : [];
const reasons = new Map(accepted.map((entry) => [keyOf(entry), entry.reason]));

const sandbox = makeSandbox(root);
process.on('exit', () => rmSync(sandbox.folder, { recursive: true, force: true }));
let stop = () => process.exit(2);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => stop());

const commit = git('rev-parse', 'HEAD');
const modified = git('status', '--porcelain', 'packages') !== '';
const before = options.again.map(readJson);
const { left: mutants, noticed, hung } = leaveOutNoticed(instrumentAll(sources, sandbox), before);
const paths = sourcesUnder(testPaths, true).map(compiledOf);
const [slowest, patience] = [Number(options.slowest), Number(options.patience)];
const jobs = Number(options.jobs);
if (!(Number.isInteger(jobs) && jobs >= 1)) fail('--jobs is a number of processes, such as 4');
if (![undefined, 'leave-out'].includes(options.failing))
  fail('--failing is leave-out, or not given');
const { tests, leftOut } = await measureTests(paths, sandbox, {
  slowest,
  patience,
  jobs,
  leavesOutFailing: options.failing === 'leave-out',
  say,
}).catch((error) => fail(error.message));

const withoutId = ({ id, ...mutant }) => mutant;

/** What is known of all mutants by now. */
function resultSoFar() {
  const judged = mutants.filter((mutant) => isAlive(mutant) && mutant.status !== OPEN);
  for (const mutant of judged) mutant.reason = reasons.get(keyOf(mutant));
  const alive = mutants.filter(isAlive).map(withoutId);
  const countsOf = (file) =>
    count(
      mutants.filter((mutant) => mutant.file === file),
      noticed[file],
    );
  const files = Object.fromEntries(sources.map((file) => [file, countsOf(file)]));
  return {
    command: ['npm run mutate --', ...process.argv.slice(2)].join(' '),
    again: before.flatMap(({ again = [], command }) => [...again, command]),
    commit,
    modified,
    node: process.version,
    files,
    total: sum(Object.values(files)),
    survivors: alive.filter(({ reason }) => reason === undefined),
    accepted: alive.filter(({ reason }) => reason !== undefined),
    hung: [...hung, ...mutants.filter(({ status }) => status === 'timeout').map(withoutId)],
    stale: mutants.some(({ status }) => status === OPEN)
      ? []
      : staleAmong(accepted, sources, mutants),
    leftOut,
  };
}

function write(result) {
  if (options.json === undefined) return;
  writeFileSync(options.json, `${JSON.stringify(result, null, 2)}\n`);
}

/** Judged, and not confirmed yet. */
const unconfirmed = new Set();
stop = () => {
  for (const mutant of unconfirmed) mutant.status = OPEN;
  write(resultSoFar());
  process.exit(2);
};
const start = performance.now();
const isTimeUp = () => performance.now() - start > 1000 * Number(options.for);
let begun = 0;
let done = 0;

/** Judges mutants until none is left: neighbours together, since the same tests notice them. */
async function judgeAll() {
  const { judge, confirm, end } = makeJudge(tests, sandbox, patience);
  while (begun < mutants.length && !isTimeUp()) {
    const some = mutants.slice(begun, begun + 10);
    begun += some.length;
    for (const mutant of some) {
      if (isTimeUp() || mutant.status !== OPEN) continue;
      await judge(mutant);
      unconfirmed.add(mutant);
      if (isAlive(mutant)) say(lineOf(mutant));
    }
    await confirm();
    for (const mutant of some) unconfirmed.delete(mutant);
    done += some.length;
    write(resultSoFar());
    const alive = mutants.filter((mutant) => isAlive(mutant) && mutant.status !== OPEN).length;
    const seconds = Math.round((performance.now() - start) / 1000);
    say(`${done} of ${mutants.length} mutants in ${seconds} s, ${alive} alive`);
  }
  await end();
}

await Promise.all(Array.from({ length: jobs }, judgeAll));
const result = resultSoFar();
write(result);
print(result);
process.exit(result.survivors.length === 0 ? 0 : 1);
