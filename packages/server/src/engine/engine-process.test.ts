import { readdirSync, readFileSync } from 'node:fs';
import { type GenerationEvent, GREEDY } from '@bridgekeeper/engine';
import { afterEach, expect, test } from 'vitest';
import { settingsWith } from '../settings/configuration.ts';
import { until } from '../testing/until.ts';
import { configureEngine } from './config/configure.ts';
import { startEngine } from './start.ts';
import type { ThreadedEngine, WatchdogOptions } from './threaded-engine.ts';

const engines: ThreadedEngine[] = [];
afterEach(() => {
  for (const engine of engines.splice(0)) engine.terminate();
});

async function start(
  place: 'thread' | 'process',
  watchdog?: WatchdogOptions,
): Promise<ThreadedEngine> {
  const settings = settingsWith({ device: 'cpu', maxModelLen: 64, maxNumSeqs: 2 });
  const engine = await startEngine(configureEngine(settings, { mode: 'off' }), {
    place,
    ...(watchdog === undefined ? {} : { watchdog }),
  });
  engines.push(engine);
  return engine;
}

async function answerOf(engine: ThreadedEngine, onEvent = () => {}): Promise<number[]> {
  const events: GenerationEvent[] = [];
  // As the server has it: in memory that threads share, and processes cannot.
  const promptTokens = new Uint32Array(new SharedArrayBuffer(12));
  promptTokens.set([1, 2, 3]);
  const request = { id: 'a', tenant: 't', promptTokens, sampling: { ...GREEDY, maxTokens: 8 } };
  engine.submit(request, (event) => {
    events.push(event);
    onEvent();
  });
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

test('an engine whose process stands still is ended, and its requests with it', async () => {
  let tick = () => {};
  const every = (_seconds: number, action: () => void) => {
    tick = action;
    return () => {};
  };
  const pids = () => new Set(readdirSync('/proc').filter(isChild));
  const before = pids();
  const watchdog = { clock: { every }, timeoutSeconds: 5 };
  const engine = await start('process', watchdog);
  const [pid] = [...pids()].filter((each) => !before.has(each));
  // While it answers, no number of seconds is too many.
  const tokens = await answerOf(engine, () => tick());
  expect(tokens).toHaveLength(8);
  process.kill(Number(pid), 'SIGSTOP');
  const events: GenerationEvent[] = [];
  const promptTokens = Uint32Array.of(1, 2, 3);
  const sampling = { ...GREEDY, maxTokens: 8 };
  engine.submit({ id: 'b', tenant: 't', promptTokens, sampling }, (event) => events.push(event));
  for (let second = 0; second < 20; second++) tick();
  expect(await engine.failure).toMatchObject({ cause: 'hung' });
  expect(events.at(-1)?.finish).toMatchObject({ reason: 'error', isLost: true });
  engine.terminate();
  await engine.ended;
}, 120_000);

/** Whether a process is a child of this one. */
function isChild(pid: string): boolean {
  if (!/^\d+$/.test(pid)) return false;
  try {
    // The parent is the second field behind the name, which may hold anything.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] === String(process.pid);
  } catch {
    return false;
  }
}
