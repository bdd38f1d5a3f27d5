// Which tests reach which mutants, and what becomes of a mutant under these tests.

import { fork } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const worker = fileURLToPath(new URL('worker.mjs', import.meta.url));

/** No mutant. */
const NONE = -1;

/** Of a mutant that no test was run with. */
export const OPEN = 'open';

/**
 * A process that runs tests. `run` runs steps, `{ path, places, seconds, file }`, with a mutant on,
 * until a test fails: of a file of tests those at these places, or all. It says how that ended:
 * `passed`, `failed` with the test and the error, `timeout` with the test that hung, or `died`.
 * After the last two the process is gone. A test hangs when it takes `patience` seconds besides
 * twice what it takes without mutants, `slowness` times as long on a machine that is busy; and, for
 * sure, when no thread has run nor waited for a processor for a while.
 */
function startProcess(sandbox, patience, env = {}) {
  const child = fork(worker, [pathToFileURL(sandbox.switch).href], {
    cwd: sandbox.root,
    env: { ...process.env, VITEST: 'true', TMPDIR: sandbox.temporary, ...env },
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  const run = (steps, mutant, slowness = 1) =>
    new Promise((settle) => {
      let done = 0;
      let timer;
      let looks;
      const seconds = [];
      const end = (outcome) => {
        clearTimeout(timer);
        clearInterval(looks);
        child.removeAllListeners('message').removeAllListeners('exit');
        settle({ step: steps[done], seconds, ...outcome });
      };
      const wait = (place) => {
        clearTimeout(timer);
        clearInterval(looks);
        const late = (isIdle) => {
          child.kill('SIGKILL');
          end({ status: 'timeout', place, isIdle });
        };
        const most = secondsOf(steps[done], place);
        timer = setTimeout(late, 1000 * slowness * (patience + 2 * most), false);
        const idle = Math.max(IDLE_SECONDS, 2 * most);
        let busyMs = busyMsOf(child.pid);
        let since = performance.now();
        looks = setInterval(() => {
          const nowMs = busyMsOf(child.pid);
          if (nowMs === undefined || nowMs > busyMs + 1) since = performance.now();
          busyMs = nowMs;
          if (performance.now() - since > 1000 * idle) late(true);
        }, 500);
      };
      child.on('message', (message) => {
        if (message.begun !== undefined) return wait(message.begun);
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

/** Nothing was done in so many seconds, and nothing waited to be done. */
const IDLE_SECONDS = 3;

/**
 * For how long the threads of a process have run, or waited for a processor, in all, in
 * milliseconds; undefined: this system does not say.
 */
function busyMsOf(pid) {
  try {
    const tasks = readdirSync(`/proc/${pid}/task`);
    const all = tasks.flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ').slice(0, 2),
    );
    return all.reduce((sum, ns) => sum + Number(ns), 0) / 1e6;
  } catch {
    return undefined;
  }
}

/** What a test of a step takes, with what is done before it; of no test: the step. */
function secondsOf({ seconds, file }, place) {
  if (file === undefined || place === undefined) return seconds;
  return Math.min(seconds, file.besides + file.each[place]);
}

async function runApart(steps, mutant, sandbox, patience, { env, slowness } = {}) {
  const own = startProcess(sandbox, patience, env);
  const outcome = await own.run(steps, mutant, slowness);
  own.end();
  return outcome;
}

/**
 * What hung with a mutant, once more and with more time, from what it takes now without one: a
 * machine that has become busy is no mutant. `open` where that cannot be told, since it does not
 * pass without the mutant either.
 */
async function runPatiently({ step, place, isIdle }, mutant, sandbox, patience) {
  if (isIdle) return { status: 'timeout', step };
  const { file } = step;
  const again = file.isWhole || place === undefined ? step : partStep(file, [place]);
  const start = performance.now();
  const without = await runApart([again], NONE, sandbox, patience, { slowness: 10 });
  if (without.status !== 'passed') return { status: OPEN };
  const slowness = 2 * Math.max(1, (performance.now() - start) / 1000 / again.seconds);
  return await runApart([again], mutant, sandbox, patience, { slowness });
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
 * Runs every file of tests without a mutant, so many `jobs` at once: how long each of its tests
 * takes, and which mutants it reaches; and which of these early, while modules are loaded. Throws
 * where one fails, or leaves it out.
 */
export async function measureTests(paths, sandbox, options) {
  const { slowest, patience, jobs, leavesOutFailing, say } = options;
  const tests = [];
  const leftOut = [];
  const left = [...paths.entries()];

  async function measure([index, path]) {
    const reached = join(sandbox.folder, `reached-${index}`);
    const start = performance.now();
    const env = { BRIDGEKEEPER_REACHED: reached };
    const step = { path, seconds: slowest };
    const outcome = await runApart([step], NONE, sandbox, patience, { env });
    const seconds = (performance.now() - start) / 1000;
    const isFailing = outcome.status === 'failed' || outcome.status === 'died';
    const message = `${path} fails without a mutant: ${outcome.test}\n${outcome.message ?? ''}`;
    if (isFailing && !leavesOutFailing) throw new Error(message);
    if (isFailing) say(message);
    const each = outcome.seconds[0] ?? [];
    const { reach, early } = readReached(reached, each.length);
    if (isFailing || outcome.status === 'timeout' || seconds > slowest) {
      if (reach.size > 0) leftOut.push(path);
    } else if (reach.size > 0) {
      const whole = seconds - each.reduce((sum, one) => sum + one, 0);
      tests.push({ path, seconds, each, besides: whole, reach, early, isWhole: false });
    }
    say(`${path}: ${seconds.toFixed(1)} s, reaches ${reach.size}`);
  }

  async function measureAll() {
    for (let next = left.shift(); next !== undefined; next = left.shift()) await measure(next);
  }

  await Promise.all(Array.from({ length: jobs }, measureAll));
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
    if (outcome.status === OPEN) return { status: OPEN };
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
    let left = wholeFilesFor(mutant);
    let outcome = await runApart(left, mutant.id, sandbox, patience);
    while (outcome.status === 'timeout') {
      left = left.slice(left.indexOf(outcome.step) + 1);
      outcome = await runPatiently({ ...outcome, place: undefined }, mutant.id, sandbox, patience);
      if (outcome.status !== 'passed' || left.length === 0) break;
      outcome = await runApart(left, mutant.id, sandbox, patience);
    }
    Object.assign(mutant, verdict(mutant, outcome));
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
    const isNoticed = outcome.status === 'failed' || outcome.status === 'died';
    if (isNoticed && (await isSound(outcome.step))) Object.assign(mutant, verdict(mutant, outcome));
    else if (outcome.status !== 'timeout' || !(await isLateAgain(mutant, outcome))) {
      await judgeByWholeFiles(mutant);
    }
  }

  /** Whether what hung does not pass when it is given more time either. */
  async function isLateAgain(mutant, late) {
    const outcome = await runPatiently(late, mutant.id, sandbox, patience);
    if (outcome.status === 'passed' || outcome.status === OPEN) return false;
    Object.assign(mutant, verdict(mutant, outcome));
    return true;
  }

  /** Judges in the shared process; whether there is a verdict. */
  async function judgeShared(mutant) {
    shared ??= startProcess(sandbox, patience);
    const outcome = await shared.run(stepsFor(mutant), mutant.id);
    if (outcome.status === 'passed') return false;
    if (outcome.status !== 'failed') {
      shared = undefined;
      await confirm();
      return outcome.status === 'timeout' && (await isLateAgain(mutant, outcome));
    }
    Object.assign(mutant, verdict(mutant, outcome));
    unconfirmed.push({ mutant, step: outcome.step });
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
