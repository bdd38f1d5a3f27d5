// What a start of the bundled model costs from the modules that were compiled and from the files
// that they are packed into, in turn: until the port is open, until the first text of an answer,
// and the processor time of both. After `npm run build`: node start-packed.mjs [pairs]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

const root = new URL('../../../', import.meta.url);
const programs = {
  modules: fileURLToPath(new URL('packages/bridgekeeper/dist/main.js', root)),
  packed: fileURLToPath(new URL('packages/bridgekeeper/dist/packed/main.mjs', root)),
};
const pairs = Number(process.argv[2] ?? 15);

async function firstText(url) {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'Once upon a time', max_tokens: 8, stream: true }),
  });
  for await (const chunk of response.body) {
    if (Buffer.from(chunk).includes('"text"')) return performance.now();
  }
  throw new Error('no text');
}

async function start(program) {
  const from = performance.now();
  const serve = [program, 'serve', '--port', '0', '--json', '--device', 'cpu'];
  const child = spawn('/usr/bin/time', ['-f', '%U %S', process.execPath, ...serve], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'close');
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    said += text;
  });
  let url;
  for await (const text of child.stdout.setEncoding('utf8')) {
    url ??= JSON.parse(text).url;
    break;
  }
  const listening = performance.now();
  const answered = await firstText(url);
  spawn('pkill', ['-TERM', '-P', String(child.pid)]);
  await ended;
  const [user, system] = said.trim().split('\n').at(-1).split(' ').map(Number);
  return { listeningMs: listening - from, firstTextMs: answered - from, cpuMs: 1e3 * (user + system) };
}

const runs = { modules: [], packed: [] };
for (const name of Object.keys(programs)) await start(programs[name]);
for (let pair = 0; pair < pairs; pair++) {
  for (const name of Object.keys(programs)) runs[name].push(await start(programs[name]));
}
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const of = (name, figure) => runs[name].map((run) => run[figure]);
const summary = {};
for (const figure of ['listeningMs', 'firstTextMs', 'cpuMs']) {
  const ratios = of('packed', figure).map((value, i) => value / of('modules', figure)[i]);
  summary[figure] = {
    modules: median(of('modules', figure)),
    packed: median(of('packed', figure)),
    ratio: median(ratios),
    least: Math.min(...ratios),
    most: Math.max(...ratios),
  };
}
const machine = { cpu: cpus()[0].model, cores: cpus().length, node: process.version };
console.log(JSON.stringify({ machine, pairs, summary, runs }, null, 1));
