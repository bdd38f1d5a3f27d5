import { decimalSize } from '@bridgekeeper/report';
import { PlanError } from '../errors.ts';
import { type Gpu, knownGpus } from '../gpus/gpu.ts';
import type { PlannedModel } from '../models/model.ts';
import type { EngineFlags } from '../simulate/scenario.ts';

/** What a model and one request of full length need of each GPU, and what it has. Bytes. */
export interface Fit {
  readonly weightBytes: number;
  readonly requestBytes: number;
  readonly activationBytes: number;
  readonly reservedBytes: number;
  readonly neededBytes: number;
  readonly allowedBytes: number;
  /** Requests of full length that fit beside the weights; below 1: it does not fit. */
  readonly requests: number;
}

export interface FitQuestion {
  readonly model: PlannedModel;
  readonly gpu: Gpu;
  readonly flags: Pick<
    EngineFlags,
    'maxModelTokens' | 'maxBatchTokens' | 'memoryUtilization' | 'kvFormat' | 'tensorParallel'
  >;
  readonly isConfidential: boolean;
}

/** A line of activations is some ten vectors of the hidden size, in bf16. */
const ACTIVATION_BYTES_PER_HIDDEN = 20;
const LOGIT_ROWS = 256;
const F32_BYTES = 4;

/** Where the memory of one GPU goes. */
export function fitOf({ model, gpu, flags, isConfidential }: FitQuestion): Fit {
  const { tensorParallel: gpus } = flags;
  const kvPart = flags.kvFormat === 'element' ? 1 : 0.5;
  const { hiddenSize, vocabularySize } = model.spec;
  const weightBytes = model.weightBytes / gpus;
  const kvBytes = model.kvBytesPerToken * flags.maxModelTokens + model.stateBytesPerRequest;
  const requestBytes = (kvBytes * kvPart) / (model.isKvDivided ? gpus : 1);
  const activationBytes =
    flags.maxBatchTokens * hiddenSize * ACTIVATION_BYTES_PER_HIDDEN +
    LOGIT_ROWS * vocabularySize * F32_BYTES;
  const reservedBytes = isConfidential ? gpu.reservedBytesUnderCc.value : 0;
  const allowedBytes = (gpu.memoryBytes.value - reservedBytes) * flags.memoryUtilization;
  const fixedBytes = weightBytes + activationBytes;
  return {
    weightBytes,
    requestBytes,
    activationBytes,
    reservedBytes,
    neededBytes: fixedBytes + requestBytes,
    allowedBytes,
    requests: Math.max(0, (allowedBytes - fixedBytes) / requestBytes),
  };
}

/** Throws PlanError `does-not-fit`: by how much, and what would. */
export function checkFits(question: FitQuestion): void {
  const fit = fitOf(question);
  if (fit.requests >= 1) return;
  const { model, gpu, flags } = question;
  const over = decimalSize(fit.neededBytes - fit.allowedBytes);
  const ways = waysToFit(question);
  throw new PlanError(
    'does-not-fit',
    `${model.name} does not fit ${flags.tensorParallel} x ${gpu.title}: weights ` +
      `${decimalSize(fit.weightBytes)}, one request of ${flags.maxModelTokens} tokens ` +
      `${decimalSize(fit.requestBytes)} and activations ${decimalSize(fit.activationBytes)} ` +
      `a GPU are ${over} more than the ${decimalSize(fit.allowedBytes)} that it may use. ` +
      'What would fit: ' +
      (ways.length === 0 ? 'nothing that is known; a smaller model' : ways.join('; ')),
  );
}

const TENSOR_PARALLEL = [1, 2, 4, 8] as const;
const SHORTEST_TOKENS = 4096;

/** The same question answered otherwise, cheapest first. */
function waysToFit(question: FitQuestion): string[] {
  const { model, gpu, flags } = question;
  const fits = (more: Partial<FitQuestion['flags']>, other: Gpu = gpu) =>
    fitOf({ ...question, gpu: other, flags: { ...flags, ...more } }).requests >= 1;
  const ways: string[] = [];
  for (let tokens = flags.maxModelTokens / 2; tokens >= SHORTEST_TOKENS; tokens /= 2) {
    if (!fits({ maxModelTokens: Math.floor(tokens) })) continue;
    ways.push(`--max-model-len ${Math.floor(tokens)}`);
    break;
  }
  if (flags.kvFormat === 'element' && fits({ kvFormat: 'fp8-e4m3' })) {
    ways.push('--kv-cache-dtype fp8');
  }
  const more = TENSOR_PARALLEL.find(
    (tensorParallel) => tensorParallel > flags.tensorParallel && fits({ tensorParallel }),
  );
  if (more !== undefined) ways.push(`--tensor-parallel-size ${more}`);
  const larger = knownGpus()
    .filter(({ name }) => name !== gpu.name)
    .sort((a, b) => a.memoryBytes.value - b.memoryBytes.value)
    .find((other) => fits({}, other));
  if (larger !== undefined) ways.push(`--gpu ${larger.name}`);
  const quantized = `${model.name}-FP8`;
  const isHalved = fitOf({ ...question, model: { ...model, weightBytes: model.weightBytes / 2 } });
  if (model.spec.quantization === null && isHalved.requests >= 1) {
    ways.push(`weights in FP8 (${quantized}, if there is one)`);
  }
  return ways;
}

/** vLLM's default is all that the model has; what does not fit is halved until it does. */
const MODEL_TOKENS_MAX = 131_072;

/** The longest request to allow where nobody said it. */
export function chooseModelTokens(question: FitQuestion, longestRequest: number): number {
  let tokens = Math.min(question.model.spec.maxPositions, MODEL_TOKENS_MAX);
  for (;;) {
    const fit = fitOf({ ...question, flags: { ...question.flags, maxModelTokens: tokens } });
    const half = Math.floor(tokens / 2);
    if (fit.requests >= 1 || half < Math.max(longestRequest, 1024)) return tokens;
    tokens = half;
  }
}
