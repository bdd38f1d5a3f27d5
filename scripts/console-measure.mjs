// What the console costs: first paint, bytes, eight lanes of a thousand slices a second by tracing,
// an hour's recording from a file, and what an open page takes of the engine's thread. Prints one
// JSON document. Needs a build, and Chromium.
//
//   node scripts/console-measure.mjs [paint|lanes|hour|engine ...]

import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { ACCOUNTS } from '../packages/bridge/dist/index.js';
import { consoleListener } from '../packages/console/dist/index.js';
import { startConfiguredEngine } from '../packages/server/dist/engine/start-configured-engine.js';
import { HOST_CLOCK } from '../packages/server/dist/host-clock.js';
import { CROSSING_FIELDS } from '../packages/server/dist/live/batch.js';
import { momentOf } from '../packages/server/dist/live/feed.js';
import { LiveRecorder } from '../packages/server/dist/live/recorder.js';
import { openLog } from '../packages/server/dist/logging/logger.js';
import { settingsWith } from '../packages/server/dist/settings/configuration.js';
import { startServer } from '../packages/server/dist/start.js';
import { startBundledModel } from '../packages/server/dist/testing/bundled-model.js';

const executablePath = process.env.CHROMIUM_PATH ?? '/usr/bin/chromium';
const wanted = process.argv.slice(2);
const nowMs = () => HOST_CLOCK.nowNs() / 1e6;
const sleep = (ms) => HOST_CLOCK.sleepUntilNs(HOST_CLOCK.nowNs() + ms * 1e6);
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const viewport = { width: 1280, height: 900 };
const TRACED_SECONDS = 10;
const SLOW_FRAME_US = 25_000;
const PAIRS = 30;
const VISITS = 10;
const OPENINGS = 5;

const MEASURES = { paint, lanes, hour, engine };
const results = {};
for (const [name, measure] of Object.entries(MEASURES)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const before = loadavg()[0];
  results[name] = { ...(await measure()), loadAverage: [before, loadavg()[0]] };
  process.stderr.write(`${name}: ${JSON.stringify(results[name])}\n`);
}
const browserVersion = browser.version();
await browser.close();
process.stdout.write(
  `${JSON.stringify(
    {
      suite: 'console',
      command: `node scripts/console-measure.mjs ${wanted.join(' ')}`.trim(),
      machine: { cpu: cpus()[0].model, cpus: cpus().length, node: process.version },
      browser: `Chromium ${browserVersion}, headless`,
      ...results,
    },
    null,
    1,
  )}\n`,
);
process.exit(0);

/** Ten first visits, each without a cache, to a server that serves. */
async function paint() {
  const server = await startBundledModel({ law: 'emulate:b300-cc' });
  const paints = [];
  const processorMs = [];
  let bytes = 0;
  for (let visit = 0; visit < VISITS; visit++) {
    const context = await browser.newContext({ viewport });
    const page = await context.newPage();
    const session = await context.newCDPSession(page);
    await session.send('Network.enable');
    let received = 0;
    const isStream = new Set();
    session.on('Network.responseReceived', ({ requestId, response }) => {
      if (response.url.includes('/v1/')) isStream.add(requestId);
    });
    session.on('Network.dataReceived', ({ requestId, encodedDataLength }) => {
      if (!isStream.has(requestId)) received += encodedDataLength;
    });
    const file = join(tmpdir(), `bk-console-trace-${process.pid}.json`);
    await browser.startTracing(page, {
      path: file,
      categories: ['toplevel', 'loading', 'rail', 'blink.user_timing'],
    });
    await page.goto(`${server.url}/console`);
    await page.waitForSelector('h1');
    paints.push(
      await page.evaluate(
        `new Promise((done) => new PerformanceObserver((list) => {
          const found = list.getEntriesByName('first-contentful-paint')[0];
          if (found) done(found.startTime);
        }).observe({ type: 'paint', buffered: true }))`,
      ),
    );
    await browser.stopTracing();
    const { traceEvents } = JSON.parse(readFileSync(file, 'utf8'));
    rmSync(file);
    processorMs.push(processorUntilPaint(traceEvents));
    bytes = Math.max(bytes, received);
    await context.close();
  }
  await server.stop(0);
  return {
    firstContentfulPaintMs: paints,
    medianMs: median(paints),
    tabProcessorMsUntilPaint: processorMs,
    medianProcessorMs: median(processorMs),
    encodedBytes: bytes,
  };
}

/** What the tab's main thread took until the paint, waiting for its turn left out. */
function processorUntilPaint(events) {
  const paint = events.find(({ name }) => name === 'firstContentfulPaint');
  const start = events.find(
    ({ name, pid, args }) =>
      name === 'navigationStart' &&
      pid === paint?.pid &&
      args.data?.documentLoaderURL !== 'about:blank',
  );
  if (paint === undefined || start === undefined) return Number.NaN;
  const us = events
    .filter(
      ({ ph, name, pid, tid }) =>
        ph === 'X' && /RunTask$/.test(name) && pid === paint.pid && tid === paint.tid,
    )
    .filter(({ ts }) => ts >= start.ts && ts <= paint.ts)
    .reduce((sum, { tdur, dur }) => sum + (tdur ?? dur ?? 0), 0);
  return us / 1000;
}

/** Tells of eight lanes with a thousand slices a second each, as the real feed does. */
async function crowded() {
  const lanes = Array.from({ length: 8 }, (_, lane) => `lane-${lane}`);
  const open = new Set();
  let seq = 0;
  const batch = (nowNs) => {
    const rows = [];
    for (let lane = 0; lane < 8; lane++) {
      for (let at = 0; at < 100; at++) {
        const startedNs = nowNs - 1e8 + at * 1e6;
        const account = (lane + at) % ACCOUNTS.length;
        rows.push(lane, account, startedNs, startedNs, startedNs + 6e5, 4096, 1e5, 2e5);
      }
    }
    const launches = [];
    for (let at = 0; at < 10; at++)
      launches.push(nowNs - 1e8 + at * 1e7, nowNs - 9e7 + at * 1e7, 4, 8, 0);
    return {
      nowNs,
      lanes,
      crossings: Float64Array.from(rows),
      launches: Float64Array.from(launches),
      dropped: 0,
    };
  };
  const moments = [];
  const tell = () => {
    seq += 1;
    const nowNs = HOST_CLOCK.nowNs();
    const moment = momentOf(batch(nowNs), seq, nowNs);
    moments.push(moment);
    if (moments.length > 100) moments.shift();
    for (const response of open)
      response.write(`event: moment\ndata: ${JSON.stringify(moment)}\n\n`);
  };
  const accounts = ACCOUNTS.map(({ purpose, direction }) => ({ purpose, direction }));
  const stop = HOST_CLOCK.every(0.1, tell);
  const listener = consoleListener('serve', (request, response) => {
    if (request.url !== '/v1/bridge/events') return response.writeHead(404).end('{}');
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write(
      `event: snapshot\ndata: ${JSON.stringify({ device: 'x', accounts, moments })}\n\n`,
    );
    open.add(response);
    response.on('close', () => open.delete(response));
    return response;
  });
  const server = createServer(listener).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/console`,
    close: () => {
      stop();
      server.closeAllConnections();
      server.close();
    },
  };
}

/**
 * The tab's threads by a trace: processor time of their tasks, and the frames that were drawn. The
 * lanes move in the browser's own thread, so frames are those of the compositor: a script that
 * asked for them would make the page draw what it otherwise does not.
 */
async function lanes() {
  const server = await crowded();
  const runs = [];
  for (const spanUs of [2e6, 10e6]) {
    const context = await browser.newContext({ viewport });
    const page = await context.newPage();
    await page.goto(`${server.url}#/bridge?span=${spanUs}`);
    await page.waitForSelector('.freshness.live');
    // The window is full, and what runs often was compiled.
    await sleep(11_000);
    runs.push({ windowSeconds: spanUs / 1e6, ...(await traced(page)) });
    await context.close();
  }
  server.close();
  return { lanes: 8, slicesASecond: 8000, momentsASecond: 10, runs };
}

async function traced(page) {
  const file = join(tmpdir(), `bk-console-trace-${process.pid}.json`);
  await browser.startTracing(page, {
    path: file,
    categories: [
      'toplevel',
      'disabled-by-default-devtools.timeline.frame',
      'devtools.timeline.frame',
    ],
  });
  await sleep(TRACED_SECONDS * 1000);
  await browser.stopTracing();
  const { traceEvents } = JSON.parse(readFileSync(file, 'utf8'));
  rmSync(file);
  return judged(traceEvents);
}

function judged(events) {
  const names = new Map();
  for (const { ph, name, pid, tid, args } of events) {
    if (ph === 'M' && name === 'thread_name') names.set(`${pid} ${tid}`, args.name);
  }
  const tasks = events.filter(
    ({ ph, name }) => ph === 'X' && name === 'ThreadControllerImpl::RunTask',
  );
  const cpuUs = new Map();
  for (const { pid, tid, tdur, dur } of tasks) {
    const key = `${pid} ${tid}`;
    cpuUs.set(key, (cpuUs.get(key) ?? 0) + (tdur ?? dur ?? 0));
  }
  // The tab is the process whose main thread did the most.
  const mains = [...cpuUs].filter(([key]) => names.get(key) === 'CrRendererMain');
  const [main] = mains.toSorted((a, b) => b[1] - a[1]);
  const pid = main[0].split(' ')[0];
  const times = tasks.map(({ ts }) => ts);
  const seconds = (Math.max(...times) - Math.min(...times)) / 1e6;
  const threads = {};
  for (const [key, us] of cpuUs) {
    if (!key.startsWith(`${pid} `)) continue;
    const name = names.get(key) ?? key;
    threads[name] = (threads[name] ?? 0) + us / 1e6 / seconds;
  }
  const frames = events
    .filter(({ name, pid: of }) => name === 'DrawFrame' && String(of) === pid)
    .map(({ ts }) => ts)
    .sort((a, b) => a - b);
  const gaps = frames.slice(1).map((at, index) => at - frames[index]);
  return {
    seconds,
    tabProcessorShare: Object.values(threads).reduce((a, b) => a + b, 0),
    threads,
    framesASecond: frames.length / seconds,
    framesOver25Ms: gaps.filter((gap) => gap > SLOW_FRAME_US).length,
  };
}

/** An hour: ten moments a second, with what the bundled model makes of 100 tokens a second. */
async function hour() {
  const crossings = (seq) =>
    Array.from({ length: 12 }, (_, at) => [
      at % 2,
      8 + (at % 2),
      95_000 - at * 8_000,
      350 + (seq % 7),
      330,
      20,
      64,
      1,
    ]);
  const launches = Array.from({ length: 10 }, (_, at) => [99_000 - at * 10_000, 9_500, 1, 4, 0]);
  const moments = Array.from({ length: 36_000 }, (_, at) => ({
    seq: at + 1,
    now_us: (at + 1) * 100_000,
    server_us: (at + 1) * 100_000,
    lanes: ['inline', 'drain'],
    crossings: crossings(at),
    launches,
    dropped: 0,
  }));
  const accounts = ACCOUNTS.map(({ purpose, direction }) => ({ purpose, direction }));
  const folder = mkdtempSync(join(tmpdir(), 'bk-console-'));
  const path = join(folder, 'hour.json');
  writeFileSync(path, JSON.stringify({ device: 'cpu', accounts, moments }));
  const server = await crowded();
  const times = [];
  const processorMs = [];
  for (let run = 0; run < OPENINGS; run++) {
    const page = await (await browser.newContext({ viewport })).newPage();
    const session = await page.context().newCDPSession(page);
    await session.send('Performance.enable');
    const tabSeconds = async () => {
      const { metrics } = await session.send('Performance.getMetrics');
      return metrics.find(({ name }) => name === 'ProcessTime').value;
    };
    await page.goto(server.url);
    await page.waitForSelector('.freshness.live');
    // From the choice of the file to the frame after the page shows it, in the page's own time.
    await page.evaluate(`document.querySelector('input.open').addEventListener('change', () => {
      const from = performance.now();
      const look = () => {
        const isThere = document.querySelector('.freshness[data-state=file]') !== null;
        if (isThere) requestAnimationFrame(() => { globalThis.took = performance.now() - from; });
        else setTimeout(look, 5);
      };
      look();
    }, { capture: true })`);
    const beforeSeconds = await tabSeconds();
    await page.setInputFiles('input.open', path);
    let took = null;
    while (took === null) {
      await sleep(200);
      took = await page.evaluate('globalThis.took ?? null');
    }
    times.push(took);
    processorMs.push(((await tabSeconds()) - beforeSeconds) * 1e3);
    await page.context().close();
  }
  const { size } = statSync(path);
  server.close();
  rmSync(folder, { recursive: true });
  return {
    moments: moments.length,
    crossings: 12 * 36_000,
    launches: 360_000,
    fileBytes: size,
    openMs: times,
    medianMs: median(times),
    tabProcessorMs: processorMs,
    medianProcessorMs: median(processorMs),
  };
}

/** Processor time so far of each thread of this process, in ns. */
function threadsNs() {
  const times = new Map();
  for (const thread of readdirSync('/proc/self/task')) {
    try {
      times.set(
        thread,
        Number(readFileSync(`/proc/self/task/${thread}/schedstat`, 'utf8').split(' ')[0]),
      );
    } catch {
      // It ended meanwhile.
    }
  }
  return times;
}

/** The bundled model behind its server, and what tells of its engine when it is watched. */
async function watchableModel() {
  let source;
  const settings = { port: 0, device: 'cpu', receipts: 'off', law: 'emulate:b300-cc' };
  const server = await startServer(settingsWith(settings), {
    startEngine: async (...given) => {
      const started = await startConfiguredEngine(...given);
      source = started.live;
      return started;
    },
    log: openLog({ level: 'fatal', pretty: false, destination: 2, colour: false }),
    clock: HOST_CLOCK,
    version: { version: '0.0.0', node: process.versions.node, commit: null, digest: null },
  });
  return { server, source };
}

/**
 * The engine's thread: processor time for each token while it is watched, as it is by any number of
 * open pages, and while it is not, in turns of about two seconds. Time on the wall would tell of
 * what else the machine does; turns are short, so that what slows one slows its neighbour.
 */
async function engine() {
  const { server, source } = await watchableModel();
  const ask = () =>
    fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({
        model: server.modelName,
        prompt: 'Once',
        max_tokens: 200,
        ignore_eos: true,
        seed: 1,
      }),
    }).then((response) => response.json());
  await Promise.all([1, 2, 3, 4].map(ask));
  const once = async (isWatched) => {
    let [moments, crossings] = [0, 0];
    const unwatch = isWatched
      ? source.watch((batch) => {
          moments += 1;
          crossings += batch.crossings.length / CROSSING_FIELDS;
        })
      : () => undefined;
    const before = threadsNs();
    const startMs = nowMs();
    const answers = await Promise.all([1, 2, 3, 4].map(ask));
    const seconds = (nowMs() - startMs) / 1e3;
    const deltas = [...threadsNs()].map(([thread, ns]) => [thread, ns - (before.get(thread) ?? 0)]);
    unwatch();
    const tokens = answers.reduce((sum, { usage }) => sum + usage.completion_tokens, 0);
    const [, busiest] = deltas.toSorted((a, b) => b[1] - a[1])[0];
    const nsAToken = busiest / tokens;
    return { nsAToken, tokensASecond: tokens / seconds, tokens, moments, crossings };
  };
  const pairs = [];
  for (let pair = 0; pair < PAIRS; pair++) {
    const order = pair % 2 === 0 ? [false, true] : [true, false];
    const measured = {};
    for (const isWatched of order) {
      measured[isWatched ? 'watched' : 'alone'] = await once(isWatched);
    }
    pairs.push(measured);
  }
  await server.stop(0);
  const ratios = pairs.map(({ watched, alone }) => watched.nsAToken / alone.nsAToken);
  const parts = await recorderParts();
  const nsAToken = median(pairs.map(({ alone }) => alone.nsAToken));
  const addedNsAToken = median(
    pairs.map(({ watched: { moments, crossings, tokens } }) => {
      return (moments * parts.nsAMoment + crossings * parts.nsACrossing) / tokens;
    }),
  );
  const added = { nsAToken, addedNsAToken, share: addedNsAToken / nsAToken };
  return { pairs, processorRatios: ratios, ...middleOf(ratios), parts: { ...parts, ...added } };
}

/** The median, and between which values it lies with 95 % by the signs of the others. */
function middleOf(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const half = Math.floor((sorted.length - 1.96 * Math.sqrt(sorted.length)) / 2);
  const low = Math.max(0, half);
  return {
    medianRatio: median(values),
    interval95: [sorted[low], sorted[sorted.length - 1 - low]],
  };
}

/** What watching adds, part by part: to write a crossing down, and to send what came. */
async function recorderParts() {
  const recorder = new LiveRecorder(null);
  recorder.isWatched = true;
  const record = {
    lane: 'drain',
    purpose: 'tokens',
    direction: 'd2h',
    memory: 'pinned',
    issuedNs: 1,
    startedNs: 2,
    completedNs: 9,
    bytes: 64,
    issuerBlockedNs: 0,
  };
  const processorNs = () => {
    const { user, system } = process.cpuUsage();
    return (user + system) * 1e3;
  };
  const rounds = 400;
  const write = () => {
    for (let at = 0; at < 8_000; at++) recorder.crossing(record);
    recorder.take(1);
  };
  for (let round = 0; round < 50; round++) write();
  let before = processorNs();
  for (let round = 0; round < rounds; round++) write();
  const nsACrossing = (processorNs() - before) / rounds / 8_000;
  // A moment as the bundled model makes them, copied as it is for the other thread. Stats go with
  // events, which are sent whether anybody watches or not.
  const { port1, port2 } = new MessageChannel();
  const send = () => {
    for (let at = 0; at < 100; at++) recorder.crossing(record);
    port1.postMessage({ kind: 'live', batch: recorder.take(1), stats: undefined });
  };
  for (let round = 0; round < 200; round++) send();
  before = processorNs();
  for (let round = 0; round < 2_000; round++) send();
  const nsAMoment = (processorNs() - before) / 2_000;
  port1.close();
  port2.close();
  return { nsACrossing, nsAMoment };
}
