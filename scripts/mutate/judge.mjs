// Which tests reach which mutants, and what becomes of a mutant under these tests.

import { fork } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const worker = fileURLToPath(new URL('worker.mjs', import.meta.url));

/** No mutant. */
const NONE = -1;

/** Of a mutant that no test was run with. */
export const OPEN = 'open';

/**
 * A process that runs tests. `run` runs steps, `{ path, places, seconds }`, with a mutant on, until
 * a test fails: of a file of tests those at these places, or all. It says how that ended:
 * `passed`, `failed` with the test and the error, `timeout`, or `died`. After the last two the
 * process is gone. `patience` is how many seconds a step may hang besides 4 times what it takes.
 */
function startProcess(sandbox, patience, env = {}) {
  const child = fork(worker, [pathToFileURL(sandbox.switch).href], {
    cwd: sandbox.root,
    env: { ...process.env, VITEST: 'true', TMPDIR: sandbox.temporary, ...env },
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  const run = (steps, mutant) =>
    new Promise((settle) => {
      let done = 0;
      let timer;
      const seconds = [];
      const end = (outcome) => {
        clearTimeout(timer);
        child.removeAllListeners('message').removeAllListeners('exit');
        settle({ step: steps[done], seconds, ...outcome });
      };
      const wait = () => {
        clearTimeout(timer);
        timer = setTimeout(
          () => {
            child.kill('SIGKILL');
            end({ status: 'timeout' });
          },
          1000 * (patience + 4 * steps[done].seconds),
        );
      };
      child.on('message', (message) => {
        seconds.push(message.seconds);
        if (message.failed !== undefined) return end({ status: 'failed', ...message.failed });
        done += 1;
        if (done === steps.length) return end({ status: 'passed' });
        wait();
      });
      child.on('exit', () => end({ status: 'died', test: 'the process ended' }));
      wait();
      const files = steps.map(({ path, places }) => ({ path: join(sandbox.root, path), places }));
      child.send({ mutant, files });
    });
  return { run, end: () => child.kill('SIGKILL') };
}

async function runApart(steps, mutant, sandbox, patience, env) {
  const own = startProcess(sandbox, patience, env);
  const outcome = await own.run(steps, mutant);
  own.end();
  return outcome;
}

/** By mutant, the places of the tests that reach it; and which are reached while modules load. */
function readReached(path, count) {
  const reach = new Map();
  const early = new Set();
  if (!existsSync(path)) return { reach, early };
  const all = Array.from({ length: count }, (_, place) => place);
  let who = 'loading';
  let first = 0;
  for (const line of readFileSync(path, 'utf8').trim().split('\n')) {
    const [word, number] = line.split(' ');
    if (word === 'loading' || word === 'hooks' || word === 'test') {
      who = word;
      if (word === 'test') first = Number(number);
      continue;
    }
    // A thread that was started for one test may serve those behind it, and notes it once.
    const isElsewhere = word === 'elsewhere';
    const id = Number(isElsewhere ? number : word);
    if (who === 'loading') early.add(id);
    const places = reach.get(id) ?? new Set();
    const own = isElsewhere ? all.slice(first) : who === 'test' ? [first] : all;
    for (const place of own) places.add(place);
    reach.set(id, places);
  }
  return { reach, early };
}

/**
 * Runs every file of tests without a mutant: how long each of its tests takes, and which mutants it
 * reaches; and which of these early, while modules are loaded. Throws where one fails.
 */
export async function measureTests(paths, sandbox, slowest, patience, say) {
  const tests = [];
  const leftOut = [];
  for (const [index, path] of paths.entries()) {
    const reached = join(sandbox.folder, `reached-${index}`);
    const start = performance.now();
    const env = { BRIDGEKEEPER_REACHED: reached };
    const outcome = await runApart([{ path, seconds: slowest }], NONE, sandbox, patience, env);
    const seconds = (performance.now() - start) / 1000;
    if (outcome.status === 'failed' || outcome.status === 'died') {
      throw new Error(`${path} fails without a mutant: ${outcome.test}\n${outcome.message ?? ''}`);
    }
    const each = outcome.seconds[0] ?? [];
    const { reach, early } = readReached(reached, each.length);
    if (outcome.status === 'timeout' || seconds > slowest) {
      if (reach.size > 0) leftOut.push(path);
    } else if (reach.size > 0) {
      const whole = seconds - each.reduce((sum, one) => sum + one, 0);
      tests.push({ path, seconds, each, besides: whole, reach, early, isWhole: false });
    }
    say(`${path}: ${seconds.toFixed(1)} s, reaches ${reach.size}`);
  }
  return { tests: tests.sort((a, b) => a.seconds - b.seconds), leftOut };
}

const wholeStep = (file) => ({ path: file.path, seconds: file.seconds, file });

/** Tests of a file by their places, in order; all of them where they need one another. */
function partStep(file, places) {
  if (file.isWhole || places.length === file.each.length) return wholeStep(file);
  const own = places.reduce((sum, place) => sum + file.each[place], 0);
  return { path: file.path, places, seconds: file.besides + own, file };
}

const keyOfStep = ({ path, places }) => JSON.stringify([path, places ?? null]);

/** So many mutants are noticed in a process before it is asked whether it is sound. */
const UNCONFIRMED = 20;

/** So many of the tests that noticed mutants of a source last are tried first. */
const FIRST = 3;

/**
 * Judges mutants one after the other, by the tests that reach them, and most of them in one
 * process, since starting one takes longer than most tests. What a mutant leaves behind there could
 * decide about the next, and a test may need those before it. So a process of its own judges what
 * acts while modules are loaded; what no test noticed it judges again, by all tests of the files;
 * and what was noticed is confirmed by the same tests, which pass in that process without a mutant,
 * or else it is judged again in a process of its own, by whole files.
 */
export function makeJudge(tests, sandbox, patience) {
  let shared;
  let unconfirmed = [];
  /** By source, the latest first: what noticed its last mutants often notices the next. */
  const latest = new Map();
  /** Steps that passed, without a mutant, in a fresh process. */
  const sound = new Set();

  /** What is run with a mutant: first what noticed its neighbours, then what reaches it. */
  function stepsFor({ id, file: source }) {
    const reaching = tests.filter(({ reach }) => reach.has(id));
    const first = (latest.get(source) ?? []).filter(
      ({ file, place }) => !file.isWhole && file.reach.get(id)?.has(place),
    );
    return [
      ...first.map(({ file, place }) => partStep(file, [place])),
      ...reaching.map((file) =>
        partStep(
          file,
          [...file.reach.get(id)].sort((a, b) => a - b),
        ),
      ),
    ];
  }

  function remember(source, { step, place }) {
    if (place === undefined) return;
    const others = (latest.get(source) ?? []).filter(
      (one) => one.file !== step.file || one.place !== place,
    );
    latest.set(source, [{ file: step.file, place }, ...others].slice(0, FIRST));
  }

  function verdict({ file }, outcome) {
    const by = outcome.step?.path;
    if (outcome.status === 'passed') return { status: 'survived' };
    if (outcome.status === 'timeout') return { status: 'timeout', by };
    remember(file, outcome);
    return { status: 'killed', by, test: outcome.test };
  }

  const wholeFilesFor = ({ id, file }) => {
    const killers = (latest.get(file) ?? []).map((one) => one.file);
    const files = tests.filter(({ reach }) => reach.has(id));
    const isKiller = (one) => killers.includes(one);
    const others = files.filter((one) => !isKiller(one));
    return [...files.filter(isKiller), ...others].map(wholeStep);
  };

  async function judgeByWholeFiles(mutant) {
    const steps = wholeFilesFor(mutant);
    Object.assign(mutant, verdict(mutant, await runApart(steps, mutant.id, sandbox, patience)));
  }

  /** Whether a step passes by itself; where it does not, its file is run as a whole from now on. */
  async function isSound(step) {
    const key = keyOfStep(step);
    if (step.places === undefined || sound.has(key)) return true;
    const { status } = await runApart([step], NONE, sandbox, patience);
    if (status === 'passed') sound.add(key);
    else step.file.isWhole = true;
    return status === 'passed';
  }

  async function judgeApart(mutant) {
    const outcome = await runApart(stepsFor(mutant), mutant.id, sandbox, patience);
    const isNoticed = outcome.status !== 'passed';
    if (isNoticed && (await isSound(outcome.step))) Object.assign(mutant, verdict(mutant, outcome));
    else await judgeByWholeFiles(mutant);
  }

  /** Judges in the shared process; whether there is a verdict. */
  async function judgeShared(mutant) {
    shared ??= startProcess(sandbox, patience);
    const outcome = await shared.run(stepsFor(mutant), mutant.id);
    if (outcome.status === 'passed') return false;
    if (outcome.status !== 'failed') {
      shared = undefined;
      await confirm();
      if (outcome.status === 'died' || !(await isSound(outcome.step))) return false;
    }
    Object.assign(mutant, verdict(mutant, outcome));
    if (outcome.status === 'failed') unconfirmed.push({ mutant, step: outcome.step });
    if (unconfirmed.length >= UNCONFIRMED) await confirm();
    return true;
  }

  async function confirm() {
    const doubted = unconfirmed;
    unconfirmed = [];
    if (doubted.length === 0) return;
    const steps = [...new Map(doubted.map(({ step }) => [keyOfStep(step), step])).values()];
    if ((await shared?.run(steps, NONE))?.status === 'passed') return;
    shared?.end();
    shared = undefined;
    for (const step of steps) await isSound(step);
    for (const { mutant } of doubted) await judgeApart(mutant);
  }

  return {
    confirm,
    async judge(mutant) {
      const reaching = tests.filter(({ reach }) => reach.has(mutant.id));
      if (reaching.length === 0) {
        mutant.status = 'uncovered';
        return;
      }
      const isEarly = reaching.some(({ early }) => early.has(mutant.id));
      if (isEarly) await judgeApart(mutant);
      else if (!(await judgeShared(mutant))) await judgeByWholeFiles(mutant);
    },
    async end() {
      await confirm();
      shared?.end();
    },
  };
}
