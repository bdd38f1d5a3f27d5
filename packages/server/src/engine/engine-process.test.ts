import { type GenerationEvent, GREEDY } from '@bridgekeeper/engine';
import { afterEach, expect, test } from 'vitest';
import { settingsWith } from '../settings/configuration.ts';
import { until } from '../testing/until.ts';
import { configureEngine } from './config/configure.ts';
import { startEngine } from './start.ts';
import type { ThreadedEngine } from './threaded-engine.ts';

const engines: ThreadedEngine[] = [];
afterEach(() => {
  for (const engine of engines.splice(0)) engine.terminate();
});

async function start(place: 'thread' | 'process'): Promise<ThreadedEngine> {
  const settings = settingsWith({ device: 'cpu', maxModelLen: 64, maxNumSeqs: 2 });
  const engine = await startEngine(configureEngine(settings, { mode: 'off' }), { place });
  engines.push(engine);
  return engine;
}

async function answerOf(engine: ThreadedEngine): Promise<number[]> {
  const events: GenerationEvent[] = [];
  // As the server has it: in memory that threads share, and processes cannot.
  const promptTokens = new Uint32Array(new SharedArrayBuffer(12));
  promptTokens.set([1, 2, 3]);
  const request = { id: 'a', tenant: 't', promptTokens, sampling: { ...GREEDY, maxTokens: 8 } };
  engine.submit(request, (event) => events.push(event));
  await until('it has ended', () => events.at(-1)?.finish !== undefined);
  return events.flatMap(({ tokens }) => tokens);
}

test('an engine in a process of its own is like any other, and its end is a failure', async () => {
  const [near, far] = [await start('thread'), await start('process')];
  expect(await answerOf(far)).toEqual(await answerOf(near));
  expect(far.card).toEqual({
    ...near.card,
    loadSeconds: far.card.loadSeconds,
    prepareSeconds: far.card.prepareSeconds,
  });
  far.terminate();
  expect(await far.failure).toMatchObject({ cause: 'thread' });
  await far.ended;
  await near.shutdown(0);
}, 120_000);
