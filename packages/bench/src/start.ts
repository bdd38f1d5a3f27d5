import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemClock } from '@bridgekeeper/device';
import { type MeasuredRun, residentBytes, summarise } from '@bridgekeeper/report';
import {
  flag,
  integer,
  MODEL_FLAG,
  measuredDevice,
  type PhaseTime,
  SETTINGS,
} from '@bridgekeeper/server';
import type { Suite } from './suite.ts';

const FLAGS = {
  model: MODEL_FLAG,
  device: flag(SETTINGS.device.kind, 'auto', 'where the model runs'),
  law: flag(SETTINGS.law.kind, SETTINGS.law.default, SETTINGS.law.help),
  loadFormat: flag(SETTINGS.loadFormat.kind, SETTINGS.loadFormat.default, SETTINGS.loadFormat.help),
  repeats: flag(integer(1, 100), 3, 'starts on a machine that knows the model'),
  firstRepeats: flag(integer(0, 100), 1, 'starts before, each with caches that are empty'),
};

/**
 * What a start costs: the whole program as a process, from its start to its first answer; on a
 * machine that never ran the model, and on one that did.
 */
export const START_SUITE: Suite<typeof FLAGS> = {
  name: 'start',
  summary:
    'seconds from the start of serve to its first answer, phase by phase, and resident memory',
  flags: FLAGS,
  async run({ repeats, firstRepeats, ...what }, progress, { main }) {
    const home = mkdtempSync(join(tmpdir(), 'bench-start-'));
    const measure = async (start: 'first' | 'later', count: number) => {
      const measured: MeasuredRun['metrics'][] = [];
      for (let repeat = 0; repeat < count; repeat++) {
        // What a process learns of a machine it keeps below its home.
        if (start === 'first') rmSync(home, { recursive: true, force: true });
        const metrics = await oneStart(main, what, home);
        progress(`${start} start: first answer after ${metrics.firstAnswerSeconds!.toFixed(2)} s`);
        measured.push(metrics);
      }
      const { model, device, law, loadFormat } = what;
      const parameters = { model: model.split('/').at(-1)!, device, law, loadFormat, start };
      return measured.length === 0 ? [] : [summarise(parameters, measured)];
    };
    try {
      const runs = [
        ...(await measure('first', firstRepeats)),
        ...(await measure('later', repeats)),
      ];
      return { device: measuredDevice(what.device, what.device), runs };
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  },
};

interface WhatToStart {
  readonly model: string;
  readonly device: string;
  readonly law: string;
  readonly loadFormat: string;
}

async function oneStart(
  main: string,
  { model, device, law, loadFormat }: WhatToStart,
  home: string,
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
    '--law',
    law,
    '--load-format',
    loadFormat,
    '--port',
    '0',
    '--json',
    '--receipts',
    'off',
  ];
  const { XDG_CACHE_HOME, XDG_CONFIG_HOME, XDG_STATE_HOME, ...rest } = process.env;
  const env = { ...rest, HOME: home };
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'], env });
  try {
    const { url, phases } = await announcementOf(child);
    const readySeconds = seconds();
    await complete(url, 1);
    const firstAnswerSeconds = seconds();
    await Promise.all(Array.from({ length: 8 }, () => complete(url, 128)));
    const each = phases.map(({ phase, seconds }) => [`${phase}Seconds`, seconds] as const);
    return {
      ...Object.fromEntries(each),
      readySeconds,
      firstAnswerSeconds,
      residentBytes: residentBytes(child.pid!),
    };
  } finally {
    const exit = once(child, 'exit');
    child.kill('SIGTERM');
    await exit;
  }
}

interface Announcement {
  readonly url: string;
  readonly phases: readonly PhaseTime[];
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
