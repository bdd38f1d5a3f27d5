import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { invariant, run } from '@bridgekeeper/bridge';
import { slice } from '@bridgekeeper/device';
import { z } from 'zod';
import { type EngineOptions, type PreparedModel, prepareModel, startEngine } from '../create.ts';
import type { Engine } from '../engine.ts';
import { EngineError } from '../request/request.ts';
import { GREEDY } from '../request/sampling.ts';
import { Sequence } from '../scheduler/sequence.ts';

const goldenFile = z.array(
  z.object({
    ids: z.array(z.number()),
    /** For each position, the ids and values of the largest logits in float64. */
    top8_ids: z.array(z.array(z.number())),
    top8_logits: z.array(z.array(z.number())),
    greedy: z.array(z.number()),
  }),
);

/** How one golden prompt came out. */
export interface GoldenResult {
  readonly promptTokens: number;
  /** Largest difference of a top logit at any position. */
  readonly worstError: number;
  /** Norm of the differences over the norm of the golden logits. */
  readonly relativeError: number;
  /** Greedy tokens that agree before the first that differs. */
  readonly greedyAgreed: number;
  readonly greedyTokens: number;
}

/**
 * Runs a model folder's golden.json (logits and greedy tokens computed in float64) through the
 * whole engine on `options.device` and says how far the results are from it. Closes neither device
 * nor anything else of the caller's.
 */
export async function runGolden(options: EngineOptions): Promise<readonly GoldenResult[]> {
  const text = await readFile(join(options.model, 'golden.json'), 'utf8');
  const golden = goldenFile.parse(JSON.parse(text));
  const model = await prepareModel({ ...options, prefixCaching: false });
  const logits: Float32Array[][] = [];
  for (const { ids, greedy } of golden)
    logits.push(await promptLogits(model, [...ids, greedy[0]!]));
  const engine = await startEngine(options, model);
  const results: GoldenResult[] = [];
  for (const [index, expected] of golden.entries()) {
    const tokens = await greedyTokens(
      engine,
      `golden ${index}`,
      expected.ids,
      expected.greedy.length,
    );
    const differing = expected.greedy.findIndex((token, at) => tokens[at] !== token);
    results.push({
      promptTokens: expected.ids.length,
      ...compareLogits(logits[index]!, expected.top8_ids, expected.top8_logits),
      greedyAgreed: differing < 0 ? expected.greedy.length : differing,
      greedyTokens: expected.greedy.length,
    });
  }
  return results;
}

function compareLogits(
  lines: readonly Float32Array[],
  ids: readonly (readonly number[])[],
  values: readonly (readonly number[])[],
): Pick<GoldenResult, 'worstError' | 'relativeError'> {
  let worstError = 0;
  let differences = 0;
  let norm = 0;
  ids.forEach((tokens, position) => {
    tokens.forEach((token, rank) => {
      const expected = values[position]![rank]!;
      const error = Math.abs(lines[position]![token]! - expected);
      // A NaN must not pass as the smallest error.
      worstError = error <= worstError ? worstError : Number.isNaN(error) ? Infinity : error;
      differences += error * error;
      norm += expected * expected;
    });
  });
  return { worstError, relativeError: Math.sqrt(differences / norm) };
}

/** Logits at every position of `tokens` but the last, by way of a prompt logprobs request. */
async function promptLogits(
  model: PreparedModel,
  tokens: readonly number[],
): Promise<Float32Array[]> {
  const { scheduler, runner, traffic, parts, spec } = model;
  const request = {
    id: 'logits',
    tenant: 'golden',
    promptTokens: Uint32Array.from(tokens),
    sampling: { ...GREEDY, maxTokens: 1, promptLogprobs: 0 },
  };
  scheduler.add(new Sequence(request, 0n, 0, 0));
  const lineBytes = spec.vocabularySize * 4;
  const lines: Float32Array[] = [];
  while (scheduler.busy) {
    const plan = scheduler.plan(0);
    const { launching } = traffic;
    const routes = { command: launching, drain: launching, mode: 'when-done' } as const;
    const { launched, finished } = await run(runner.start(plan, routes));
    const { results } = await finished;
    const count = launched.promptLines.length;
    const from = slice(parts.buffers.logits, 0, count * lineBytes);
    const { buffer } = await traffic.download(from, parts.stream, 'probe');
    for (let line = 0; line < count; line++) {
      lines.push(new Float32Array(buffer, line * lineBytes, spec.vocabularySize));
    }
    scheduler.commit(plan, results, 0);
  }
  invariant(lines.length === tokens.length - 1, 'every position but the last has a line');
  return lines;
}

async function greedyTokens(
  engine: Engine,
  id: string,
  prompt: readonly number[],
  maxTokens: number,
): Promise<number[]> {
  const tokens: number[] = [];
  const sampling = { ...GREEDY, maxTokens };
  const request = { id, tenant: 'golden', promptTokens: Uint32Array.from(prompt), sampling };
  await new Promise<void>((resolve, reject) => {
    engine.submit(request, (event) => {
      tokens.push(...event.tokens);
      if (event.finish?.reason === 'error') {
        reject(new EngineError('engine-failed', event.finish.message ?? 'the engine failed'));
      } else if (event.finish !== undefined) resolve();
    });
  });
  return tokens;
}
