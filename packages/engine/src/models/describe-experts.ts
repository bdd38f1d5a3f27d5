import { MXFP4_BLOCK } from '@bridgekeeper/device';
import type { ConfigReader } from './config-reader.ts';
import type { ExpertsFeedForward } from './spec.ts';

/** Experts that a router may have here: what every device sorts by. */
const MAX_EXPERTS = 1024;
const MAX_EXPERTS_PER_TOKEN = 32;

export const SWIGLU = { limit: Number.POSITIVE_INFINITY, alpha: 1, shift: 0 } as const;

/** How many there are, and how many of them a token gets. */
export function counts(
  config: ConfigReader,
  expertsKey: string,
  perTokenKey = 'num_experts_per_tok',
) {
  const experts = config.integer(expertsKey, 1);
  const expertsPerToken = config.integer(perTokenKey, 1);
  for (const [key, value, most] of [
    [expertsKey, experts, MAX_EXPERTS],
    [perTokenKey, expertsPerToken, MAX_EXPERTS_PER_TOKEN],
  ] as const) {
    if (value <= most) continue;
    throw config.error('unsupported', key, `is ${value}; at most ${most}`);
  }
  if (expertsPerToken > experts) {
    const message = `is ${expertsPerToken}, but the router has ${experts} experts`;
    throw config.error('malformed', perTokenKey, message);
  }
  return { experts, expertsPerToken };
}

/** gpt-oss names some things twice: what is named must agree. */
function checkDoubles(config: ConfigReader, expertsPerToken: number): void {
  const again = config.integer('experts_per_token', 1, expertsPerToken);
  if (again === expertsPerToken) return;
  const message = `is ${again}, but num_experts_per_tok is ${expertsPerToken}`;
  throw config.error('malformed', 'experts_per_token', message);
}

export function describeGptOssExperts(config: ConfigReader): ExpertsFeedForward {
  const { experts, expertsPerToken } = counts(config, 'num_local_experts');
  checkDoubles(config, expertsPerToken);
  const intermediateSize = config.integer('intermediate_size', 1);
  for (const key of ['hidden_size', 'intermediate_size']) {
    const size = config.integer(key, 1);
    if (size % MXFP4_BLOCK === 0) continue;
    const message = `is ${size}; MXFP4 has blocks of ${MXFP4_BLOCK}, which must divide it`;
    throw config.error('malformed', key, message);
  }
  return {
    kind: 'experts',
    experts,
    expertsPerToken,
    intermediateSize,
    routerBias: true,
    weighing: 'softmax-chosen',
    weightScale: 1,
    choiceBias: false,
    groups: null,
    bias: true,
    gate: {
      limit: config.positive('swiglu_limit', 7),
      alpha: config.positive('swiglu_alpha', 1.702),
      shift: 1,
    },
    stored: 'mxfp4 stack',
    shared: null,
    beside: null,
  };
}
