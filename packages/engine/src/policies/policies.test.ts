import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { hash32, openCpuDevice } from '@bridgekeeper/device';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineStats, GenerationRequest } from '../request/request.ts';
import { writeModelFolder } from '../selftest/model-folder.ts';
import { engineOptions, request, withEngine } from '../testing/run.ts';
import { POLICY_NAMES, type PolicyName } from './policy.ts';

/** Requests of every kind, the same for the same seed; every seventh is cancelled on its way. */
function traffic(seed: number, count: number, vocab: number): GenerationRequest[] {
  const draw = (counter: number, below: number) => (hash32(seed, 9, counter) >>> 0) % below;
  return Array.from({ length: count }, (_, index) => {
    const at = index * 32;
    const length = 1 + draw(at, 40);
    const prompt = Array.from({ length }, (_, i) => (i * 5 + draw(at + 1, 3)) % vocab);
    return request(
      `r${index}`,
      prompt,
      {
        maxTokens: 1 + draw(at + 2, 40),
        temperature: [0, 0.8, 1.5][draw(at + 3, 3)]!,
        topK: [0, 7][draw(at + 4, 2)]!,
        topP: [1, 0.8][draw(at + 5, 2)]!,
        minP: [0, 0.02][draw(at + 6, 2)]!,
        repetitionPenalty: [1, 1.4][draw(at + 7, 2)]!,
        frequencyPenalty: [0, 0.7][draw(at + 8, 2)]!,
        logitBias: draw(at + 9, 4) === 0 ? [[3, 2]] : [],
        stopTokenIds: draw(at + 10, 2) === 0 ? [draw(at + 11, vocab), draw(at + 12, vocab)] : [],
        minTokens: draw(at + 13, 2),
        logprobs: draw(at + 14, 5) === 0 ? 2 : undefined,
        promptLogprobs: draw(at + 15, 9) === 0 ? 1 : undefined,
        seed: BigInt(draw(at + 16, 1e6)),
      },
      `tenant ${draw(at + 17, 2)}`,
    );
  });
}

const CANCEL_AFTER = 3;

describe('step policies on the cpu device', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-policies-'));
    await writeModelFolder(folder, { architecture: 'Qwen3ForCausalLM' });
  });
  afterAll(() => rm(folder, { recursive: true }));

  async function run(
    policy: PolicyName,
    law: 'b300-cc' | 'h100-native' | null,
    model = folder,
    count = 200,
  ) {
    const imposed = law === null ? null : profileLaw(referenceProfile(law));
    const device = await openCpuDevice({ law: imposed, threads: 1 });
    const options = engineOptions(device, {
      policy,
      model,
      maxRows: 12,
      maxModelTokens: 96,
      maxBatchTokens: 64,
      pageTokens: 8,
      kvBytes: undefined,
    });
    const { kvBytes, requests } = await sized(options, count);
    const texts: unknown[] = [];
    let stats: EngineStats | undefined;
    await withEngine({ ...options, kvBytes }, async (engine) => {
      await Promise.all(
        requests.map(
          (wanted, index) =>
            new Promise<void>((resolve) => {
              const tokens: number[] = [];
              const logprobs: number[] = [];
              const cancelled = index % 7 === 0;
              engine.submit(wanted, (event) => {
                tokens.push(...event.tokens);
                logprobs.push(...(event.logprobs ?? []).map((line) => line.rank));
                logprobs.push(...(event.promptLogprobs ?? []).map((line) => line.rank));
                if (cancelled && tokens.length >= CANCEL_AFTER) engine.cancel(wanted.id);
                if (event.finish === undefined) return;
                // When a cancellation takes effect depends on timing; what came before does not.
                texts[index] = cancelled
                  ? tokens.slice(0, CANCEL_AFTER)
                  : { tokens, logprobs, reason: event.finish.reason };
                resolve();
              });
            }),
        ),
      );
      stats = engine.stats();
      expect(stats.running + stats.waiting).toBe(0);
      expect(stats.kvUsage).toBe(0);
      const counters = device.counters();
      const bytes = stats.bridge.totals.reduce((sum, total) => sum + total.bytes, 0);
      expect(bytes).toBe(counters.h2dBytes + counters.d2hBytes);
    });
    return { texts, stats: stats! };
  }

  /** KV for few full sequences only, so that preemptions happen. */
  async function sized(options: ReturnType<typeof engineOptions>, count: number) {
    const { readModelSpec } = await import('../models/folder.ts');
    const { pageBytes } = await import('../runner/shapes.ts');
    const spec = await readModelSpec(options.model);
    const kvBytes = 40 * pageBytes(spec, { pageTokens: 8, kvFormat: 'element' }, 4);
    return { kvBytes, requests: traffic(11, count, spec.vocabularySize) };
  }

  it('give the same tokens under every policy and law', async () => {
    const reference = await run('drain-first', null);
    expect(reference.stats.preemptions).toBeGreaterThan(0);
    expect(reference.stats.prefixHitTokens).toBeGreaterThan(0);
    for (const policy of POLICY_NAMES) {
      for (const law of [null, 'h100-native', 'b300-cc'] as const) {
        if (policy === 'drain-first' && law === null) continue;
        const { texts } = await run(policy, law);
        expect([policy, law, texts]).toEqual([policy, law, reference.texts]);
      }
    }
  });

  it('give the same tokens from experts, whatever else is in the batch', async () => {
    const experts = join(folder, 'experts');
    await writeModelFolder(experts, {
      architecture: 'GptOssForCausalLM',
      quantization: { quant_method: 'mxfp4' },
      config: {
        attention_bias: true,
        sliding_window: 11,
        num_local_experts: 5,
        num_experts_per_tok: 2,
      },
    });
    const reference = await run('drain-first', null, experts, 16);
    for (const policy of ['overlap', 'resident'] as const) {
      const { texts } = await run(policy, 'b300-cc', experts, 16);
      expect([policy, texts]).toEqual([policy, reference.texts]);
    }
  });

  it('keep the launching thread out of crossings where they have threads for them', async () => {
    for (const policy of POLICY_NAMES) {
      const { stats } = await run(policy, 'b300-cc');
      const inline = stats.bridge.lanes.find((lane) => lane.kind === 'inline')!;
      const weights = stats.bridge.totals.find((total) => total.purpose === 'weights')!;
      const stepCrossings = inline.crossings - weights.crossings;
      if (policy === 'drain-worker' || policy === 'resident') expect(stepCrossings).toBe(0);
      else expect(stepCrossings).toBeGreaterThan(100);
    }
  });
});
