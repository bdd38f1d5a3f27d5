import { EngineError, type GenerationEvent, GREEDY } from '@bridgekeeper/engine';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { startBundledModel } from '../testing/bundled-model.ts';
import { FAILURE_CAUSES } from './messages.ts';
import { ReplicatedEngine } from './replicated-engine.ts';
import type { RestartSource } from './restarting-engine.ts';
import { SyntheticEngine } from './synthetic-engine.ts';

const SOUND = Object.fromEntries(
  FAILURE_CAUSES.map((cause) => [cause, 0]),
) as RestartSource['restarts']['failures'];

/** An engine that answers at once or by hand, and says of restarts what it is told. */
class Replica extends SyntheticEngine implements RestartSource {
  restarts: RestartSource['restarts'] = { count: 0, resumed: 0, failures: SOUND, last: null };
  restarting: RestartSource['restarting'] = null;
  checks = 0;
  checkBefore(): void {
    this.checks += 1;
  }
}

const SLEEP = { level: 1, mode: 'wait', keepsKv: false } as const;

const requestOf = (id: string, length = 4) => ({
  id,
  tenant: 'tenant',
  promptTokens: new Uint32Array(length).fill(7),
  sampling: { ...GREEDY, maxTokens: 3 },
});

function pair() {
  const replicas = [0, 1].map(() => new Replica({ pace: 'by-hand' })) as [Replica, Replica];
  return { replicas, engine: new ReplicatedEngine(replicas) };
}

describe('several engines as one', () => {
  test('share requests evenly, and each ends where it is', () => {
    const { engine, replicas } = pair();
    const ended: string[] = [];
    const listen = ({ id, finish }: GenerationEvent) => void (finish && ended.push(id));
    for (let i = 0; i < 6; i++) engine.submit(requestOf(`r${i}`), listen);
    expect(replicas.map((each) => each.stats().running)).toEqual([3, 3]);
    expect(engine.stats().running).toBe(6);
    expect(() => engine.submit(requestOf('r0'), listen)).toThrow(EngineError);
    engine.cancel('r1');
    engine.cancel('unknown');
    for (let i = 0; i < 4; i++) for (const each of replicas) each.step();
    expect(ended.sort()).toEqual(['r0', 'r1', 'r2', 'r3', 'r4', 'r5']);
    expect(engine.stats().running).toBe(0);
    // Nothing of them is left in the count: the next two go one to each.
    for (const id of ['a', 'b']) engine.submit(requestOf(id), listen);
    expect(replicas.map((each) => each.stats().running)).toEqual([1, 1]);
  });

  test('say together what they drafted', () => {
    const speculation = { reason: 'it does not pay', drafts: 1, draftTokens: 4, acceptedTokens: 2 };
    const busy = { ...speculation, draftsPerStep: 4, reason: 'it pays' };
    const quiet = { ...speculation, draftsPerStep: 0 };
    const one = new Replica({ speculation: quiet });
    const other = new Replica({ speculation: busy });
    expect(new ReplicatedEngine([one, other]).stats().speculation).toEqual({
      draftsPerStep: 4,
      reason: 'it pays',
      drafts: 2,
      draftTokens: 8,
      acceptedTokens: 4,
    });
    expect(pair().engine.stats().speculation).toBeUndefined();
  });

  test('say together what they keep and move, part by part', () => {
    const { engine, replicas } = pair();
    for (const [index, replica] of replicas.entries()) {
      const plain = replica.stats();
      const counts = { spilled: 1, demoted: 2, restored: 3, avoided: 4, refused: 5, lost: 6 };
      const moved = { resident: [10, index], ...counts };
      const state = { part: 'state', bytes: 96, places: [1, 2, index], moved } as const;
      const kv = { ...plain.kv, parts: [...plain.kv.parts, state] };
      vi.spyOn(replica, 'stats').mockReturnValue({ ...plain, kv });
    }
    expect(engine.stats().kv.parts).toEqual([
      { part: 'context', bytes: 512, places: [0, 0, 0], moved: null },
      {
        part: 'state',
        bytes: 96,
        places: [2, 4, 1],
        moved: {
          resident: [20, 1],
          spilled: 2,
          demoted: 4,
          restored: 6,
          avoided: 8,
          refused: 10,
          lost: 12,
        },
      },
    ]);
  });

  test('leave out one that is being started again, and say so when none is left', () => {
    const { engine, replicas } = pair();
    const why = { reason: 'lost the device', retryAfterSeconds: 5 };
    replicas[0].restarting = why;
    expect(engine.restarting).toBeNull();
    for (const id of ['a', 'b']) engine.submit(requestOf(id), () => {});
    expect(replicas.map((each) => each.stats().running)).toEqual([0, 2]);
    replicas[1].restarting = why;
    expect(engine.restarting).toEqual(why);
  });

  test('add up what their lives were, and check before each', () => {
    const { engine, replicas } = pair();
    const last = { cause: 'device', message: 'x', failedAt: 5, outageSeconds: 1 } as const;
    replicas[0].restarts = { count: 1, resumed: 2, failures: { ...SOUND, device: 1 }, last };
    const later = { ...last, failedAt: 9 };
    replicas[1].restarts = { count: 2, resumed: 3, failures: { ...SOUND, device: 2 }, last: later };
    expect(engine.restarts).toMatchObject({
      count: 3,
      resumed: 5,
      failures: { device: 3 },
      last: later,
    });
    engine.checkBefore(async () => {});
    expect(replicas.map(({ checks }) => checks)).toEqual([1, 1]);
  });

  test('sleep all or none', async () => {
    const { engine, replicas } = pair();
    await engine.sleep(SLEEP);
    expect(replicas.map(({ isAsleep }) => isAsleep)).toEqual([true, true]);
    expect(() => engine.submit(requestOf('a'), () => {})).toThrow('asleep');
    await engine.wakeUp();
    const refusal = new EngineError('sleep-refused', 'no room');
    replicas[1].sleep = () => Promise.reject(refusal);
    await expect(engine.sleep(SLEEP)).rejects.toBe(refusal);
    expect(replicas.map(({ isAsleep }) => isAsleep)).toEqual([false, false]);
  });
});

describe('a server with two engines', () => {
  let server: Awaited<ReturnType<typeof startBundledModel>>;
  beforeAll(async () => {
    server = await startBundledModel({ dataParallelSize: 2, maxNumSeqs: 12 });
  });
  afterAll(() => server.stop(0));

  async function complete(prompt: readonly number[]) {
    const reply = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ prompt, max_tokens: 8, temperature: 0 }),
    });
    expect(reply.status).toBe(200);
    return (await reply.json()) as {
      choices: { text: string }[];
      usage: { prompt_tokens_details?: { cached_tokens: number } };
    };
  }

  test('answers as one, from both, and finds prefixes where they are', async () => {
    const prompts = Array.from({ length: 6 }, (_, i) => Array.from({ length: 140 }, () => 20 + i));
    const alone = [];
    for (const prompt of prompts) alone.push((await complete(prompt)).choices[0]!.text);
    const again = await Promise.all(prompts.map(complete));
    expect(again.map(({ choices }) => choices[0]!.text)).toEqual(alone);
    for (const { usage } of again) {
      expect(usage.prompt_tokens_details?.cached_tokens).toBeGreaterThanOrEqual(128);
    }
    const bridge = (await (await fetch(`${server.url}/v1/bridge`)).json()) as {
      device: { replicas: number };
      lanes: readonly { id: string; crossings: number }[];
    };
    expect(bridge.device.replicas).toBe(2);
    const busy = (engine: string) =>
      bridge.lanes
        .filter(({ id }) => id.startsWith(`${engine}/`))
        .reduce((sum, { crossings }) => sum + crossings, 0);
    expect(busy('engine-0')).toBeGreaterThan(0);
    expect(busy('engine-1')).toBeGreaterThan(0);
  });
});
