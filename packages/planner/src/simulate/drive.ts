import type { Clock } from '@bridgekeeper/bridge';
import { type EngineClient, GREEDY, NOTED } from '@bridgekeeper/engine';
import type { Workload } from '../workload/workload.ts';
import type { LoadObserver } from './load.ts';
import { Prompts } from './prompts.ts';

/**
 * Sends a load to an engine on whatever clock it has, and lets `observer` see what comes back.
 * Ids of requests begin with `name`. Resolves when all have ended; rejects where one ends with an
 * error. `areRead`: whether it matters what a prompt's tokens are.
 */
export async function driveEngine(
  engine: EngineClient,
  clock: Clock,
  workload: Workload,
  observer: LoadObserver,
  name: string,
  areRead = true,
): Promise<void> {
  const { requests, concurrency } = workload;
  const prompts = new Prompts(workload, engine.card.vocabularySize, areRead);
  const run = (index: number) => runOne(engine, clock, prompts, name, index, observer);
  if (concurrency !== null) {
    let next = 0;
    const worker = async () => {
      while (next < requests.length) await run(next++);
    };
    await Promise.all(Array.from({ length: Math.min(concurrency, requests.length) }, worker));
    return;
  }
  const startNs = clock.nowNs();
  const open: Promise<void>[] = [];
  for (const [index, { atNs }] of requests.entries()) {
    if (startNs + atNs > clock.nowNs()) await clock.sleepUntilNs(startNs + atNs);
    open.push(run(index));
  }
  await Promise.all(open);
}

function runOne(
  engine: EngineClient,
  clock: Clock,
  prompts: Prompts,
  name: string,
  index: number,
  observer: LoadObserver,
): Promise<void> {
  const { promptTokens, outputTokens, tenant } = prompts.requestOf(index);
  const watched = observer.arrived(index, clock.nowNs(), promptTokens);
  return new Promise((resolve, reject) => {
    const request = {
      id: `${name} ${index}`,
      tenant,
      promptTokens: prompts.tokensOf(index),
      sampling: { ...GREEDY, maxTokens: outputTokens },
    };
    engine.submit(request, ({ tokens, finish }) => {
      const nowNs = clock.nowNs();
      if (tokens.length > 0) observer.tokens(watched, nowNs, tokens.length);
      if (finish === undefined) return NOTED;
      observer.ended(watched, nowNs);
      if (finish.reason === 'error') reject(new Error(finish.message));
      else resolve();
      return undefined;
    });
  });
}
