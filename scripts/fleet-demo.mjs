// A whole fleet on this machine: a control plane (two controls, where PostgreSQL is installed),
// agents on three hosts whose GPUs are pretended (one of them with the agent of a fabric, over a
// stub of Fabric Manager's library, where there is a compiler), a gateway, and real replicas of
// the bundled model on the CPU. The openai client streams through the gateway while a host drains,
// the control that leads is killed and the one after it paused for longer than its lease,
// PostgreSQL is stopped at once and started, and an agent and the gateway itself are killed, while
// others write and read the row of a host that serves nothing. Says for each stream how it ended,
// and fails if one was lost without a word, if one was lost at all before the gateway was killed,
// or if the history of what was written does not hold.
//
//   node scripts/fleet-demo.mjs [--streams <n>] [--tokens <n>] [--sqlite] [--json]

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import OpenAI from 'openai';
import { FabricTestHost } from '../packages/bridgekeeper/dist/testing/fabric-host.js';
import { faultsOf } from '../packages/control/dist/testing/history.js';
import { isLinearizable } from '../packages/control/dist/testing/linearizable.js';
import { startPostgres } from '../packages/control/dist/testing/postgres.js';
import { readLogFolder } from '../packages/fabric/dist/index.js';
import { hasCompiler } from '../packages/native/dist/testing.js';
import { HOST_CLOCK } from '../packages/server/dist/host-clock.js';

const { values } = parseArgs({
  options: {
    streams: { type: 'string', default: '6' },
    tokens: { type: 'string', default: '400' },
    sqlite: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const streamCount = Number(values.streams);
const maxTokens = Number(values.tokens);
const program = fileURLToPath(
  new URL('../packages/bridgekeeper/bin/bridgekeeper.mjs', import.meta.url),
);
const folder = mkdtempSync(join(tmpdir(), 'bridgekeeper-fleet-'));
const controlFolder = join(folder, 'control');
const nowMs = () => HOST_CLOCK.nowNs() / 1e6;
const sleep = (ms) => HOST_CLOCK.sleepUntilNs(HOST_CLOCK.nowNs() + ms * 1e6);
const startedMs = nowMs();
const running = new Set();

function say(text) {
  const seconds = ((nowMs() - startedMs) / 1000).toFixed(1).padStart(6);
  process.stderr.write(`${seconds} s  ${text}\n`);
}

/** Starts a command of the program; its output goes to a file of its name. */
function start(name, ...args) {
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      output += data;
      writeFileSync(join(folder, `${name}.log`), output);
    });
  }
  child.once('exit', () => running.delete(child));
  return { child, output: () => output };
}

/** Runs a command to its end; resolves to what it printed. */
async function run(...args) {
  const { child, output } = start(`command-${args[1]}`, ...args);
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`bridgekeeper ${args.join(' ')}: ${output()}`);
  return output();
}

async function until(what, condition, limitSeconds = 300) {
  const endMs = nowMs() + limitSeconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (nowMs() > endMs) throw new Error(`waited ${limitSeconds} s until ${what}`);
    await sleep(200);
  }
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const postgres = values.sqlite ? null : startPostgres();
/** Of each control: with SQLite there is one. */
const controls = [];
for (let index = 0; index < (postgres === null ? 1 : 2); index++) {
  const [port, agentPort] = [await freePort(), await freePort()];
  const urls = { url: `http://127.0.0.1:${port}`, agentUrl: `https://127.0.0.1:${agentPort}` };
  controls.push({ index, port, agentPort, ...urls, process: null });
}
const namesOf = (key) => controls.flatMap((control) => ['--control', control[key]]);

function startControl(control) {
  const database = postgres === null ? [] : ['--database', postgres.url];
  control.process = start(
    `control-${control.index}`,
    ...['control', '--folder', controlFolder, ...database, '--port', String(control.port)],
    ...['--agent-port', String(control.agentPort), '--allow-operator-asserted', '--offline'],
  );
}

const operatorKey = () => readFileSync(join(controlFolder, 'operator.key'), 'utf8').trim();

/** How long a control may take to answer: one that is paused does not. */
const ANSWER_MS = 4000;

/** The one that answered last. */
let leader = controls[0];

/** A call of one control. Its answer, the code of its error, or null where nothing was heard. */
async function askControl({ url }, path, options) {
  if (!existsSync(join(controlFolder, 'operator.key'))) return null;
  const headers = {
    authorization: `Bearer ${operatorKey()}`,
    'content-type': 'application/json',
    ...options.headers,
  };
  const late = new AbortController();
  const unset = HOST_CLOCK.after(ANSWER_MS / 1000, () => late.abort());
  const init = { ...options, headers, signal: late.signal };
  const response = await fetch(`${url}${path}`, init).catch(() => null);
  const document = await response?.json().catch(() => null);
  unset();
  if (response?.ok && document) return { document };
  return document?.error ? { code: document.error.code } : null;
}

/** A call of whichever leads; null while none answers it. */
async function call(path, options = {}) {
  for (const control of [leader, ...controls.filter((each) => each !== leader)]) {
    const answer = await askControl(control, path, options);
    if (answer?.document === undefined) continue;
    leader = control;
    return answer.document;
  }
  return null;
}

const put = (path, body) => call(path, { method: 'PUT', body: JSON.stringify(body) });
const replicas = async () => (await call('/v1/replicas'))?.rows ?? [];
const serving = async () => (await replicas()).filter(({ phase }) => phase === 'serving');

/** Every change that control has said, so that its history can be judged. */
const history = [];

/** A control says something every 5 s: one that is silent is not asked any longer. */
const SILENT_MS = 8000;

async function follow() {
  for (let turn = 0; ; turn++) {
    const from = history.at(-1)?.sequence ?? 0;
    const headers = { authorization: `Bearer ${operatorKey()}` };
    const silent = new AbortController();
    let heardMs = nowMs();
    const watching = HOST_CLOCK.every(1, () => {
      if (nowMs() - heardMs > SILENT_MS) silent.abort();
    });
    try {
      const { url } = controls[turn % controls.length];
      const { signal } = silent;
      const response = await fetch(`${url}/v1/events?from=${from}`, { headers, signal });
      let rest = '';
      const decoder = new TextDecoder();
      for await (const part of response.ok ? response.body : []) {
        heardMs = nowMs();
        const blocks = (rest + decoder.decode(part, { stream: true })).split('\n\n');
        rest = blocks.pop();
        for (const block of blocks) {
          const data = /^data: (.*)$/m.exec(block)?.[1];
          if (data !== undefined) history.push(JSON.parse(data));
        }
      }
    } catch {
      // It is away: another goes on from where this one was.
    }
    watching();
    await sleep(200);
  }
}

/** Calls on the row of a host, as their callers saw them. */
const calls = [];
/** Writes that control has said are written. */
const acknowledged = [];
const REGISTER = 'spare';
const STATES = ['ready', 'cordoned', 'draining'];

/** Writes or reads the state of a host that serves nothing, whatever becomes of control. */
async function exercise(caller) {
  for (let turn = 0; !isOver; turn++) {
    const isWrite = (turn + caller) % 2 === 0;
    const value = STATES[(turn * 7 + caller) % STATES.length];
    const entry = { kind: isWrite ? 'write' : 'read', value, invokedMs: nowMs(), returnedMs: null };
    const row = isWrite ? await putRegister(value) : await getRegister();
    if (row === 'refused') {
      await sleep(100);
      continue;
    }
    calls.push(entry);
    if (row !== null) {
      entry.returnedMs = nowMs();
      entry.value = row.state;
      if (isWrite) acknowledged.push({ kind: 'host', id: REGISTER, version: row.version });
    }
    await sleep(500);
  }
}

/** The row; null: it is not known whether it was written; 'refused': it was not. */
async function putRegister(state) {
  const options = { method: 'PUT', body: JSON.stringify({ state }) };
  const control = leader;
  const answer = await askControl(control, `/v1/hosts/${REGISTER}`, options);
  if (answer?.document) return answer.document;
  // The next one is asked the next time: this write may still come true.
  if (leader === control) leader = controls[(control.index + 1) % controls.length];
  return answer?.code === 'not-leader' ? 'refused' : null;
}

/** Reads are asked of one control as well: an answer that comes late is none. */
async function getRegister() {
  const control = leader;
  const answer = await askControl(control, `/v1/hosts/${REGISTER}`, {});
  if (answer?.document) return answer.document;
  if (leader === control) leader = controls[(control.index + 1) % controls.length];
  return answer?.code === 'not-leader' ? 'refused' : null;
}

/** The one that leads, as it says itself. */
async function findLeader() {
  leader = await until('a control leads', async () => {
    for (const control of controls) {
      if ((await askControl(control, '/v1/status', {}))?.document) return control;
    }
    return null;
  });
  return leader;
}

/** Seconds from a fault of the control that leads to the first write that another acknowledges. */
async function failover(name, { index }) {
  const faultMs = nowMs();
  const others = controls.filter((each) => each.index !== index);
  const body = JSON.stringify({ policy: 'operator-asserted', maxAgeSeconds: 3600 });
  const path = `/v1/policies/${name}`;
  for (;;) {
    for (const other of others) {
      const answer = await askControl(other, path, { method: 'PUT', body });
      if (answer?.document === undefined) continue;
      const { version } = answer.document;
      acknowledged.push({ kind: 'policy', id: name, version });
      leader = other;
      return Number(((nowMs() - faultMs) / 1000).toFixed(3));
    }
    await sleep(20);
  }
}

/** What must hold of the histories, whatever happened; the faults. */
async function judge() {
  const faults = faultsOf(history, acknowledged);
  if (!isLinearizable('ready', calls)) faults.push(`no order of ${REGISTER}'s calls explains them`);
  const versions = acknowledged.map(({ version }) => version);
  if (versions.length === 0) faults.push('nothing was written beside the faults');
  return faults;
}

/** Streams one answer; resolves to how it ended. */
async function stream(client, index) {
  const result = {
    open: false,
    index,
    chunks: 0,
    end: 'silence',
    replica: null,
    error: null,
  };
  begun.push(result);
  try {
    const { data, response } = await client.completions
      .create({
        model: 'storyteller',
        prompt: `Story ${index}: once upon a time`,
        max_tokens: maxTokens,
        temperature: 0,
        stream: true,
        ignore_eos: true,
      })
      .withResponse();
    result.replica = response.headers.get('x-bridgekeeper-replica');
    result.open = true;
    for await (const { choices } of data) {
      result.chunks += choices.length;
      if (choices[0]?.finish_reason) result.end = choices[0].finish_reason;
    }
  } catch (error) {
    result.end = 'error';
    result.wasRefused = isGatewayAway && result.chunks === 0;
    result.error = error.code ?? error.message;
  }
  result.open = false;
  return result;
}

const begun = [];
let isGatewayAway = false;
/** Longer than a lease. */
const PAUSE_MS = 4000;
const failovers = {};
/** Those that do not lead say so: they run. */
const othersAnswer = async (than) => {
  const others = controls.filter((each) => each !== than);
  const answers = await Promise.all(others.map((each) => askControl(each, '/v1/status', {})));
  return answers.every((answer) => answer !== null);
};
/** Streams that are open now: what a fault meets. */
const openNow = () => begun.filter(({ open }) => open).length;
const met = {};

const HOSTS = ['left', 'right', REGISTER];
/** The host whose partitions the agent of a fabric brings up; null: there is no compiler for it. */
const fabricHost = hasCompiler ? 'right' : null;

function startFabric() {
  const place = join(folder, 'fabric');
  mkdirSync(place);
  const host = new FabricTestHost(place);
  const child = host.start('agent', '--round', '0.5');
  running.add(child);
  child.once('exit', () => running.delete(child));
  return host;
}

const fabric = fabricHost === null ? null : startFabric();

/** What streams were told of their replicas that the log of the fabric does not say. */
function unlogged() {
  if (fabric === null) return [];
  const { entries } = readLogFolder(join(fabric.state, 'log'));
  const told = begun.flatMap(({ replica }) => {
    const match = /;epoch=(\d+);log=(\d+)$/.exec(replica ?? '');
    return match === null ? [] : [match];
  });
  const faults = told.length === 0 ? ['no stream named an entry of the log'] : [];
  for (const [replica, epoch, index] of told) {
    const entry = entries[Number(index)];
    const isSo = entry?.change === 'activate' && entry.tenancy.epoch === Number(epoch);
    if (entry?.kind !== 'fact' || !isSo) faults.push(`${replica}: the log has no such entry`);
  }
  return faults;
}

/** A token is used once: an agent that joined before goes on with what it has. */
async function startAgent(host) {
  const hasJoined = existsSync(join(folder, host, 'agent.crt'));
  const reach = ['--url', leader.url, '--folder', controlFolder];
  const token = hasJoined
    ? []
    : ['--token', (await run('control', 'token', host, ...reach)).trim()];
  return start(
    `agent-${host}`,
    ...['agent', ...namesOf('agentUrl'), '--host', host],
    ...['--folder', join(folder, host), ...token],
    ...(host === fabricHost ? ['--fabric', fabric.state] : []),
  );
}

function startGateway(gatewayPort) {
  return start(
    'gateway',
    ...['gateway', ...namesOf('url'), '--control-key-file', join(controlFolder, 'gateway.key')],
    ...['--port', String(gatewayPort), '--state-file', join(folder, 'routes.json')],
    ...['--name', 'demo'],
  );
}

let isOver = false;

async function demo() {
  say(postgres === null ? 'control, with SQLite' : 'two controls, with PostgreSQL');
  startControl(controls[0]);
  await until('control answers', () => call('/v1/status'));
  for (const control of controls.slice(1)) startControl(control);
  void follow();
  const agents = {};
  for (const host of HOSTS) agents[host] = await startAgent(host);
  // Nobody vouches for processes of this machine: the demo says so.
  await put('/v1/policies/nothing', { policy: 'operator-asserted', maxAgeSeconds: 3600 });
  const quota = {
    requestsPerMinute: null,
    tokensPerMinute: null,
    inFlightMax: null,
    gpusMax: null,
    weight: 1,
  };
  await put('/v1/tenants/reader', { quota, pools: null });
  const body = JSON.stringify({ role: 'tenant', tenant: 'reader' });
  const { key } = await call('/v1/keys', { method: 'POST', body });
  say('hosts join, and a pool of two replicas is wanted');
  await until('all hosts are ready', async () => {
    const rows = (await call('/v1/hosts'))?.rows ?? [];
    return rows.filter(({ state }) => state === 'ready').length === HOSTS.length;
  });
  const pool = {
    models: ['storyteller'],
    image: 'storyteller',
    policy: 'nothing',
    // As many as the fabric's board has partitions.
    gpus: fabric === null ? 4 : 1,
    replicas: { min: 2, max: 3 },
    inFlightMax: 32,
    drainSeconds: 600,
  };
  await put('/v1/pools/stories', pool);
  const gatewayPort = await freePort();
  let gateway = startGateway(gatewayPort);
  const client = new OpenAI({
    baseURL: `http://127.0.0.1:${gatewayPort}/v1`,
    apiKey: key,
    maxRetries: 0,
    timeout: 600_000,
  });
  await until('two replicas serve', async () => (await serving()).length >= 2, 600);
  const table = await until('the gateway routes to them', async () => {
    const health = await fetch(`http://127.0.0.1:${gatewayPort}/health`).catch(() => null);
    const document = await health?.json();
    return document?.pools.serving === 1 ? document.table : null;
  });
  say(`two replicas serve; the gateway has routes ${table.sequence}`);

  say(`${streamCount} streams at a time begin, and go on to the end`);
  const readers = Array.from({ length: streamCount }, async (_, reader) => {
    for (let turn = 0; !isOver; turn++) {
      const { end } = await stream(client, `${reader}.${turn}`);
      // The gateway is away for a moment: nobody asks it in a hurry.
      if (end === 'error') await sleep(500);
    }
  });
  await until('streams are open', () => openNow() > 0);
  // Nothing of the pool is there: whoever writes to its row disturbs nobody.
  const writers = [0, 1, 2].map(exercise);
  const [first] = await serving();
  met.hostDrained = openNow();
  say(`host ${first.host} drains, with ${met.hostDrained} streams open`);
  await put(`/v1/hosts/${first.host}`, { state: 'draining' });
  await until('a replica drains', async () =>
    (await replicas()).some(({ phase }) => phase === 'draining' || phase === 'stopping'),
  );
  if (controls.length > 1) {
    await until('the other control answers', () => othersAnswer(controls[0]));
  }
  const killed = await findLeader();
  met.controlKilled = openNow();
  say(`the control that leads is killed (SIGKILL), with ${met.controlKilled} streams open`);
  killed.process.child.kill('SIGKILL');
  if (controls.length > 1) {
    failovers.killedSeconds = await failover('after-kill', killed);
    say(`the other leads ${failovers.killedSeconds} s after`);
    startControl(killed);
    await until('the killed one answers again', async () => othersAnswer(await findLeader()));
    const paused = await findLeader();
    met.controlPaused = openNow();
    say(`the control that leads is paused (SIGSTOP), with ${met.controlPaused} streams open`);
    paused.process.child.kill('SIGSTOP');
    failovers.pausedSeconds = await failover('after-pause', paused);
    say(`the other leads ${failovers.pausedSeconds} s after`);
    // Longer than its lease, whenever the other began.
    await sleep(PAUSE_MS);
    paused.process.child.kill('SIGCONT');
    say('the paused one goes on');
    await until('it finds that it leads no longer', async () => {
      const answer = await askControl(paused, '/v1/status', {});
      return answer?.code === 'not-leader';
    });
    met.postgresStopped = openNow();
    say(`PostgreSQL is stopped at once, with ${met.postgresStopped} streams open`);
    postgres.stopAtOnce();
    postgres.start();
  } else startControl(killed);
  await until('control answers again', () => call('/v1/status'));
  say('control is back');
  met.agentKilled = openNow();
  say(`the agent of ${first.host} is killed (SIGKILL), with ${met.agentKilled} streams open`);
  agents[first.host].child.kill('SIGKILL');
  await sleep(500);
  agents[first.host] = await startAgent(first.host);
  await until('the drained host has no replica left', async () => {
    const rows = (await call('/v1/replicas'))?.rows;
    return rows !== undefined && !rows.some(({ host }) => host === first.host);
  });
  say(`host ${first.host} is empty`);
  await until('streams are open', () => openNow() > 0);
  met.gatewayKilled = openNow();
  say(`the gateway is killed (SIGKILL), with ${met.gatewayKilled} streams open`);
  for (const each of begun) each.wasCut = each.open || each.end === 'silence';
  isGatewayAway = true;
  gateway.child.kill('SIGKILL');
  await sleep(500);
  gateway = startGateway(gatewayPort);
  await until('streams go through the gateway that came back', () =>
    begun.some(({ wasCut, end }) => wasCut === undefined && end === 'length'),
  );
  isGatewayAway = false;
  say('the gateway is back, and streams have gone through it to their end');
  isOver = true;
  await Promise.all([...readers, ...writers]);
  const { sequence } = await until('control answers', () => call('/v1/status'));
  await until('all events have come', () => history.at(-1).sequence >= sequence, 30);
  gateway.child.kill('SIGTERM');
}

let failure = null;
try {
  await demo();
} catch (error) {
  failure = error.stack;
} finally {
  const leftovers = await replicas().catch(() => []);
  await put('/v1/pools/stories', { replicas: { min: 0, max: 0 } }).catch(() => null);
  for (const host of HOSTS) stopGuests(join(folder, host, 'guests'), leftovers);
  for (const child of running) child.kill('SIGKILL');
  fabric?.close();
  postgres?.remove();
}

/** Guests outlive their agents on purpose; this demo is over. */
function stopGuests(place, rows) {
  for (const { replica } of rows) {
    try {
      process.kill(JSON.parse(readFileSync(join(place, replica, 'process'), 'utf8')).pid);
    } catch {
      // It is on the other host, or has ended.
    }
  }
}

const faults = [...(await judge()), ...unlogged()];
const lost = begun.filter(({ end }) => end === 'silence');
/** Streams that the killed gateway had, or that asked it while it was away. */
const cut = begun.filter(
  ({ end, wasCut, wasRefused }) => end === 'error' && (wasCut || wasRefused),
);
const said = begun.filter((each) => each.end === 'error' && !cut.includes(each));
for (const { index, error } of said) faults.push(`stream ${index} ended with ${error}`);
for (const { index, chunks, end, error, replica } of begun) {
  say(`stream ${index}: ${chunks} chunks, ${end}${error ? ` (${error})` : ''} by ${replica}`);
}
const digest = createHash('sha256').update(JSON.stringify(history)).digest('hex');
const unanswered = calls.filter(({ returnedMs }) => returnedMs === null).length;
say(`${calls.length} calls on ${REGISTER}, ${unanswered} of them without an answer`);
say(`${history.length} events, ${faults.length} faults; sha256 ${digest.slice(0, 16)}`);
for (const fault of faults) say(fault);
if (failure !== null) say(failure);
if (values.json) {
  const register = { calls: calls.length, unanswered, acknowledged: acknowledged.length };
  const events = history.length;
  const document = { met, failovers, streams: begun, events, register, faults, failure };
  process.stdout.write(`${JSON.stringify(document, null, 1)}\n`);
}
const wasMet = Object.values(met).every((count) => count > 0);
if (!wasMet) say('a fault met no stream: give --tokens and --streams that last');
const isGood = failure === null && wasMet && lost.length === 0 && faults.length === 0;
const after = `${cut.length} were cut with the gateway, and their clients told so`;
say(isGood ? `no stream was lost; ${after}` : 'FAILED');
if (isGood) rmSync(folder, { recursive: true, force: true });
else say(`logs are in ${folder}`);
process.exit(isGood ? 0 : 1);
