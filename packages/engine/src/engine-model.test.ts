import { fileURLToPath } from 'node:url';
import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { hash32, openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { describe, expect, it } from 'vitest';
import type { EngineOptions } from './create.ts';
import { POLICY_NAMES, type PolicyName } from './policies/policy.ts';
import { EngineError, type GenerationRequest, NOTED } from './request/request.ts';
import { engineOptions, generate, request, withEngine } from './testing/run.ts';

/** The engine on a modelled B300 under its CC law, in virtual time that runs by itself. */
function modelOptions(overrides: Partial<EngineOptions> = {}): EngineOptions {
  const clock = new VirtualClock();
  clock.runFreely();
  const device = openModelDevice({ clock, law: profileLaw(referenceProfile('b300-cc')) });
  return engineOptions(device, { dummy: true, ...overrides });
}

/** Random requests of all kinds, the same for the same seed. */
function traffic(seed: number, count: number): GenerationRequest[] {
  const draw = (counter: number, below: number) => (hash32(seed, 1, counter) >>> 0) % below;
  return Array.from({ length: count }, (_, index) => {
    const at = index * 16;
    const prompt = Array.from(
      { length: 1 + draw(at, 200) },
      (_, i) => (i * 7 + draw(at + 1, 3)) % 4096,
    );
    return request(`r${index}`, prompt, {
      maxTokens: 1 + draw(at + 2, 60),
      temperature: draw(at + 3, 2),
      seed: BigInt(draw(at + 4, 1000)),
      presencePenalty: draw(at + 5, 3) === 0 ? 0.5 : 0,
      logprobs: draw(at + 6, 4) === 0 ? 3 : undefined,
      promptLogprobs: draw(at + 7, 6) === 0 ? 1 : undefined,
      logitBias: draw(at + 8, 5) === 0 ? [[5, 1.5]] : [],
    });
  });
}

async function history(seed: number, policy: PolicyName = 'drain-first') {
  const tight = { maxRows: 8, maxModelTokens: 272, kvBytes: 20 * 2 ** 16 };
  const options = modelOptions({ ...tight, policy });
  return withEngine(options, async (engine) => {
    const outcomes = await Promise.all(traffic(seed, 60).map((r) => generate(engine, r)));
    const counters = options.device.counters();
    return { outcomes, stats: engine.stats(), counters };
  });
}

/** How long a prompt took that others may have asked before, and what it found. */
async function timesBehind(own: 'a' | 'b', known: number, asked: number, isOnDevice: boolean) {
  const pageBytes = 2 ** 16;
  const tiers = {
    hostBytes: 64 * pageBytes,
    disk: null,
    spillLaneShare: 1,
    policy: 'lru',
  } as const;
  // Prompts of tests are too short to be worth bringing.
  const kvPrices: EngineOptions['kvPrices'] = (is) => ({ ...is, recomputeNs: () => 1e9 });
  const sizes = { maxRows: 2, maxModelTokens: 272, kvBytes: 20 * pageBytes };
  const options = modelOptions({ ...sizes, tiers, kvPrices, policy: 'resident' });
  const promptOf = (first: number) => Array.from({ length: 200 }, (_, i) => (first + i * 7) % 4096);
  return withEngine(options, async (engine) => {
    const ask = (prompt: number, tenant: string) => {
      return generate(engine, request(`${tenant} ${prompt}`, promptOf(prompt), {}, tenant));
    };
    await ask(known, 'a');
    if (!isOnDevice) await ask(3, 'a');
    const before = engine.stats().prefixHitTokens;
    const startedNs = options.device.clock.nowNs();
    const { finish } = await ask(asked, own);
    const { kv } = engine.stats();
    return {
      tookNs: options.device.clock.nowNs() - startedNs,
      timing: finish.timing,
      hitTokens: engine.stats().prefixHitTokens - before,
      restored: kv.total.restored,
      resident: kv.total.resident,
    };
  });
}

describe('the engine on a modelled device', () => {
  it.each([
    ['on the device', true],
    ['in host memory', false],
  ])('takes as long for what another tenant has %s as for what nobody has', async (_, device) => {
    const hit = await timesBehind('b', 1, 1, device);
    const miss = await timesBehind('b', 1, 2, device);
    expect(hit).toEqual(miss);
    expect([hit.hitTokens, hit.restored]).toEqual([0, 0]);
    // The tenant itself has it sooner.
    const own = await timesBehind('a', 1, 1, device);
    expect(own.hitTokens).toBeGreaterThan(0);
    expect(own.restored > 0).toBe(!device);
    expect(own.tookNs).toBeLessThan(miss.tookNs);
  });

  it.each(POLICY_NAMES)('makes the same history twice under %s', async (policy) => {
    const first = await history(7, policy);
    expect(first.stats.preemptions).toBeGreaterThan(0);
    expect(first.stats.prefixHitTokens).toBeGreaterThan(0);
    expect(await history(7, policy)).toEqual(first);
    expect((await history(8, policy)).stats).not.toEqual(first.stats);
  });

  it('makes the same history for clients that only take note', async () => {
    const told = async (answer: unknown) => {
      const options = modelOptions({ maxRows: 8, maxModelTokens: 272, policy: 'resident' });
      const events: [string, number, number][] = [];
      await withEngine(options, async (engine) => {
        const served = traffic(9, 40).map((wanted) => {
          return new Promise<void>((resolve) => {
            engine.submit(wanted, ({ id, tokens, finish }) => {
              events.push([id, options.device.clock.nowNs(), tokens.length]);
              if (finish === undefined) return answer;
              resolve();
              return undefined;
            });
          });
        });
        await Promise.all(served);
      });
      return events;
    };
    const noted = await told(NOTED);
    expect(noted.length).toBeGreaterThan(200);
    expect(noted).toEqual(await told(undefined));
  });

  it('allocates nothing once it is ready', async () => {
    const options = modelOptions({ maxRows: 8, maxModelTokens: 272, policy: 'resident' });
    await withEngine(options, async (engine) => {
      const ready = options.device.counters().allocatedBytes;
      await Promise.all(traffic(5, 40).map((r) => generate(engine, r)));
      expect(options.device.counters().allocatedBytes).toBe(ready);
    });
  });

  it.each(POLICY_NAMES)(
    '200 requests do not hold up one of another key under %s',
    async (policy) => {
      const options = modelOptions({ maxRows: 8, maxModelTokens: 272, policy });
      await withEngine(options, async (engine) => {
        const of = (tenant: string, id: string, maxTokens: number) =>
          request(id, [1, 2, 3, 4, 5, 6, 7, 8], { maxTokens }, tenant);
        const full = new Promise<void>((resolve) => {
          // Its tenth event comes when every row is taken, and 191 wait.
          let events = 0;
          engine.submit(of('flood', 'first', 200), () => {
            events += 1;
            if (events === 10) resolve();
          });
        });
        const ids = Array.from({ length: 199 }, (_, at) => `f${at}`);
        const flood = ids.map((id) => generate(engine, of('flood', id, 200)));
        await full;
        const { running, waiting, steps } = engine.stats();
        expect([running, waiting]).toEqual([8, 192]);
        const { tokens, finish } = await generate(engine, of('small', 'small', 8));
        expect([tokens.length, finish.reason]).toEqual([8, 'length']);
        // Its own steps, those that were on their way when it came, and few more.
        expect(engine.stats().steps - steps).toBeLessThan(60);
        expect(engine.stats().running + engine.stats().waiting).toBe(200);
        await Promise.all(flood);
      });
    },
  );

  it('makes steps faster while there is nothing to do, never beside a request', async () => {
    const options = modelOptions({ maxRows: 8, maxModelTokens: 272, policy: 'resident' });
    const { device } = options;
    const slices: number[] = [];
    let open = 0;
    const captured: string[] = [];
    const discarded: string[] = [];
    const capture = device.capture.bind(device);
    Object.assign(device, {
      *refine() {
        for (let slice = 0; slice < 3; slice++) {
          slices.push(open);
          yield;
        }
        return true;
      },
      capture: (...args: Parameters<typeof capture>) => {
        captured.push(args[1]);
        return capture(...args);
      },
      discard: ({ label }: { label: string }) => discarded.push(label),
    });
    await withEngine(options, async (engine) => {
      const once = captured.length;
      for (const [index, each] of traffic(5, 6).entries()) {
        open += 1;
        await generate(engine, { ...each, id: `${index}` });
        open -= 1;
        await new Promise((resolve) => setImmediate(resolve));
      }
      while (discarded.length < once) await new Promise((resolve) => setImmediate(resolve));
      expect(slices.length).toBeGreaterThan(0);
      expect(Math.max(...slices)).toBe(0);
      // Each graph was captured anew, and the one before it given back.
      expect(captured.slice(once).sort()).toEqual(discarded.toSorted());
      const again = await generate(engine, request('again', [1, 2, 3], { maxTokens: 9 }));
      expect(again.tokens).toHaveLength(9);
    });
  });

  it.each(POLICY_NAMES)('accounts for every byte the device counted under %s', async (policy) => {
    const { stats, counters } = await history(3, policy);
    const sum = (direction: string) =>
      stats.bridge.totals
        .filter((total) => total.direction === direction)
        .reduce((bytes, total) => bytes + total.bytes, 0);
    expect(sum('h2d')).toBe(counters.h2dBytes);
    expect(sum('d2h')).toBe(counters.d2hBytes);
    const crossings = stats.bridge.totals.reduce((n, total) => n + total.crossings, 0);
    expect(crossings).toBe(counters.copies);
    expect(stats.bridge.lanes.reduce((n, lane) => n + lane.crossings, 0)).toBe(crossings);
  });

  it.each(POLICY_NAMES)('divides among requests what crossed for them under %s', async (policy) => {
    const options = modelOptions({ maxRows: 8, maxModelTokens: 272, policy });
    await withEngine(options, async (engine) => {
      const before = engine.stats().bridge.totals;
      const outcomes = await Promise.all(traffic(9, 40).map((r) => generate(engine, r)));
      await engine.shutdown(1000);
      const after = engine.stats().bridge.totals;
      const shares = outcomes.flatMap(({ finish }) => finish.crossings ?? []);
      for (const { purpose, direction, crossings, bytes } of after) {
        const isSame = (total: { purpose: string; direction: string }) =>
          total.purpose === purpose && total.direction === direction;
        const sum = (field: 'crossings' | 'bytes') =>
          shares.filter(isSame).reduce((all, share) => all + share[field], 0);
        const earlier = before.find(isSame) ?? { crossings: 0, bytes: 0 };
        // Launches that ran ahead of the last request's end are drained for nobody.
        expect(sum('crossings')).toBeLessThanOrEqual(crossings - earlier.crossings + 1e-6);
        expect(sum('crossings')).toBeGreaterThan(crossings - earlier.crossings - 8);
        expect(sum('bytes')).toBeLessThanOrEqual(bytes - earlier.bytes + 1e-3);
      }
    });
  });

  it('gives every request what it asked for', async () => {
    const { outcomes } = await history(5);
    const requests = traffic(5, 60);
    outcomes.forEach(({ tokens, events, finish }, index) => {
      const { sampling, promptTokens } = requests[index]!;
      expect(tokens).toHaveLength(sampling.maxTokens);
      expect(finish.reason).toBe('length');
      if (sampling.logprobs !== undefined) {
        const lines = events.flatMap((event) => event.logprobs ?? []);
        expect(lines).toHaveLength(tokens.length);
        expect(lines.every((line) => line.top.length === 3)).toBe(true);
      }
      const promptLines = events.flatMap((event) => event.promptLogprobs ?? []);
      const wanted = sampling.promptLogprobs === undefined ? 0 : promptTokens.length - 1;
      expect(promptLines).toHaveLength(wanted);
    });
  });

  it('ends cancelled requests and goes on with the others', async () => {
    await withEngine(modelOptions(), async (engine) => {
      const kept = generate(engine, request('kept', [1, 2], { maxTokens: 40 }));
      const outcome = await new Promise<string>((resolve) => {
        let seen = 0;
        engine.submit(request('dropped', [3], { maxTokens: 400 }), (event) => {
          seen += event.tokens.length;
          if (seen === 5) engine.cancel('dropped');
          if (event.finish !== undefined) resolve(event.finish.reason);
        });
      });
      expect(outcome).toBe('cancelled');
      expect((await kept).finish.reason).toBe('length');
      engine.cancel('nobody');
    });
  });

  it('refuses what it cannot do, by name', async () => {
    const options = modelOptions({ maxRows: 1, maxWaiting: 1 });
    await withEngine(options, async (engine) => {
      const refusal = (wanted: GenerationRequest) => {
        try {
          engine.submit(wanted, () => undefined);
        } catch (error) {
          expect(error).toBeInstanceOf(EngineError);
          return [(error as EngineError).code, (error as EngineError).parameter];
        }
        return 'accepted';
      };
      expect(refusal(request('a', []))).toEqual(['bad-request', 'prompt']);
      expect(refusal(request('b', [4096]))).toEqual(['bad-request', 'prompt']);
      expect(refusal(request('c', new Array(512).fill(1)))).toEqual(['prompt-too-long', 'prompt']);
      expect(refusal(request('d', [1], { topP: 0 }))).toEqual(['bad-request', 'top_p']);
      expect(refusal(request('e', [1], { temperature: Number.NaN }))).toEqual([
        'bad-request',
        'temperature',
      ]);
      expect(refusal(request('f', [1], { logitBias: [[9999, 1]] }))).toEqual([
        'bad-request',
        'logit_bias',
      ]);
      expect(refusal(request('g', [1]))).toBe('accepted');
      expect(refusal(request('g', [1]))).toEqual(['bad-request', 'request_id']);
      expect(refusal(request('h', [1]))).toBe('accepted');
      expect(refusal(request('i', [1]))).toEqual(['queue-full', undefined]);
    });
  });

  it('finishes open requests within the grace of a shutdown, and fails them after it', async () => {
    const run = async (graceMs: number) => {
      const options = modelOptions();
      const { createEngine } = await import('./create.ts');
      const engine = await createEngine(options);
      const open = generate(engine, request('open', [1], { maxTokens: 500 }));
      await engine.shutdown(graceMs);
      const late = () => engine.submit(request('late', [1]), () => undefined);
      expect(late).toThrow('shutting down');
      return (await open).finish.reason;
    };
    expect(await run(3_600_000)).toBe('length');
    expect(await run(0)).toBe('error');
  });

  it('runs a large FP8 model with FP8 KV, and says where its memory goes', async () => {
    const model = fileURLToPath(new URL('../configs/qwen3-8b-fp8', import.meta.url));
    const sizes = { maxRows: 2, maxModelTokens: 4096, kvFormat: 'fp8-e4m3' } as const;
    const options = modelOptions({ model, ...sizes });
    await withEngine(options, async (engine) => {
      const { card } = engine;
      expect(card.memory).toMatchObject({ kvFormat: 'fp8-e4m3', kvLimit: 'rows', concurrency: 2 });
      expect(card.memory.weightBytes).toBe(card.weightBytes);
      expect(card.memory.kvBytes).toBe(2 * 4096 * 36 * 2 * 8 * 128);
      const outcome = await generate(engine, request('a', [1, 2, 3], { maxTokens: 5 }));
      expect(outcome.tokens).toHaveLength(5);
    });
  });

  it('makes dummy weights FP8 when told so, and refuses to make others so', async () => {
    const plain = modelOptions({ quantization: 'fp8' });
    await withEngine(plain, async ({ card }) => {
      expect(card.weightBytes).toBeLessThan(0.7 * 2 * 7.1e6);
    });
    const stored = withEngine(modelOptions({ quantization: 'fp8', dummy: false }), async () => {});
    await expect(stored).rejects.toThrow(/--quantization fp8: .*not quantized while loading/s);
  });

  it('ends when it is told to before it was asked for anything', async () => {
    await withEngine(modelOptions(), async (engine) => expect(engine.stats().running).toBe(0));
  });

  it('refuses a context that does not fit, with the arithmetic', async () => {
    const starting = withEngine(modelOptions({ kvBytes: 2 ** 20 }), async () => undefined);
    await expect(starting).rejects.toThrow(/KV cache too small: 256 tokens fit.*--max-model-len/s);
  });
});
