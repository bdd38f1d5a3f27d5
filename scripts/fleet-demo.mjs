// A whole fleet on this machine: a control plane, agents on three hosts whose GPUs are pretended, a
// gateway, and real replicas of the bundled model on the CPU. The openai client streams through the
// gateway while a host drains, the control plane and an agent are killed, and PostgreSQL is stopped
// at once and started where it is installed, while others write and read the row of a host that
// serves nothing. Says for each stream how it ended, and fails if one was lost without a word, or
// if the history of what was written does not hold.
//
//   node scripts/fleet-demo.mjs [--streams <n>] [--tokens <n>] [--sqlite] [--json]

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import OpenAI from 'openai';
import { faultsOf } from '../packages/control/dist/testing/history.js';
import { isLinearizable } from '../packages/control/dist/testing/linearizable.js';
import { startPostgres } from '../packages/control/dist/testing/postgres.js';
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
const [port, agentPort] = [await freePort(), await freePort()];
const url = `http://127.0.0.1:${port}`;
const reach = ['--url', url, '--folder', controlFolder];

function startControl() {
  const database = postgres === null ? [] : ['--database', postgres.url];
  return start(
    'control',
    ...['control', '--folder', controlFolder, ...database, '--port', String(port)],
    ...['--agent-port', String(agentPort), '--allow-operator-asserted', '--offline'],
  );
}

const operatorKey = () => readFileSync(join(controlFolder, 'operator.key'), 'utf8').trim();

/** A call of control's API; null while it does not answer. */
async function call(path, options = {}) {
  if (!existsSync(join(controlFolder, 'operator.key'))) return null;
  const headers = {
    authorization: `Bearer ${operatorKey()}`,
    'content-type': 'application/json',
    ...options.headers,
  };
  const response = await fetch(`${url}${path}`, { ...options, headers }).catch(() => null);
  return response?.ok ? response.json() : null;
}

const put = (path, body) => call(path, { method: 'PUT', body: JSON.stringify(body) });
const replicas = async () => (await call('/v1/replicas'))?.rows ?? [];
const serving = async () => (await replicas()).filter(({ phase }) => phase === 'serving');

/** Every change that control has said, so that its history can be judged. */
const history = [];

async function follow() {
  for (;;) {
    const from = history.at(-1)?.sequence ?? 0;
    const headers = { authorization: `Bearer ${operatorKey()}` };
    try {
      const response = await fetch(`${url}/v1/events?from=${from}`, { headers });
      let rest = '';
      const decoder = new TextDecoder();
      for await (const part of response.body) {
        const blocks = (rest + decoder.decode(part, { stream: true })).split('\n\n');
        rest = blocks.pop();
        for (const block of blocks) {
          const data = /^data: (.*)$/m.exec(block)?.[1];
          if (data !== undefined) history.push(JSON.parse(data));
        }
      }
    } catch {
      // Control is away: it goes on from where it was.
    }
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
    const row = isWrite ? await putRegister(value) : await call(`/v1/hosts/${REGISTER}`);
    if (row === 'refused') continue;
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
  const headers = { authorization: `Bearer ${operatorKey()}`, 'content-type': 'application/json' };
  const options = { method: 'PUT', headers, body: JSON.stringify({ state }) };
  const response = await fetch(`${url}/v1/hosts/${REGISTER}`, options).catch(() => null);
  const document = await response?.json().catch(() => null);
  if (response?.ok) return document;
  return document?.error?.code === 'not-leader' ? 'refused' : null;
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
    result.error = error.code ?? error.message;
  }
  result.open = false;
  return result;
}

const begun = [];
/** Streams that are open now: what a fault meets. */
const openNow = () => begun.filter(({ open }) => open).length;
const met = {};

const HOSTS = ['left', 'right', REGISTER];

async function startAgent(host) {
  const token = (await run('control', 'token', host, ...reach)).trim();
  return start(
    `agent-${host}`,
    ...['agent', '--control', `https://127.0.0.1:${agentPort}`, '--host', host],
    ...['--folder', join(folder, host), '--token', token],
  );
}

let isOver = false;

async function demo() {
  say(postgres === null ? 'control, with SQLite' : 'control, with PostgreSQL');
  let control = startControl();
  await until('control answers', () => call('/v1/status'));
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
    gpus: 4,
    replicas: { min: 2, max: 3 },
    inFlightMax: 32,
    drainSeconds: 600,
  };
  await put('/v1/pools/stories', pool);
  const gatewayPort = await freePort();
  const gateway = start(
    'gateway',
    ...['gateway', '--control', url, '--control-key-file', join(controlFolder, 'gateway.key')],
    ...['--port', String(gatewayPort), '--state-file', join(folder, 'routes.json')],
    ...['--name', 'demo'],
  );
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
    for (let turn = 0; !isOver; turn++) await stream(client, `${reader}.${turn}`);
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
  met.controlKilled = openNow();
  say(`control is killed (SIGKILL), with ${met.controlKilled} streams open`);
  control.child.kill('SIGKILL');
  await sleep(500);
  if (postgres !== null) {
    met.postgresStopped = openNow();
    say(`PostgreSQL is stopped at once, with ${met.postgresStopped} streams open`);
    postgres.stopAtOnce();
    postgres.start();
  }
  control = startControl();
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

const faults = await judge();
const lost = begun.filter(({ end }) => end === 'silence');
const said = begun.filter(({ end }) => end === 'error');
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
  const document = { met, streams: begun, events, register, faults, failure };
  process.stdout.write(`${JSON.stringify(document, null, 1)}\n`);
}
const wasMet = Object.values(met).every((count) => count > 0);
if (!wasMet) say('a fault met no stream: give --tokens and --streams that last');
const isGood = failure === null && wasMet && lost.length === 0 && faults.length === 0;
say(isGood ? `no stream was lost; ${said.length} ended with an error that said so` : 'FAILED');
if (isGood) rmSync(folder, { recursive: true, force: true });
else say(`logs are in ${folder}`);
process.exit(isGood ? 0 : 1);
