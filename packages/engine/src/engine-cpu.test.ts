import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Law, profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { hash32, openCpuDevice } from '@bridgekeeper/device';
import { describe, expect, it } from 'vitest';
import type { EngineOptions } from './create.ts';
import { POLICY_NAMES } from './policies/policy.ts';
import type { GenerationRequest } from './request/request.ts';
import { runGolden } from './selftest/golden.ts';
import { writeModelFolder } from './selftest/model-folder.ts';
import { engineOptions, generate, request, withEngine } from './testing/run.ts';

async function cpuOptions(
  overrides: Partial<EngineOptions> = {},
  law: Law | null = null,
): Promise<EngineOptions> {
  const device = await openCpuDevice({ law, threads: 2 });
  return engineOptions(device, { maxRows: 16, ...overrides });
}

/** Random requests with mixed sampling, the same for the same seed. */
function traffic(seed: number, count: number): GenerationRequest[] {
  const draw = (counter: number, below: number) => (hash32(seed, 2, counter) >>> 0) % below;
  return Array.from({ length: count }, (_, index) => {
    const at = index * 16;
    const prompt = Array.from(
      { length: 1 + draw(at, 60) },
      (_, i) => 20 + ((i * 31 + draw(at + 1, 4)) % 300),
    );
    return request(`r${index}`, prompt, {
      maxTokens: 1 + draw(at + 2, 30),
      temperature: [0, 0.7, 1.3][draw(at + 3, 3)]!,
      topK: [0, 5, 50][draw(at + 4, 3)]!,
      topP: [1, 0.9, 0.3][draw(at + 5, 3)]!,
      minP: [0, 0.05][draw(at + 6, 2)]!,
      repetitionPenalty: [1, 1.3][draw(at + 7, 2)]!,
      presencePenalty: [0, 0.4][draw(at + 8, 2)]!,
      seed: BigInt(draw(at + 9, 1e6)),
    });
  });
}

async function tokensOf(options: EngineOptions, requests: readonly GenerationRequest[]) {
  return withEngine(options, async (engine) => {
    const outcomes = await Promise.all(requests.map((wanted) => generate(engine, wanted)));
    const tokens = outcomes.map((outcome) => outcome.tokens);
    return { tokens, stats: engine.stats(), counters: options.device.counters() };
  });
}

describe('the engine on the cpu device', () => {
  it('reproduces the golden logits and greedy tokens of the bundled model', async () => {
    const options = await cpuOptions();
    try {
      const results = await runGolden(options);
      expect(results).toHaveLength(6);
      for (const result of results) {
        expect(result.worstError).toBeLessThan(1e-3);
        expect(result.greedyAgreed).toBe(64);
      }
    } finally {
      await options.device.close();
    }
  });

  it('gives the same tokens in any batch, with preemptions, chunks and prefix hits', async () => {
    const requests = traffic(1, 24);
    const roomy = await tokensOf(await cpuOptions(), requests);
    const tight = await tokensOf(
      await cpuOptions({
        maxBatchTokens: 24,
        maxModelTokens: 96,
        kvBytes: 7 * 2 ** 17,
        maxRows: 6,
      }),
      requests,
    );
    expect(tight.stats.preemptions).toBeGreaterThan(0);
    expect(tight.tokens).toEqual(roomy.tokens);
    const alone = await tokensOf(await cpuOptions({ prefixCaching: false, maxRows: 1 }), requests);
    expect(alone.tokens).toEqual(roomy.tokens);
  });

  it('gives the same tokens under a law, and accounts for every byte that crossed', async () => {
    const requests = traffic(2, 8);
    const free = await tokensOf(await cpuOptions(), requests);
    const lawful = await tokensOf(
      await cpuOptions({}, profileLaw(referenceProfile('b300-cc'))),
      requests,
    );
    expect(lawful.tokens).toEqual(free.tokens);
    for (const { stats, counters } of [free, lawful]) {
      const bytes = (direction: string) =>
        stats.bridge.totals
          .filter((total) => total.direction === direction)
          .reduce((sum, total) => sum + total.bytes, 0);
      expect(bytes('h2d')).toBe(counters.h2dBytes);
      expect(bytes('d2h')).toBe(counters.d2hBytes);
    }
  });

  it('gives the same tokens of weights in 4 bits under every policy and law', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'int4-policies-'));
    try {
      const quantization = { quant_method: 'awq', bits: 4, group_size: 32, zero_point: true };
      await writeModelFolder(folder, { quantization });
      const requests = traffic(3, 6);
      const law = profileLaw(referenceProfile('b300-cc'));
      const first = await tokensOf(await cpuOptions({ model: folder }), requests);
      expect(first.tokens.flat().length).toBeGreaterThan(20);
      for (const policy of POLICY_NAMES) {
        for (const imposed of [null, law]) {
          const options = await cpuOptions({ model: folder, policy }, imposed);
          expect((await tokensOf(options, requests)).tokens, policy).toEqual(first.tokens);
        }
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('reports logprobs that agree with each other', async () => {
    await withEngine(await cpuOptions(), async (engine) => {
      const prompt = [47, 1190, 614, 259, 593, 471];
      const sampling = { maxTokens: 3, logprobs: 2, promptLogprobs: 1 };
      const { events, tokens } = await generate(engine, request('a', prompt, sampling));
      const lines = events.flatMap((event) => event.logprobs ?? []);
      lines.forEach((line, index) => {
        expect(line.rank).toBe(1);
        expect(line.top[0]).toEqual({ token: tokens[index], logprob: line.logprob });
        expect(line.top[1]!.logprob).toBeLessThanOrEqual(line.logprob);
      });
      const longer = request('b', [...prompt, ...tokens], { maxTokens: 1, promptLogprobs: 0 });
      const again = (await generate(engine, longer)).events[0]!.promptLogprobs!;
      const tail = again.slice(-3).map((line) => line.logprob);
      for (const [index, line] of lines.entries()) {
        expect(tail[index]).toBeCloseTo(line.logprob, 4);
      }
    });
  });

  it('samples allowed tokens alone, and banned ones never', async () => {
    await withEngine(await cpuOptions(), async (engine) => {
      const prompt = [47, 1190, 614, 259, 593, 471];
      const sampling = { maxTokens: 12, temperature: 1.5, seed: 3n };
      const free = (await generate(engine, request('a', prompt, sampling))).tokens;
      const allowedTokenIds = [300, 301, 302, 303];
      const allowed = { ...sampling, allowedTokenIds, topK: 50 };
      const { tokens } = await generate(engine, request('b', prompt, allowed));
      expect(tokens).toHaveLength(12);
      expect(tokens.filter((token) => !allowedTokenIds.includes(token))).toEqual([]);
      expect(new Set(tokens).size).toBeGreaterThan(1);
      const banned = { ...allowed, bannedTokenIds: [301, 302], logitBias: [[303, -100]] as const };
      const rest = (await generate(engine, request('c', prompt, banned))).tokens;
      expect(rest).toEqual(Array(12).fill(300));
      const without = { ...sampling, bannedTokenIds: free };
      const other = (await generate(engine, request('d', prompt, without))).tokens;
      expect(other.filter((token) => free.includes(token))).toEqual([]);
      // What a row's earlier occupant was forbidden is not its own affair.
      expect((await generate(engine, request('e', prompt, sampling))).tokens).toEqual(free);
    });
  });

  it('ends a request whose logits are not numbers with an error, and goes on', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'nan-'));
    try {
      await writeModelFolder(folder);
      const path = join(folder, 'model.safetensors');
      const bytes = await readFile(path);
      const header = JSON.parse(bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE())));
      const [from, to] = header['model.norm.weight'].data_offsets as [number, number];
      const start = 8 + Number(bytes.readBigUInt64LE());
      bytes.fill(0xff, start + from, start + to);
      await writeFile(path, bytes);
      await withEngine(await cpuOptions({ model: folder }), async (engine) => {
        const sampling = { maxTokens: 8, temperature: 1, logprobs: 1 };
        for (const id of ['a', 'b']) {
          const { events, tokens } = await generate(engine, request(id, [1, 2, 3], sampling));
          expect(tokens).toEqual([]);
          expect(events.flatMap((event) => event.logprobs ?? [])).toEqual([]);
          const message = expect.stringContaining('NaN') as string;
          expect(events.at(-1)?.finish).toMatchObject({ reason: 'error', message });
        }
        expect(engine.stats().running).toBe(0);
      });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('ends at stop ids, not before min_tokens', async () => {
    await withEngine(await cpuOptions(), async (engine) => {
      const prompt = [47, 1190, 614, 259, 593, 471, 314, 259, 505];
      const free = await generate(engine, request('a', prompt, { maxTokens: 12 }));
      const stop = free.tokens[3]!;
      const stopTokenIds = [stop];
      const stopped = await generate(engine, request('b', prompt, { maxTokens: 12, stopTokenIds }));
      expect(stopped.finish).toMatchObject({ reason: 'stop', stopToken: stop });
      expect(stopped.tokens).toEqual(free.tokens.slice(0, free.tokens.indexOf(stop) + 1));
      const sampling = { maxTokens: 12, minTokens: 8, stopTokenIds };
      const held = await generate(engine, request('c', prompt, sampling));
      expect(held.tokens.slice(0, 8)).not.toContain(stop);
      expect(held.tokens.length).toBeGreaterThanOrEqual(8);
    });
  });
});
