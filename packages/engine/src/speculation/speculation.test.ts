import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hash32, openCpuDevice, splitDevice } from '@bridgekeeper/device';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineOptions } from '../create.ts';
import type { EngineStats, GenerationRequest } from '../request/request.ts';
import { writeModelFolder } from '../selftest/model-folder.ts';
import { DELTA_NETS } from '../testing/delta-net-model.ts';
import { LATENT_MODEL } from '../testing/latent-model.ts';
import { engineOptions, generate, request, withEngine } from '../testing/run.ts';
import type { NgramOptions } from './ngram.ts';

const ALWAYS: NgramOptions = { drafts: 4, lookupMin: 1, lookupMax: 3, always: true };

const SPARSE = {
  num_experts: 3,
  num_experts_per_tok: 2,
  moe_intermediate_size: 32,
  shared_expert_intermediate_size: 32,
  norm_topk_prob: true,
};

/**
 * Requests of every kind, the same for the same seed. Few tokens are allowed, so that texts repeat
 * themselves now and then, and some of the prompts are begun alike.
 */
function traffic(seed: number, count: number): GenerationRequest[] {
  const draw = (counter: number, below: number) => (hash32(seed, 13, counter) >>> 0) % below;
  return Array.from({ length: count }, (_, index) => {
    const at = index * 32;
    const length = 1 + draw(at, 40);
    const prompt = Array.from({ length }, (_, i) => 5 + ((i * 5 + draw(at + 1, 3)) % 7));
    const allowed = [undefined, [5], [5, 6], [5, 6, 7, 8]][draw(at + 2, 4)];
    return request(`r${index}`, prompt, {
      maxTokens: 1 + draw(at + 3, 40),
      temperature: [0, 0.8, 1.5][draw(at + 4, 3)]!,
      topK: [0, 7][draw(at + 5, 2)]!,
      topP: [1, 0.8][draw(at + 6, 2)]!,
      allowedTokenIds: allowed,
      frequencyPenalty: draw(at + 7, 6) === 0 ? 0.7 : 0,
      stopTokenIds: draw(at + 8, 3) === 0 ? [6, 11] : [],
      minTokens: draw(at + 9, 2),
      logprobs: draw(at + 10, 8) === 0 ? 2 : undefined,
      seed: BigInt(draw(at + 11, 1e6)),
    });
  });
}

describe('speculation by n-gram on the cpu device', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-speculation-'));
    await writeModelFolder(folder, { architecture: 'Qwen3ForCausalLM' });
  });
  afterAll(() => rm(folder, { recursive: true }));

  async function run(
    requests: readonly GenerationRequest[],
    overrides: Partial<EngineOptions> = {},
  ): Promise<{ readonly answers: unknown[]; readonly stats: EngineStats }> {
    const alone = overrides.device ?? (await openCpuDevice({ threads: 1 }));
    const options = engineOptions(alone, {
      model: folder,
      maxRows: 12,
      maxModelTokens: 96,
      maxBatchTokens: 64,
      pageTokens: 8,
      ...overrides,
    });
    return withEngine(options, async (engine) => {
      const outcomes = await Promise.all(requests.map((wanted) => generate(engine, wanted)));
      const answers = outcomes.map(({ tokens, events, finish }) => ({
        tokens,
        ranks: events.flatMap(({ logprobs = [] }) => logprobs.map(({ rank }) => rank)),
        reason: finish.reason,
        stopToken: finish.stopToken,
      }));
      const stats = engine.stats();
      expect(stats.kvUsage).toBe(0);
      return { answers, stats };
    });
  }

  /** Pages for few requests of full length. */
  async function kvBytes(pages: number): Promise<number> {
    const { readModelSpec } = await import('../models/folder.ts');
    const { pageBytes } = await import('../runner/shapes.ts');
    const spec = await readModelSpec(folder);
    return pages * pageBytes(spec, { pageTokens: 8, kvFormat: 'element' }, 4);
  }

  it('gives the tokens that there are without it, where pages are short', async () => {
    const requests = traffic(3, 24);
    const without = await run(requests);
    const tight = await kvBytes(20);
    for (const policy of ['overlap', 'resident'] as const) {
      const options = { policy, kvBytes: tight, speculation: ALWAYS };
      const { answers, stats } = await run(requests, options);
      expect(answers, policy).toEqual(without.answers);
      const { draftTokens, acceptedTokens } = stats.speculation!;
      expect(acceptedTokens, policy).toBeGreaterThan(0);
      expect(draftTokens, policy).toBeGreaterThan(acceptedTokens);
    }
  });

  it('gives the tokens that there are without it of latent attention, too', async () => {
    const latent = join(folder, 'latent');
    await mkdir(latent);
    await writeModelFolder(latent, LATENT_MODEL);
    const requests = traffic(3, 8);
    const without = await run(requests, { model: latent });
    const options = { model: latent, policy: 'resident', speculation: ALWAYS } as const;
    const { answers, stats } = await run(requests, options);
    expect(answers).toEqual(without.answers);
    expect(stats.speculation!.draftTokens).toBeGreaterThan(0);
  });

  describe.each(['Qwen3NextForCausalLM', 'Qwen3_5ForCausalLM'])('of %s', (architecture) => {
    let nets: string;
    beforeAll(async () => {
      nets = join(folder, architecture);
      await mkdir(nets);
      const isNext = architecture.startsWith('Qwen3Next');
      const config = { ...DELTA_NETS, ...(isNext && SPARSE) };
      await writeModelFolder(nets, { architecture, tiedHead: !isNext, config });
    });

    it('gives the tokens that there are without it, whose states cannot go back', async () => {
      const requests = traffic(3, 16);
      const without = await run(requests, { model: nets });
      for (const policy of ['overlap', 'drain-first', 'resident'] as const) {
        const { answers, stats } = await run(requests, {
          model: nets,
          policy,
          speculation: ALWAYS,
        });
        expect(answers, policy).toEqual(without.answers);
        const { draftTokens, acceptedTokens } = stats.speculation!;
        expect(acceptedTokens, policy).toBeGreaterThan(0);
        expect(draftTokens, policy).toBeGreaterThan(acceptedTokens);
      }
    });

    it('goes on from states that were kept behind drafts, where rows are few', async () => {
      const turns = traffic(8, 8);
      const again = turns.map(({ promptTokens, sampling }, i) => {
        const prompt = [...promptTokens, ...Array<number>(20).fill(5 + (i % 3))];
        return request(`again ${i}`, prompt, sampling);
      });
      const requests = [...turns, ...again];
      const without = await run(requests, { model: nets, prefixCaching: false });
      const options = { model: nets, maxRows: 3, policy: 'resident' } as const;
      const { answers, stats } = await run(requests, { ...options, speculation: ALWAYS });
      expect(answers).toEqual(without.answers);
      expect(stats.speculation!.acceptedTokens).toBeGreaterThan(0);
      expect(stats.prefixHitTokens).toBeGreaterThan(0);
    });
  });

  it('decides by what it measures, and gives the same tokens whenever it drafts', async () => {
    const requests = traffic(4, 12);
    const without = await run(requests, { policy: 'resident' });
    const speculation = { drafts: 3, lookupMin: 2, lookupMax: 4 };
    const { answers, stats } = await run(requests, { policy: 'resident', speculation });
    expect(answers).toEqual(without.answers);
    expect(stats.speculation!.reason).toMatch(/a step with 3 drafts is expected to bring/);
  });

  it('brings all of them at once where the text repeats itself', async () => {
    const wanted = request('a', [7, 8, 9], { maxTokens: 41, allowedTokenIds: [5] });
    const { stats, answers } = await run([wanted], { speculation: ALWAYS });
    expect(answers).toMatchObject([{ tokens: Array(41).fill(5), reason: 'length' }]);
    const { drafts, draftTokens, acceptedTokens } = stats.speculation!;
    // The first two come alone: nothing was like them before. The last step has no room for more.
    expect(stats.steps).toBe(2 + Math.ceil(39 / 5));
    expect([drafts, draftTokens]).toEqual([8, 7 * 4 + 3]);
    expect(acceptedTokens).toBe(31);
  });

  it('gives other parts of the answer nothing to do with what a row was before', async () => {
    // Two rows, used again and again: what others have said there drafts nothing right or wrong.
    const requests = traffic(5, 10);
    const one = await run(requests, { maxRows: 1, speculation: ALWAYS });
    const many = await run(requests, { maxRows: 2, prefixCaching: false });
    expect(one.answers).toEqual(many.answers);
  });

  it('drafts nothing for rows whose tokens depend on more than those before them', async () => {
    const base = { maxTokens: 20, allowedTokenIds: [5] };
    const all = [
      request('a', [7, 8], { ...base, frequencyPenalty: 0.5 }),
      request('b', [7, 8], { ...base, logprobs: 1 }),
    ];
    const { stats } = await run(all, { speculation: ALWAYS });
    expect(stats.speculation).toMatchObject({ drafts: 0, draftTokens: 0, acceptedTokens: 0 });
  });

  it('is the same for two ranks that share the model', async () => {
    const wanted = [
      request('a', [7, 8, 9], { maxTokens: 20, allowedTokenIds: [5, 6] }),
      request('b', [7, 8], { maxTokens: 21, allowedTokenIds: [5] }),
    ];
    const options = { maxRows: 2, speculation: ALWAYS };
    const alone = await run(wanted, options);
    const device = splitDevice(await openCpuDevice({ threads: 1 }), 2);
    const shared = await run(wanted, { ...options, device });
    expect(shared.answers).toEqual(alone.answers);
    expect(shared.stats.speculation!.acceptedTokens).toBeGreaterThan(10);
  });

  it('is refused where nothing is generated', async () => {
    const device = await openCpuDevice({ law: null, threads: 1 });
    const options = engineOptions(device, { model: folder, speculation: ALWAYS, task: 'embed' });
    const { createEngine } = await import('../create.ts');
    await expect(createEngine(options)).rejects.toMatchObject({
      code: 'bad-model',
      message: expect.stringContaining('--speculative-config: --task embed') as string,
    });
    await device.close();
  });
});
