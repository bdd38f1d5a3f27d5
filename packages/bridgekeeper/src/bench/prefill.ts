import { floorsNs, measurePrefill, prefillWork } from '@bridgekeeper/engine';
import type { BenchRun } from './result.ts';
import {
  counts,
  countsOf,
  ROOFLINE_PARAMETERS,
  type RooflineBench,
  type RooflineValues,
  withModel,
} from './roofline.ts';
import type { Suite } from './suite.ts';

interface Values extends RooflineValues {
  readonly 'chunk-tokens': readonly string[];
  readonly 'prefix-tokens': readonly string[];
}

/** Prompt chunks on the bare device, against the rate of a large product. */
export const PREFILL_SUITE: Suite = {
  name: 'prefill',
  summary: 'time of a prompt chunk against its two floors: bytes and operations',
  parameters: {
    ...ROOFLINE_PARAMETERS,
    'chunk-tokens': { kind: counts, default: '128', help: 'tokens of the chunk' },
    'prefix-tokens': { kind: counts, default: '0', help: 'tokens before it' },
  },
  async run(given, progress) {
    const values = given as unknown as Values;
    const chunks = countsOf('chunk-tokens', values['chunk-tokens'], 2 ** 20);
    const prefixes = countsOf('prefix-tokens', values['prefix-tokens'], 2 ** 20);
    const longest = Math.max(...chunks, 1);
    const sizes = {
      maxRows: 1,
      maxBatchTokens: longest,
      maxModelTokens: longest + Math.max(...prefixes),
    };
    return withModel(values, sizes, async (bench) => {
      const runs: BenchRun[] = [];
      for (const prefixTokens of prefixes) {
        for (const tokens of chunks) {
          runs.push(await measure(bench, values.repeats, tokens, prefixTokens));
          progress(lineOf(runs.at(-1)!));
        }
      }
      return runs;
    });
  },
};

async function measure(
  { device, model, rates, parameters }: RooflineBench,
  repeats: number,
  tokens: number,
  prefixTokens: number,
): Promise<BenchRun> {
  const setting = { tokens, prefixTokens, repeats };
  const { stepNs, minNs, maxNs, launchFraction } = await measurePrefill(device, model, setting);
  const work = prefillWork(model.parts, tokens, prefixTokens);
  const { bytesNs, operationsNs } = floorsNs(work, rates);
  return {
    parameters: { ...parameters, batch: 1, chunkTokens: tokens, contextTokens: prefixTokens },
    metrics: {
      stepMs: stepNs / 1e6,
      bytesFloorMs: bytesNs / 1e6,
      operationsFloorMs: operationsNs / 1e6,
      floorMs: Math.max(bytesNs, operationsNs) / 1e6,
      floorFraction: Math.max(bytesNs, operationsNs) / stepNs,
      inputTokensPerSecond: (tokens * 1e9) / stepNs,
      tflops: work.operations / stepNs / 1e3,
      matmulTflops: rates.matmulFlopsPerSecond / 1e12,
      launchFraction,
    },
    repeats,
    spread: { stepMs: [minNs / 1e6, maxNs / 1e6] },
  };
}

function lineOf({ parameters, metrics }: BenchRun): string {
  const percent = (100 * metrics.floorFraction!).toFixed(1);
  return (
    `${parameters.chunkTokens} tokens behind ${parameters.contextTokens}: ` +
    `${metrics.stepMs!.toFixed(2)} ms, ${metrics.tflops!.toFixed(0)} TFLOP/s, ${percent} % of floor`
  );
}
