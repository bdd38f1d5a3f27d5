import type { Clock } from '@bridgekeeper/bridge';
import { hash32 } from '@bridgekeeper/device';
import { type EngineClient, GREEDY } from '@bridgekeeper/engine';
import type { Workload, WorkloadRequest } from '../workload/workload.ts';
import type { LoadObserver } from './load.ts';

/**
 * Sends a load to an engine on whatever clock it has, and lets `observer` see what comes back. Loads
 * of other names have other requests. Resolves when all requests have ended. Rejects where one ends with an error.
 */
export async function driveEngine(
  engine: EngineClient,
  clock: Clock,
  workload: Workload,
  observer: LoadObserver,
  name: string,
): Promise<void> {
  const { requests, concurrency } = workload;
  const prompts = new Prompts(workload, engine.card.vocabularySize);
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
  observer.arrived(index, clock.nowNs(), promptTokens);
  return new Promise((resolve, reject) => {
    const request = {
      id: `${name} ${index}`,
      tenant,
      promptTokens: prompts.tokensOf(index),
      sampling: { ...GREEDY, maxTokens: outputTokens },
    };
    engine.submit(request, ({ tokens, finish }) => {
      const nowNs = clock.nowNs();
      if (tokens.length > 0) observer.tokens(index, nowNs, tokens.length);
      if (finish === undefined) return;
      observer.ended(index, nowNs);
      if (finish.reason === 'error') reject(new Error(finish.message));
      else resolve();
    });
  });
}

/** Makes up tokens: equal chunks are equal, and what shares nothing begins with a number of its own. */
export class Prompts {
  readonly #workload: Workload;
  readonly #vocabulary: number;

  constructor(workload: Workload, vocabulary: number) {
    this.#workload = workload;
    this.#vocabulary = vocabulary;
  }

  requestOf(index: number): WorkloadRequest {
    return this.#workload.requests[index]!;
  }

  tokensOf(index: number): Uint32Array {
    const { chunkTokens, requests } = this.#workload;
    const { promptTokens, chunks } = requests[index]!;
    const tokens = new Uint32Array(promptTokens);
    if (chunks === null) {
      for (let i = 0; i < promptTokens; i++) tokens[i] = this.#draw(index, 1, i);
      return tokens;
    }
    for (let i = 0; i < promptTokens; i++) {
      tokens[i] = this.#draw(chunks[Math.floor(i / chunkTokens)]!, 2, i % chunkTokens);
    }
    return tokens;
  }

  #draw(stream: number, kind: number, counter: number): number {
    const high = Math.floor(stream / 0x1_0000_0000);
    return (hash32(stream | 0, (high * 4 + kind) | 0, counter) >>> 0) % this.#vocabulary;
  }
}
