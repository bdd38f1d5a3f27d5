import { fileURLToPath } from 'node:url';
import type { Device } from '@bridgekeeper/device';
import { createEngine, type EngineOptions } from '../create.ts';
import type { Engine } from '../engine.ts';
import type { GenerationEvent, GenerationRequest, SamplingParams } from '../request/request.ts';
import { GREEDY } from '../request/sampling.ts';

/** The bundled model's folder. */
const STORYTELLER = fileURLToPath(new URL('../../../../models/storyteller', import.meta.url));

/** Options for a small engine over the bundled model, to be overridden as a test needs. */
export function engineOptions(
  device: Device,
  overrides: Partial<EngineOptions> = {},
): EngineOptions {
  return {
    device,
    policy: 'drain-first',
    burst: { tollNs: 330_000, interTokenLimitNs: 50e6 },
    model: STORYTELLER,
    dummy: false,
    quantization: undefined,
    kvFormat: 'element',
    maxModelTokens: undefined,
    maxRows: 8,
    maxBatchTokens: 128,
    pageTokens: 16,
    memoryUtilization: 0.9,
    kvBytes: undefined,
    prefixCaching: true,
    chunkedPrefill: true,
    maxWaiting: 1000,
    seed: 0,
    ...overrides,
  };
}

export function request(
  id: string,
  prompt: readonly number[],
  sampling: Partial<SamplingParams> = {},
  tenant = 'tenant',
): GenerationRequest {
  const promptTokens = Uint32Array.from(prompt);
  return { id, tenant, promptTokens, sampling: { ...GREEDY, ...sampling } };
}

/** Everything one request brought. */
export interface Outcome {
  readonly tokens: number[];
  readonly events: GenerationEvent[];
  finish: NonNullable<GenerationEvent['finish']>;
}

/** Submits a request and waits for its end. */
export function generate(engine: Engine, wanted: GenerationRequest): Promise<Outcome> {
  return new Promise((resolve) => {
    const tokens: number[] = [];
    const events: GenerationEvent[] = [];
    engine.submit(wanted, (event) => {
      tokens.push(...event.tokens);
      events.push(event);
      if (event.finish !== undefined) resolve({ tokens, events, finish: event.finish });
    });
  });
}

/** Starts an engine, hands it to `use`, and shuts it (and its device) down whatever happens. */
export async function withEngine<T>(
  options: EngineOptions,
  use: (engine: Engine) => Promise<T>,
): Promise<T> {
  const engine = await createEngine(options);
  try {
    return await use(engine);
  } finally {
    await engine.shutdown(0);
  }
}
