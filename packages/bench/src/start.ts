import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { SystemClock } from '@bridgekeeper/device';
import { type MeasuredRun, residentBytes, summarise } from '@bridgekeeper/report';
import { flag, integer, MODEL_FLAG, SETTINGS } from '@bridgekeeper/server';
import type { Suite } from './suite.ts';

const FLAGS = {
  model: MODEL_FLAG,
  device: flag(SETTINGS.device.kind, 'auto', 'where the model runs'),
  repeats: flag(integer(1, 100), 3, 'starts'),
};

/** What a restart costs: the whole program as a process, from its start to its first answer. */
export const START_SUITE: Suite<typeof FLAGS> = {
  name: 'start',
  summary:
    'seconds from the start of serve to its first answer, phase by phase, and resident memory',
  flags: FLAGS,
  async run({ model, device, repeats }, progress, { main }) {
    const measured: MeasuredRun['metrics'][] = [];
    for (let repeat = 0; repeat < repeats; repeat++) {
      const metrics = await oneStart(main, model, device);
      progress(`first answer after ${metrics.firstAnswerSeconds!.toFixed(2)} s`);
      measured.push(metrics);
    }
    const parameters = { model: model.split('/').at(-1)!, device };
    return { device: { name: device, driver: null }, runs: [summarise(parameters, measured)] };
  },
};

async function oneStart(
  main: string,
  model: string,
  device: string,
): Promise<MeasuredRun['metrics']> {
  const clock = new SystemClock();
  const startedNs = clock.nowNs();
  const seconds = () => (clock.nowNs() - startedNs) / 1e9;
  const args = [
    main,
    'serve',
    model,
    '--device',
    device,
    '--port',
    '0',
    '--json',
    '--receipts',
    'off',
  ];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    const { url, loadSeconds, prepareSeconds } = await announcementOf(child);
    const listeningSeconds = seconds();
    await complete(url, 1);
    const firstAnswerSeconds = seconds();
    await Promise.all(Array.from({ length: 8 }, () => complete(url, 128)));
    const phases = { loadSeconds, prepareSeconds, listeningSeconds, firstAnswerSeconds };
    return { ...phases, residentBytes: residentBytes(child.pid!) };
  } finally {
    const exit = once(child, 'exit');
    child.kill('SIGTERM');
    await exit;
  }
}

interface Announcement {
  readonly url: string;
  readonly loadSeconds: number;
  readonly prepareSeconds: number;
}

async function announcementOf(child: ChildProcess): Promise<Announcement> {
  let out = '';
  for await (const chunk of child.stdout!.setEncoding('utf8')) {
    out += chunk;
    if (out.includes('\n')) return JSON.parse(out);
  }
  throw new Error('serve ended before it listened: run it by hand to see why');
}

async function complete(url: string, maxTokens: number): Promise<void> {
  const body = { prompt: 'Once upon a time', max_tokens: maxTokens, ignore_eos: true };
  const headers = { 'Content-Type': 'application/json' };
  const init = { method: 'POST', headers, body: JSON.stringify(body) };
  const reply = await fetch(`${url}/v1/completions`, init);
  if (!reply.ok) throw new Error(`the server answered ${reply.status}`);
  await reply.arrayBuffer();
}
